"""Chips that work together, by the names that one rents them under: `v5e:4x4`, `h100x8`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from experiments.commands.plan.chips import CHIPS, Chip

NAMED = re.compile(r"([a-z]\d+[a-z]?)(?:(?::|x)(\d+(?:x\d+)*))?", re.ASCII)


@dataclass(frozen=True)
class Topology:
    """Chips of one kind.

    Attributes:
      shape: how they lie, of a TPU; a count, of GPUs.
    """

    chip: Chip
    shape: str

    @property
    def name(self) -> str:
        """As it is given."""
        if self.chip.platform == "tpu":
            return f"{self.chip.name}:{self.shape}"
        return self.chip.name if self.shape == "1" else f"{self.chip.name}x{self.shape}"

    @property
    def chips(self) -> int:
        """How many."""
        return math.prod(map(int, self.shape.split("x")))


def topology_of(name: str) -> Topology:
    """The topology of a name.

    Raises:
      ValueError: for chips or shapes that are not known, with those that are.
    """
    found = NAMED.fullmatch(name)
    chip = CHIPS.get(found.group(1)) if found else None
    if found is None or chip is None:
        raise ValueError(
            f"--topology {name!r:.60}: no such chips; name TPUs with their shape, as v5e:4x4 or "
            f"v5p:2x2x1, and GPUs with their number, as h200 or h100x8; known are "
            f"{', '.join(CHIPS)}"
        )
    known = Topology(chip, found.group(2) or ("1" if chip.platform == "gpu" else ""))
    if known.shape not in chip.shapes or known.name != name:
        shapes = ", ".join(Topology(chip, shape).name for shape in chip.shapes)
        raise ValueError(f"--topology {name!r:.60}: {chip.name} can be had as {shapes}")
    return known
