"""A measure of a model, kind by kind, beside the same measure of a baseline that knows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

DIGITS = 4


class Skill(NamedTuple):
    """The measure of one kind of question: the model's, the baseline's, and over how many."""

    model: float
    baseline: float
    asked: int


@dataclass(frozen=True)
class Skills:
    """What a card says a model can do, and where it fails.

    Attributes:
      measure: what the numbers are, with their unit.
      baseline: what knows nothing, in one clause.
      of: kind of question -> the two numbers.
      less: whether less is better.
    """

    measure: str
    baseline: str
    of: Mapping[str, Skill]
    less: bool = False

    def __post_init__(self) -> None:
        if not self.of:
            raise ValueError("of={}: a card says what a model can do kind by kind; name one")
        empty = [kind for kind, skill in self.of.items() if skill.asked < 1]
        if empty:
            raise ValueError(f"of: nothing of the kinds {empty} was asked; sample more questions")

    def card(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "measure": self.measure,
            "baseline": self.baseline,
            "less": self.less,
            "of": {
                kind: [round(one.model, DIGITS), round(one.baseline, DIGITS), one.asked]
                for kind, one in self.of.items()
            },
        }

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> Skills:
        """From the card of a model.

        Raises:
          ValueError: the card does not say what the model can do.
        """
        told = card.get("skills")
        if not told:
            raise ValueError(
                "its card has no skills: what it can do beside a baseline that knows nothing; "
                f"run `{card['recipe'].replace(' train ', ' score ')}`"
            )
        of = {kind: Skill(*numbers) for kind, numbers in told["of"].items()}
        return cls(told["measure"], told["baseline"], of, told["less"])

    def gain(self, kind: str) -> float:
        """By how much the model is better than the baseline, in the unit of the measure."""
        one = self.of[kind]
        return (one.baseline - one.model) if self.less else (one.model - one.baseline)

    def told(self) -> str:
        """The kinds where the model gains most and least, with both numbers."""
        order = sorted(self.of, key=self.gain, reverse=True)
        ends = order if len(order) < 3 else [order[0], order[-1]]
        shown = [f"{k} {self.of[k].model:g} (nothing known: {self.of[k].baseline:g})" for k in ends]
        names = ("best", "worst") if len(ends) > 1 else ("",)
        return f"{self.measure}: " + "; ".join(
            f"{name} {text}".strip() for name, text in zip(names, shown, strict=True)
        )
