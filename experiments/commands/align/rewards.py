"""The reward that a policy is aligned to, and who judges it: named, or learned from the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.commands.align.given import Given
from experiments.commands.align.stages import Stages
from experiments.inputs.preference_rewards import accuracy, batches, fitted
from experiments.tasks.dialog import Preference
from jaxdecode.scoring import RewardScorer, Scorer


@dataclass(frozen=True)
class Rewards:
    """What judges text.

    Attributes:
      reward: what the policy is aligned to, and what chooses.
      judge: who judges before and after.
      names: what either is, in words.
      independent: the judge is not the reward.
      accuracy: of the learned ones, how often they rank held-out pairs as labelled.
    """

    reward: Scorer
    judge: Scorer
    names: tuple[str, str]
    independent: bool
    accuracy: dict[str, float]


def rewards(given: Given, stages: Stages, out: Path) -> Rewards:
    """Open what was named, learn what was not."""
    o, ranked = given.options, {}

    def learned(name: str, pairs: Sequence[Preference], seed: int) -> Scorer:
        assert given.shares is not None
        stages(f"learning the {name}", 0, o.reward_steps, {})
        model = fitted(
            given.source,
            pairs,
            given.lesson,
            o.seed + seed,
            out / "rewards" / name,
            lambda step, told: stages(f"learning the {name}", step, o.reward_steps, told),
        )
        stream = batches(given.source, given.shares.kept, given.lesson)
        ranked[name] = accuracy(model, stream)
        return RewardScorer(model)

    reward, judge, shares = given.reward, given.judge, given.shares
    if reward is None:
        assert shares is not None
        reward = learned("reward", shares.own, 0)
    if judge is None and shares is not None:
        judge = learned("judge", shares.judging, 1)
    halves = "learned from pairs that nothing else learned from"
    names = (
        o.rules.reward or "learned from your pairs",
        o.judge or (halves if judge is not None else "the reward itself"),
    )
    return Rewards(reward, judge or reward, names, judge is not None, ranked)
