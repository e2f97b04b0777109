"""What an aligned policy is worth: KL, rewards and win rates on held-out prompts.

The deployed decoder is applied to the base and to the policy. Where it is one sample, or the best
or the worst of N of the model's own law, its win rates are estimated from all subsets of the drawn
responses; any other decoder answers every prompt as often. Win rates count ties by halves;
intervals are 95 %, over prompts, and do not cover the noise of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from algorithms.alignment import base, reach
from algorithms.alignment.base import Responses
from algorithms.alignment.closed_form import closed_form
from algorithms.alignment.estimators import Rule, inference_win, order_weights
from algorithms.alignment.procedures import BestOf, Single, WorstOf
from experiments.commands.align.given import Given
from experiments.commands.align.rewards import Rewards
from experiments.commands.align.stages import Stages
from jaxdecode.decoder import decode
from jaxdecode.prompt import bucket
from jaxdecode.responses import judge

BATCH = 8  # prompts decoded together
DIVERGED = 8  # responses to each held-out prompt by which the KL is measured
DRAWS = 2000  # of the bootstrap
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Side:
    """Responses of one model under one decoder.

    Attributes:
      found: M to every held-out prompt.
      judged: f64[P, M], by the judge.
      samples, rule: what the decoder makes of them.
    """

    found: Responses
    judged: Floats
    samples: int = 1
    rule: Rule = "best"

    def wins(self, other: Side, judged: bool) -> Floats:
        """How often this one wins, by prompt, by the reward or by the judge."""
        mine, base = (np.asarray(side.found.reward, np.float64) for side in (self, other))
        return inference_win(
            mine,
            base,
            self.samples,
            self.rule if self.samples > 1 else other.rule,
            self.judged if judged else None,
            other.judged if judged else None,
            other.samples,
        )

    def mean(self, judged: bool) -> Floats:
        """What is returned is worth, by prompt."""
        order = np.argsort(self.found.reward, axis=1, kind="stable")
        values = self.judged if judged else np.asarray(self.found.reward, np.float64)
        weights = order_weights(order.shape[1], self.samples, self.rule)
        return np.take_along_axis(values, order, axis=1) @ weights

    def returned(self, prompt: int) -> list[int]:
        """One response to a prompt, as the decoder would return it."""
        some = self.found.reward[prompt, : self.samples]
        at = int(np.argmax(some) if self.rule == "best" else np.argmin(some))
        return self.found.tokens[prompt, at, : self.found.length[prompt, at]].tolist()

    @property
    def length(self) -> float:
        """Mean tokens of a response."""
        return float(self.found.length.mean())


@dataclass(frozen=True)
class Worth:
    """See the module. Floats are by prompt.

    Attributes:
      single, deployed: base and policy, by one sample and under the decoder.
      kl: the policy's divergence from the base.
      preferred: f64[P], what the judge says of the file's preferred replies; None without pairs.
    """

    single: tuple[Side, Side]
    deployed: tuple[Side, Side]
    kl: Floats
    preferred: Floats | None

    def wins(self, independent: bool) -> list[dict[str, Any]]:
        """Win rates as rows, each with its interval."""
        (alone, single), (before, after) = self.single, self.deployed
        asked = [("the aligned policy, one sample, against the base", single, alone)]
        if before is not alone:
            asked += [
                ("the base under the decoder, against its own one sample", before, alone),
                ("the aligned policy under the decoder, against that", after, alone),
                ("the aligned policy against the base, both under the decoder", after, before),
            ]
        rows = []
        for what, mine, other in asked:
            row: dict[str, Any] = {"win rate of": what}
            row["by the reward"] = interval(mine.wins(other, judged=False))
            if independent:
                row["by the judge"] = interval(mine.wins(other, judged=True))
            rows.append(row)
        if self.preferred is not None and independent:
            for what, side in (("before: the base", before), ("after: the policy", after)):
                won = (side.judged > self.preferred[:, None]) * 1.0
                won += 0.5 * (side.judged == self.preferred[:, None])
                order = np.argsort(side.found.reward, axis=1, kind="stable")
                weights = order_weights(order.shape[1], side.samples, side.rule)
                rate = np.take_along_axis(won, order, axis=1) @ weights
                name = f"{what} under the decoder, against your preferred replies"
                rows.append({"win rate of": name, "by the judge": interval(rate)})
        return rows

    def means(self, independent: bool) -> list[dict[str, Any]]:
        """Rewards, lengths and KL as rows."""
        rows, kls = [], (np.zeros_like(self.kl), self.kl)
        for place, who in enumerate(("base", "aligned")):
            sides = {"one sample": self.single[place], "the decoder": self.deployed[place]}
            if self.deployed[0] is self.single[0]:
                del sides["the decoder"]
            for how, side in sides.items():
                row = {"policy": who, "by": how, "reward": interval(side.mean(False))}
                if independent:
                    row["judge"] = interval(side.mean(True))
                rows.append(row | {"KL, nats": interval(kls[place]), "tokens": side.length})
        return rows


def interval(values: Floats) -> str:
    """A mean and its 95 % interval over prompts."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{values.mean():.3f} ({low:.3f}..{high:.3f})"


def evaluate(given: Given, found: Rewards, policy: Any, stages: Stages, out: Path) -> Worth:
    """Draw, judge, compare."""
    o, tokens = given.options, given.tokens["test"]
    deployed = given.deployed(found.reward)
    known = closed_form(deployed(given.source.model), found.reward, given.generator)
    singles, others, count = [], [], len(tokens)
    for name, model in (("base", given.source.model), ("policy", policy)):
        drawn = base.draw(
            replace(given.generator, model=model),
            found.reward,
            tokens,
            o.drawn,
            o.seed + 1,
            BATCH,
            watch=lambda done, name=name: stages(f"judging the {name}", done, count, {}),
            folder=out / "judged",
        )
        stages(f"the judge on the {name}", 0, 1, {})
        single = Side(drawn, judged(found.judge, tokens, drawn))
        stages(f"the judge on the {name}", 1, 1, {})
        singles.append(single)
        match known:
            case Single():
                others.append(single)
            case BestOf(samples):
                others.append(replace(single, samples=samples))
            case WorstOf(samples):
                others.append(replace(single, samples=samples, rule="worst"))
            case _:
                answers = returned(deployed(model), found.reward, tokens, o, stages, name)
                others.append(Side(answers, judged(found.judge, tokens, answers)))
    stages("divergence, held out", 0, 1, {})
    kl = reach.divergences(given.generator, policy, tokens, DIVERGED, o.seed + 2)
    stages("divergence, held out", 1, 1, {})
    best = None
    if given.shares is not None:
        best = preferred(given, found.judge)
    return Worth((singles[0], singles[1]), (others[0], others[1]), kl, best)


def judged(scorer: Any, tokens: Sequence[Sequence[int]], found: Responses) -> Floats:
    """f64[P, M]."""
    return np.asarray(base.judged(scorer, tokens, found, BATCH), np.float64)


def returned(
    decoder: Any,
    scorer: Any,
    tokens: Sequence[Sequence[int]],
    options: Any,
    stages: Stages,
    name: str,
) -> Responses:
    """What a decoder returns, `drawn` times for every prompt, and what the reward says of it."""
    draws, total = [], options.drawn * len(tokens)
    stages(f"deploying the {name}", 0, total, {})
    for draw in range(options.drawn):
        key = jax.random.fold_in(jax.random.key(options.seed + 3), draw)
        parts = []
        for block, count in base.blocks(tokens, BATCH):
            result = jax.device_get(decode(decoder, key, block))
            reward = judge(scorer, block, result.tokens[:, None], result.length[:, None])[:, 0]
            got = (result.tokens, result.length, result.logprob, np.asarray(reward))
            parts.append([array[:count] for array in got])
            done = draw * len(tokens) + sum(len(part[1]) for part in parts)
            stages(f"deploying the {name}", done, total, {})
        draws.append([np.concatenate(arrays) for arrays in zip(*parts, strict=True)])
    return Responses(*(np.stack(arrays, axis=1) for arrays in zip(*draws, strict=True)))


def preferred(given: Given, scorer: Any) -> Floats:
    """What the judge says of the preferred reply to each held-out prompt, the first of several."""
    assert given.shares is not None
    codec, first = given.source.codec, {}
    for pair in given.shares.kept:
        first.setdefault(pair.prompt, pair.chosen)
    end = list(codec.text.eos)[:1]
    replies = [[*codec.piece(first[str(text)]), *end] for text in given.texts["test"]]
    length = np.array([[len(reply)] for reply in replies], np.int32)
    rows = np.zeros((len(replies), 1, bucket(int(length.max()))), np.int32)
    for row, reply in zip(rows, replies, strict=True):
        row[0, : len(reply)] = reply
    values = np.zeros(length.shape, np.float32)
    shown = Responses(rows, length, values, values)
    return judged(scorer, given.tokens["test"], shown)[:, 0]
