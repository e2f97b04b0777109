"""What `align` was given, opened and checked: base, prompts, pairs, rewards, the decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax.sharding import Mesh

from algorithms.alignment.adversary import Negated
from algorithms.alignment.methods import DRAWING
from algorithms.alignment.pairs import Pair
from experiments.commands.align.options import WORST, Options
from experiments.commands.decoding.opening import Opened, decoder_of, open_named
from experiments.commands.decoding.placing import local_mesh
from experiments.inputs import preference_files, preference_rewards, prompts, sources
from experiments.inputs.preference_rewards import Lesson, Shares
from experiments.inputs.prompts import Messages, Request
from experiments.inputs.sources import Source
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import Scorer
from jaxdecode.train.lora import LoRA
from jaxdecode.train.precision import cast


@dataclass(frozen=True)
class Given:
    """See the module.

    Attributes:
      generator: how the base samples in training.
      texts, tokens: prompts by split, "train" and "test".
      shares: of the file of pairs; None for prompts alone.
      lesson: how a reward is learned from them.
      reward, judge: where they were named.
      opened: what else the decoder's options name.
      mesh: what `source` lies on; None for one device.
    """

    options: Options
    source: Source
    generator: Generator
    texts: dict[str, Sequence[str | Messages]]
    tokens: dict[str, list[list[int]]]
    shares: Shares | None
    lesson: Lesson
    reward: Scorer | None
    judge: Scorer | None
    opened: Opened
    mesh: Mesh | None

    @property
    def pairs(self) -> list[Pair]:
        """The pairs to learn from, as tokens."""
        if self.shares is None:
            return []
        codec, pairs = self.source.codec, self.shares.own
        end = list(codec.text.eos)[:1]
        return [
            Pair(codec.prompt(p.prompt), *([*codec.piece(r), *end] for r in (p.chosen, p.rejected)))
            for p in pairs
        ]

    def deployed(self, scorer: Scorer | None) -> Callable[[Any], Decoder]:
        """Policy -> the decoder over it, which chooses by `scorer`."""
        o = self.options
        if o.decoder == WORST and scorer is not None:
            scorer = Negated(scorer)
        opened = replace(self.opened, scorer=scorer)

        def over(model: Any) -> Decoder:
            source = replace(self.source, model=model)
            return decoder_of(o.name, o.decoding, source, (), opened)

        return over


def open_given(options: Options) -> Given:
    """Open and check everything.

    Raises:
      ValueError: saying what is wrong with which option, file and line.
    """
    o = options
    mesh = local_mesh(o.mesh)
    source = sources.open_model(o.model, mesh=mesh)
    asked = None if o.prompts is None else prompts.read(o.prompts)
    read = [] if o.preferences is None else preference_files.read(o.preferences)
    every: list[str | Messages] = [r.prompt for r in asked or ()] or [p.prompt for p in read]
    chats = [prompt for prompt in every if o.chat or not isinstance(prompt, str)]
    codec = source.codec.with_chats(chats) if chats else source.codec
    source = replace(source, model=sources.bound(cast(source.model, "float32")), codec=codec)
    lesson = Lesson(o.reward_steps, o.longest, o.leave_out_long, o.seed, frozen=o.lora > 0)
    if o.lora:
        adapters(o.lora).adapt(source.model)  # refuses a rank that is none
    room = source.positions - o.rules.max_tokens
    shares = None
    if o.preferences is not None:
        shares = preference_rewards.share(
            o.preferences, source, lesson, o.held_out, room, judging=o.judge is None
        )
        texts: dict[str, Sequence[str | Messages]] = dict(shares.prompts)
    else:
        texts = _prompts(options, source, asked or [], room)
    texts["train"] = list(texts["train"])[: o.most]
    tokens = {split: [codec.prompt(text) for text in some] for split, some in texts.items()}
    if o.method in DRAWING and o.batch > len(texts["train"]):
        raise ValueError(
            f"--batch {o.batch}: there are {len(texts['train'])} prompts to train on, and a step "
            "takes each once; lower it, or raise --group"
        )
    stop = codec.stop()
    generator = Generator(source.model, Identity(), Categorical(), stop, o.rules.max_tokens)
    given = Given(
        options=options,
        source=source,
        generator=generator,
        texts=texts,
        tokens=tokens,
        shares=shares,
        lesson=lesson,
        reward=None if o.rules.reward is None else sources.open_judge(o.rules.reward, source),
        judge=None if o.judge is None else sources.open_judge(o.judge, source),
        opened=open_named(replace(o.decoding, reward=None), source),
        mesh=mesh,
    )
    decoder = given.deployed(given.reward)(source.model)
    for ids in [*tokens["train"], *tokens["test"]]:
        decoder.check(Prompt.of([ids]))
    for name, scorer in (("--reward", given.reward), ("--judge", given.judge)):
        _check_reach(name, scorer, tokens, o.rules.max_tokens)
    return given


def adapters(rank: int) -> LoRA:
    """What is trained in place of all weights."""
    return LoRA(rank, alpha=2.0 * rank)


def _prompts(
    options: Options, source: Source, asked: Sequence[Request], room: int
) -> dict[str, Sequence[str | Messages]]:
    """The prompts of a file, shuffled and shared out."""
    for request in asked:
        try:
            length = len(source.codec.prompt(request.prompt))
        except ValueError as error:
            raise ValueError(f"{request.where}: {error}") from error
        if length > room:
            raise ValueError(
                f"{request.where}: {length} tokens, and --max-tokens leaves room for {room}; "
                "shorten it or lower --max-tokens"
            )
    if len(asked) < options.held_out + 2:
        raise ValueError(
            f"{options.prompts}: {len(asked)} prompts; {options.held_out} are held out and 2 more "
            "are needed to train on, so give more or lower --held-out"
        )
    order = np.random.default_rng(options.seed).permutation(len(asked))
    texts = [asked[i].prompt for i in order]
    return {"test": texts[: options.held_out], "train": texts[options.held_out :]}


def _check_reach(
    name: str, scorer: Any, tokens: dict[str, list[list[int]]], max_tokens: int
) -> None:
    """A reward model must be able to read every prompt with a whole response."""
    config = getattr(getattr(scorer, "model", None), "config", None)
    longest = max(len(ids) for some in tokens.values() for ids in some) + max_tokens
    if config is not None and longest > config.max_positions:
        raise ValueError(
            f"{name}: it reads {config.max_positions} tokens, and a prompt with --max-tokens "
            f"{max_tokens} takes {longest}; lower --max-tokens or shorten the prompts"
        )
