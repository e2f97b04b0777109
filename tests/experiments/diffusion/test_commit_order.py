"""The picture of who decides when: what it is read from, and that it can be drawn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.diffusion import commit_order
from experiments.harness.figures import figure
from jaxdecode.canvas_stream import View


def test_words_and_passes_of_the_places_behind_a_prompt(monkeypatch, tmp_path) -> None:
    """Two places of prompt; one was filled in the second pass, one never."""
    tokens = np.array([[8, 9, 5, 6, 2, 3, 0]])
    decided = np.array([[-1, -1, 1, 0, 2, -1, -1]])
    last = View(tokens, decided < 0, decided, np.array([3]), None)
    monkeypatch.setattr(commit_order, "views", lambda *_: iter([last]))
    text = SimpleNamespace(eos=(2,), decode=lambda ids: f" w{ids[0]}")
    question: Any = SimpleNamespace(prompt=SimpleNamespace(length=np.array([2])))
    ground: Any = SimpleNamespace(text=text)
    generator: Any = None
    found = commit_order.seen(ground, generator, question)
    assert found == {"words": ["w5", "w6", "$", "", ""], "decided": [2, 1, 3, 0, 0]}
    with figure(tmp_path / "order.png") as (axes,):
        commit_order.draw(axes, {"a": found, "b": found})
        shown = axes.images[0].get_array()
        assert shown is not None and shown.shape == (2, 3), "nothing beyond the last filled place"
        assert [text.get_text() for text in axes.texts[:3]] == ["w5", "w6", "$"]
        assert axes.images[0].get_clim() == (1, 3)
    assert (tmp_path / "order.png").stat().st_size > 3_000


def test_a_canvas_that_is_not_filled_is_refused() -> None:
    with figure(None) as (axes,), pytest.raises(ValueError, match="orders"):
        commit_order.draw(axes, {"a": {"words": [""], "decided": [0]}})
