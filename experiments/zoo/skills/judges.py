"""How well reward models order what they judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from experiments.tasks.batches import pack
from experiments.tasks.dialog import Dialog
from experiments.zoo.skills.skill import Skill, Skills
from jaxdecode.types import Array, Float, Int

Floats = NDArray[np.float64]
ROWS = 128  # that are judged at a time


@dataclass(frozen=True)
class Pairs:
    """Pairs of replies by how far apart their hidden rewards are, beside taking the longer one.

    Attributes:
      task: draws the pairs.
      width: tokens of a row.
      drawn, seed: pairs, and of the draw.
    """

    task: Dialog
    width: int
    drawn: int = 384
    seed: int = 43

    def __call__(self, model: Any) -> Skills:
        task, codec = self.task, self.task.tokenizer()
        pairs = task.preferences(np.random.default_rng(self.seed), self.drawn, "test")
        prompts = [pair.prompt for pair in pairs]
        texts = [[pair.chosen for pair in pairs], [pair.rejected for pair in pairs]]
        gap = np.abs(np.subtract(*(task.rewards(prompts, side) for side in texts)))
        packed = [
            pack(codec, list(zip(prompts, side, strict=True)), (self.width,)) for side in texts
        ]
        own = np.subtract(*(rewards(model, side.tokens, side.length) for side in packed))
        longer = np.subtract(*(side.length.astype(float) for side in packed))
        thirds = np.searchsorted(np.quantile(gap, (1 / 3, 2 / 3)), gap)
        of = {
            kind: Skill(won(own[thirds == i]), won(longer[thirds == i]), int(np.sum(thirds == i)))
            for i, kind in enumerate(("nearly alike", "apart", "far apart"))
        }
        return Skills("share of pairs ranked as labelled", "the longer reply is the better one", of)


def won(lead: Floats) -> float:
    """The share of pairs whose first is ahead, ties counted half."""
    return float(np.mean((lead > 0) + 0.5 * (lead == 0)))


def rewards(model: Any, tokens: Any, length: Any) -> Floats:
    """Rewards of whole texts, f64[B]."""
    return everywhere(model, tokens, length)[np.arange(len(tokens)), np.asarray(length) - 1]


def everywhere(model: Any, tokens: Any, length: Any) -> Floats:
    """Rewards of what was read up to every token, f64[B, T]."""

    @jax.jit
    def run(model: Any, tokens: Int[Array, "B T"], length: Int[Array, "B"]) -> Float[Array, "B T"]:
        outputs, _ = model.forward(tokens, jnp.arange(tokens.shape[1]) < length[:, None])
        return model.reward(outputs)

    parts = [slice(first, first + ROWS) for first in range(0, len(tokens), ROWS)]
    return np.concatenate([np.asarray(run(model, tokens[p], length[p]), np.float64) for p in parts])


@dataclass(frozen=True)
class Steps:
    """A process reward's order of the answers and of the steps of one question (area under the
    curve), beside what the place of a step alone tells.

    Between questions a judge can know by their difficulty alone who errs, and within one it may
    still know nothing; a search compares within one.

    Attributes:
      batch: answers of many questions, several each, as the recipe's batches have them.
      question: of a row of tokens.
    """

    batch: Callable[[], Mapping[str, Any]]
    question: Callable[[Sequence[int]], tuple[int, ...]]

    def __call__(self, model: Any) -> Skills:
        rows = self.batch()
        tokens, length, ends = rows["tokens"], np.asarray(rows["length"]), rows["ends"]
        scores = everywhere(model, tokens, length)
        asked: dict[tuple[int, ...], list[int]] = {}
        for index, row in enumerate(tokens.tolist()):
            asked.setdefault(self.question(row), []).append(index)
        whole: list[tuple[float, float]] = []
        steps: list[tuple[float, float]] = []
        for indices in asked.values():
            at = [np.flatnonzero(ends[i]) for i in indices]
            right = [rows["right"][i][places] for i, places in zip(indices, at, strict=True)]
            judged = [scores[i][places] for i, places in zip(indices, at, strict=True)]
            done = np.array([bool(labels[-1:].all() and labels.size) for labels in right])
            least = np.array([values.min(initial=1.0) for values in judged])
            short = -length[indices].astype(float)
            whole += _areas(done, least, short)
            # Up to the first wrong step: what follows it is wrong whatever it says.
            kept = [(v[: _first(r)], r[: _first(r)]) for v, r in zip(judged, right, strict=True)]
            value = np.concatenate([v for v, _ in kept])
            label = np.concatenate([r for _, r in kept]).astype(bool)
            early = -np.concatenate([np.arange(len(v), dtype=float) for v, _ in kept])
            steps += _areas(label, value, early)
        of = {
            "answers of a question": _mean(whole),
            "steps of a question": _mean(steps),
        }
        return Skills(
            "area under the curve within a question", "the shorter answer, the earlier step", of
        )


def _mean(areas: Sequence[tuple[float, float]]) -> Skill:
    own, blind = zip(*areas, strict=True) if areas else ((0.0,), (0.0,))
    return Skill(float(np.mean(own)), float(np.mean(blind)), len(areas))


def _first(right: np.ndarray) -> int:
    """How many steps there are up to the first wrong one, which counts."""
    wrong = np.flatnonzero(~right.astype(bool))
    return int(wrong[0]) + 1 if wrong.size else len(right)


def _areas(right: np.ndarray, own: np.ndarray, blind: np.ndarray) -> list[tuple[float, float]]:
    """Areas under the curve by both scores, of a question that has right and wrong; else none."""
    if right.all() or not right.any():
        return []
    return [(area(right, own), area(right, blind))]


def area(right: np.ndarray, score: np.ndarray) -> float:
    """How often a right one is scored above a wrong one, ties counted half."""
    return won(score[right][:, None] - score[~right][None])
