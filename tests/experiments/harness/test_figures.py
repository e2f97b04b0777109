"""Figures say their numbers."""

from __future__ import annotations

from experiments.harness.figures import figure


def test_a_logarithmic_axis_of_few_decades_names_numbers_between() -> None:
    with figure(None, columns=4) as (few, many, own, doubled):
        few.plot([0.9, 13.0], [1, 1])
        few.set_xscale("log")
        many.plot([1.0, 1e4], [1, 1])
        many.set_xscale("log")
        own.plot([4, 40], [1, 1])
        own.set(xscale="log")
        own.set_xticks([4, 40], ["four", "forty"])
        doubled.plot([2, 64], [1, 1])
        doubled.set_xscale("log", base=2)
    few.figure.canvas.draw()
    labels = [label.get_text() for label in few.get_xticklabels()]
    assert {"1", "2", "5", "10"} <= {*labels}
    assert not any(label.get_text() for label in few.get_xticklabels(minor=True))
    assert "2" not in [label.get_text() for label in many.get_xticklabels()]
    assert [label.get_text() for label in own.get_xticklabels()] == ["four", "forty"]
    assert "$\\mathdefault{2^{3}}$" in [label.get_text() for label in doubled.get_xticklabels()]
