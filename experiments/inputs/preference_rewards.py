"""A reward model and an independent judge from one file of preferences.

The prompts of the file are shared out: the held-out ones, and the others, whose pairs train the
reward model and the judge, half each, so that neither has seen a pair of the other's. Both start
from the generator's own weights with a new head; where those stay frozen the head alone is
trained, on what the generator makes of each text, which is read once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.inputs.preference_files import PairBatches, read
from experiments.inputs.sources import Source
from experiments.tasks.dialog import Preference
from jaxdecode.prompt import bucket
from jaxdecode.train.fit import Checkpoints, Watcher, fit
from jaxdecode.train.losses import bradley_terry
from jaxdecode.types import Array, Float, Int
from models.reward_heads import LinearHead
from models.rewards import RewardModel, headless

ROWS = 8  # pairs of a batch
PEAK = 1e-3
ALONE = optax.adam(2e-2)  # for a head alone
RIDGE = 0.05  # times the squares of a head on states of spread one


@dataclass(frozen=True)
class Lesson:
    """How reward models are trained.

    Attributes:
      steps: of `ROWS` pairs each.
      longest: tokens that a prompt with its reply may have.
      leave_out: leave out what is longer, and say how many; otherwise it is an error.
      frozen: train the head alone.
    """

    steps: int
    longest: int
    leave_out: bool
    seed: int
    frozen: bool = False


@dataclass(frozen=True)
class Shares:
    """A file's prompts and pairs, shared out.

    Attributes:
      prompts: texts by split, "train" and "test".
      own: pairs to learn from.
      judging: pairs that an independent judge learns from.
      kept: pairs of the held-out prompts.
    """

    prompts: dict[str, list[str]]
    own: list[Preference]
    judging: list[Preference]
    kept: list[Preference]


@dataclass(frozen=True)
class Taught:
    """What a file of preferences gives.

    Attributes:
      prompts: texts by split, "train" and "test".
      reward, judge: trained on different pairs.
      accuracy: of either on the pairs of the held-out prompts.
    """

    prompts: dict[str, list[str]]
    reward: RewardModel
    judge: RewardModel
    accuracy: dict[str, float]


def share(
    path: Path, source: Source, lesson: Lesson, held_out: int, room: int, judging: bool = True
) -> Shares:
    """Read the file and share it out.

    Args:
      held_out: prompts to keep from training.
      room: tokens that a prompt may have.
      judging: half of the pairs are to be a judge's.
    Raises:
      ValueError: naming file, line and what was expected there.
    """
    pairs = fitting(path, read(path), source, lesson, room)
    texts = list(dict.fromkeys(pair.prompt for pair in pairs))
    if len(texts) < held_out + 2:
        raise ValueError(
            f"{path}: {len(texts)} prompts; {held_out} are held out and 2 more are needed to "
            "train on, so give more pairs or hold out fewer"
        )
    order = np.random.default_rng(lesson.seed).permutation(len(texts))
    test = {texts[i] for i in order[:held_out]}
    train = [pair for pair in pairs if pair.prompt not in test]
    prompts = {
        "train": [t for t in texts if t not in test],
        "test": [t for t in texts if t in test],
    }
    kept = [pair for pair in pairs if pair.prompt in test]
    if not judging:
        return Shares(prompts, train, [], kept)
    return Shares(prompts, train[::2], train[1::2], kept)


def teach(
    path: Path, source: Source, lesson: Lesson, held_out: int, room: int, out: Path | None
) -> Taught:
    """Read the file, share out its prompts, train both models.

    Args:
      held_out, room: see `share`.
      out: folder to keep the training runs in; a killed one goes on.
    Raises:
      ValueError: naming file, line and what was expected there.
    """
    shares = share(path, source, lesson, held_out, room)
    models = {}
    for seed, (name, mine) in enumerate({"reward": shares.own, "judge": shares.judging}.items()):
        where = None if out is None else Path(out) / "rewards" / name
        models[name] = fitted(source, mine, lesson, lesson.seed + seed, where)
    stream = batches(source, shares.kept, lesson)
    ranked = {name: accuracy(model, stream) for name, model in models.items()}
    return Taught(shares.prompts, models["reward"], models["judge"], ranked)


def fitting(
    path: Path, pairs: Sequence[Preference], source: Source, lesson: Lesson, room: int
) -> list[Preference]:
    """The pairs that are short enough; the others are an error, or counted aloud."""
    kept = []
    for number, pair in enumerate(pairs, start=1):
        prompt, whole = len(source.codec.prompt(pair.prompt)), tokens_of(source, pair)
        if whole <= lesson.longest and prompt <= room:
            kept.append(pair)
        elif not lesson.leave_out:
            raise ValueError(
                f"{path}:{number}: {prompt} tokens of prompt, {whole} with the longer reply; "
                f"expected at most {room} and {lesson.longest}: raise longest, or set "
                "leave_out_long to go on without such pairs"
            )
    if len(kept) < len(pairs):
        print(f"{path}: {len(pairs) - len(kept)} of {len(pairs)} pairs left out, too long")
    return kept


def tokens_of(source: Source, pair: Preference) -> int:
    """Tokens of the prompt, the longer reply and an end."""
    reply = max(len(source.codec.piece(text)) for text in (pair.chosen, pair.rejected))
    return len(source.codec.prompt(pair.prompt)) + reply + 1


def batches(source: Source, pairs: Sequence[Preference], lesson: Lesson) -> PairBatches:
    width = bucket(max(tokens_of(source, pair) for pair in pairs))
    return PairBatches(pairs, source.codec, ROWS, width, lesson.seed)


@functools.cache
def adam(steps: int) -> optax.GradientTransformation:
    """One object for runs of one length, so that they share a compiled program."""
    rate = optax.warmup_cosine_decay_schedule(0, PEAK, 5, max(steps, 6), PEAK / 20)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.98))


def fitted(
    source: Source,
    pairs: Sequence[Preference],
    lesson: Lesson,
    seed: int,
    where: Path | None,
    watch: Watcher | None = None,
) -> RewardModel:
    """A Bradley-Terry reward model that starts from the generator."""
    model = headless(source.model)
    kept = None if where is None else Checkpoints(where, lesson.steps)
    every = max(1, lesson.steps // 20) if watch is not None else lesson.steps
    if lesson.frozen:
        return RewardModel(model, head_of(model, source, pairs, lesson, kept, watch))
    head = LinearHead.create(model.config.embed_width, 1, nnx.Rngs(seed), model.config.dtype)
    return fit(
        RewardModel(model, head),
        bradley_terry,
        batches(source, pairs, lesson),
        adam(lesson.steps),
        lesson.steps,
        kept,
        watch,
        watch_every=every,
    )


def head_of(
    model: Any,
    source: Source,
    pairs: Sequence[Preference],
    lesson: Lesson,
    kept: Checkpoints | None,
    watch: Watcher | None,
) -> LinearHead:
    """A head for a frozen model: Bradley and Terry's loss on its hidden states, with a ridge.

    The states are scaled to the spread of one, so that one ridge suits every model.
    """
    stream, states = batches(source, pairs, lesson), []
    for first in range(0, len(pairs), ROWS):
        at = [min(first + i, len(pairs) - 1) for i in range(ROWS)]
        batch = stream.of([pairs[i] for i in at])
        sides = [
            last_states(model, batch[name], batch[f"{name}_length"])
            for name in ("chosen", "rejected")
        ]
        states.append(np.stack(sides, axis=1)[: len(pairs) - first])
        if watch is not None:
            watch(min(first + ROWS, len(pairs)) * lesson.steps // len(pairs), {})
    found = np.concatenate(states)
    spread = found.reshape(-1, found.shape[-1]).std(axis=0) + 1e-6
    gaps = jnp.asarray((found[:, 0] - found[:, 1]) / spread)
    trained = fit(
        LinearHead(jnp.zeros((found.shape[-1], 1))),
        ridged,
        lambda step: {"gaps": gaps},
        ALONE,
        lesson.steps,
        kept,
        watch_every=lesson.steps,
    )
    kernel = trained.kernel[...] / jnp.asarray(spread)[:, None]
    return LinearHead(kernel.astype(model.dtype))


@jax.jit
def last_states(
    model: Any, tokens: Int[Array, "B T"], length: Int[Array, "B"]
) -> Float[Array, "B D"]:
    """Hidden states at the last tokens."""
    _, hidden = model.forward(tokens, jnp.arange(tokens.shape[1]) < length[:, None])
    return jnp.take_along_axis(hidden, length[:, None, None] - 1, axis=1)[:, 0].astype(jnp.float32)


def ridged(head: LinearHead, gaps: Float[Array, "n D"]) -> tuple[Float[Array, ""], dict]:
    """The loss of a head on differences of states, chosen less rejected."""
    margin = head(gaps)[:, 0]
    loss = jnp.mean(jax.nn.softplus(-margin)) + RIDGE * jnp.sum(jnp.square(head.kernel[...]))
    return loss, {"accuracy": jnp.mean((margin > 0).astype(jnp.float32))}


ranked = jax.jit(bradley_terry)  # which leaves the unread logits out


def accuracy(model: Any, stream: PairBatches) -> float:
    """The share of pairs that a model ranks as labelled, over a few batches."""
    seen = [ranked(model, **stream(step))[1]["accuracy"] for step in range(4)]
    return float(np.mean(seen))
