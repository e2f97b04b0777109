"""Figures in one style: a palette that colour-blind readers can tell apart, no overlaps."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cycler import cycler

from experiments.harness.files import write_atomically

if TYPE_CHECKING:  # a second of every start, for those alone that draw
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

FEW = 100.0  # from the least to the most of a logarithmic axis
# Okabe and Ito's palette, the pale yellow left out.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=PALETTE) + cycler(marker=MARKERS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": "medium",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "font.size": 9,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "savefig.dpi": 160,
}


@contextlib.contextmanager
def figure(
    path: Path | None, columns: int = 1, rows: int = 1, width: float = 4.2, height: float = 3.2
) -> Iterator[list[Axes]]:
    """Draw on `columns * rows` axes, row by row; saved as a PNG when the block ends well.

        with figure(out / "figure.png", columns=2) as (left, right):
            left.plot(x, y, label="best-of-N")

    Axes with labelled lines get their legend. With path=None everything is drawn and nothing
    is stored. `width` and `height` are inches of one of the axes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(width * columns, height * rows), layout="constrained")
        axes = [axis for line in canvas.subplots(rows, columns, squeeze=False) for axis in line]
        yield axes
        for axis in axes:
            for scale in (axis.xaxis, axis.yaxis):
                _tick(scale)
            if axis.get_legend() is None and axis.get_legend_handles_labels()[0]:
                axis.legend()
        image = io.BytesIO()
        canvas.savefig(image, format="png", metadata={"Software": None})
    if path is not None:
        write_atomically(path, image.getvalue())


def _tick(scale: Axis) -> None:
    """1, 2 and 5 of each decade on a logarithmic axis of few decades, whose own ticks would be one
    number, or all of them over one another."""
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

    given = type(scale.get_major_formatter()) is not LogFormatterSciNotation
    if given or getattr(scale.get_transform(), "base", None) != 10:
        return
    low, high = scale.get_view_interval()
    if high / low < FEW:
        scale.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        scale.set_major_formatter("{x:g}")
        scale.set_minor_formatter(NullFormatter())
