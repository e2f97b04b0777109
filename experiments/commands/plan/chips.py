"""Accelerators as their makers describe them: memory, bandwidth, arithmetic, links.

Sources. TPU v5e, v5p, v6e: the system architecture pages of the Cloud TPU documentation; memory is
what their compiler lets a program have, a little below the 16, 95 and 32 GB of the pages; a link's
bandwidth is half of the bidirectional one. A100 (SXM, 80 GB), H100 (SXM), H200 (SXM): NVIDIA's
data sheets, arithmetic without sparsity; B200: the data sheet of the DGX B200, an eighth of it.
NVIDIA's gigabytes of memory are binary ones. Clocks are those by which the peak arithmetic of v5e
and v5p is that of their matrix units; v6e's is not published.

Peaks are those of bfloat16. They bound float32 as well, whose products an accelerator takes in
the narrow type's units by default.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
      platform: "tpu" or "gpu".
      memory: bytes.
      bandwidth: of the memory, bytes a second.
      flops: a second, in bfloat16.
      link: bytes a second that it can send to the others of its group.
      shapes: of the slices that can be had, small ones first; a GPU's are counts.
      group: chips that fast links join, at most; None for all of a slice.
      clock: cycles a second of the compiler's estimates, where known.
    """

    name: str
    platform: str
    memory: float
    bandwidth: float
    flops: float
    link: float
    shapes: tuple[str, ...]
    group: int | None = None
    clock: float | None = None


FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
SOLID = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16",
         "8x16x16", "16x16x16", "16x16x24")  # fmt: skip
COUNTS = ("1", "2", "4", "8", "16", "32", "64", "128", "256")


def _tpu(name, gib, bandwidth, flops, link, shapes, clock=None) -> Chip:
    return Chip(name, "tpu", gib * GIB, bandwidth, flops, link, shapes, None, clock)


def _gpu(name, gib, bandwidth, flops, link) -> Chip:
    return Chip(name, "gpu", gib * GIB, bandwidth, flops, link, COUNTS, 8)


CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        _tpu("v5e", 15.75, 819e9, 197e12, 200e9, FLAT, 1.5e9),
        _tpu("v5p", 95.74, 2765e9, 459e12, 600e9, SOLID, 1.75e9),
        _tpu("v6e", 31.25, 1638e9, 918e12, 400e9, FLAT),
        _gpu("a100", 80, 2039e9, 312e12, 300e9),
        _gpu("h100", 80, 3350e9, 989e12, 450e9),
        _gpu("h200", 141, 4800e9, 989e12, 450e9),
        _gpu("b200", 180, 8000e9, 2250e12, 900e9),
    )
}
