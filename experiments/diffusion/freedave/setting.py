"""The settings of the experiment on FreeDave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.harness.report import Out, Seed


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      denoiser: a name in the zoo, or the folder of a published denoiser.
      data: folder of GSM8K's files, for a published denoiser.
      questions: how many are asked.
      places, block: of a canvas.
      drafts: steps verified in a pass.
      counts: places a pass, for static decoding without verification.
      thresholds: of threshold decoding and of FreeDave++ over it.
      plus: drafts of FreeDave++.
      cached: steps verified in a pass with a dual cache.
      repeats: rounds of the timing; 0 for none.
    """

    denoiser: str = "denoiser"
    data: Path | None = None
    questions: int = 48
    places: int = 32
    block: int = 16
    drafts: tuple[int, ...] = (2, 4, 8, 16)
    counts: tuple[int, ...] = (2, 4)
    thresholds: tuple[float, ...] = (0.7, 0.8, 0.9, 0.95)
    plus: int = 4
    cached: int = 4
    repeats: int = 5
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        for name in ("questions", "places", "block", "plus", "cached"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        if self.places % self.block:
            raise ValueError(f"block={self.block} does not divide places={self.places}")
        if not self.drafts or min(self.drafts) < 1:
            raise ValueError(f"drafts={self.drafts}: give at least one number, each at least 1")
