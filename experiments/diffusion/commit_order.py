"""The order in which a canvas was filled: one question, place by place, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.diffusion.canvas_ground import Ground, Questions
from jaxdecode.canvas_stream import views
from jaxdecode.rows import Expander

WIDEST = 20  # places that a picture has room for


def seen(ground: Ground, generator: Expander, question: Questions) -> dict[str, Any]:
    """Words of the canvas behind one question's prompt, and the pass that decided each.

    ``decided`` counts passes from 1, with 0 for a place that was never decided.
    """
    *_, last = views(generator, 0, question.prompt)
    first = int(question.prompt.length[0])
    decided = 1 + last.decided[0, first:]
    tokens = last.tokens[0, first:].tolist()
    ends = set(ground.text.eos)
    words = [
        "" if pass_ == 0 else "$" if token in ends else ground.text.decode([token]).strip()
        for token, pass_ in zip(tokens, decided, strict=True)
    ]
    return {"words": words, "decided": decided.tolist()}


def draw(axes: Axes, orders: Mapping[str, Mapping[str, Any]]) -> None:
    """A line for each method, a square for each place: its word, coloured by its pass.

    Raises:
      ValueError: where nothing was filled.
    """
    used = [(np.flatnonzero(one["decided"]) + 1).max(initial=0) for one in orders.values()]
    width = min(max(used, default=0), WIDEST)
    if width == 0:
        raise ValueError("orders: no place was filled; pass at least one filled canvas")
    table = np.array([one["decided"][:width] for one in orders.values()], float)
    table[table == 0] = np.nan
    last = np.nanmax(table)
    image = axes.imshow(table, cmap="viridis", vmin=1, vmax=last, aspect="auto")
    for line, one in enumerate(orders.values()):
        for place, word in enumerate(one["words"][:width]):
            late = np.nan_to_num(table[line, place]) > 0.6 * last
            axes.text(
                place, line, word, ha="center", va="center", color="black" if late else "white"
            )
    axes.figure.colorbar(image, ax=axes, label="pass that decided it ($: an end)")
    axes.set_yticks(range(len(orders)), list(orders))
    axes.set_xticks(range(0, width, 2), [str(place) for place in range(1, width + 1, 2)])
    axes.set(xlabel="place of the canvas")
    axes.grid(visible=False)
