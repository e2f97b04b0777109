"""What is planned: a job that says what a chip must hold of it, and what its phases cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from experiments.commands.plan.chips import Chip
from experiments.commands.plan.share import Cost, Split


@dataclass(frozen=True)
class Step:
    """A turn of the loop that a job spends its time in.

    Attributes:
      phases: name -> what it costs a chip; one follows the other.
      tokens: that the turn emits, of all rows on all chips.
    """

    phases: dict[str, Cost]
    tokens: float

    def seconds(self, chip: Chip) -> float:
        """That it takes at least."""
        return sum(cost.seconds(chip) for cost in self.phases.values())

    def rate(self, chip: Chip) -> float:
        """Tokens a second at most."""
        return self.tokens / self.seconds(chip)

    @property
    def cost(self) -> Cost:
        """Of all phases."""
        return sum(self.phases.values(), Cost())


class Job(Protocol):
    """Something that runs on a mesh."""

    @property
    def heads(self) -> int:
        """That the chips of a model share among them: attention heads of the main model."""
        ...

    @property
    def told(self) -> dict[str, object]:
        """What it is, for a reader."""
        ...

    def memory(self, split: Split, batch: int) -> dict[str, float]:
        """Bytes that a chip must hold at once, by what they are."""
        ...

    def step(self, split: Split, batch: int) -> Step:
        """One turn."""
        ...

    def whole(self, split: Split, batch: int, chip: Chip) -> float:
        """Seconds that a batch takes from its prompts to its results, at least."""
        ...
