"""The claims of Learn2PD and FreeDave hold where they should, and fail where they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments.diffusion.canvas_ground import ratio
from experiments.diffusion.freedave import main as freedave
from experiments.diffusion.freedave.findings import Findings as DaveFindings
from experiments.diffusion.freedave.setting import Config as DaveConfig
from experiments.diffusion.learn2pd import main as learn2pd
from experiments.diffusion.learn2pd.findings import Findings
from experiments.diffusion.learn2pd.setting import Config
from experiments.harness.files import compact

QUESTIONS = 40


def made(passes: float, tokens: float, right: float = 0.5, text: int = 0) -> dict[str, Any]:
    """A method that every question takes about as long by."""
    wave = np.linspace(0.9, 1.1, QUESTIONS)
    return {
        "right": (np.arange(QUESTIONS) < right * QUESTIONS).tolist(),
        "passes": np.round(passes * wave).tolist(),
        "tokens": (tokens * wave).tolist(),
        "histogram": [1, 1],
        "texts": [[i, text] for i in range(QUESTIONS)],
    }


def dave(**changed: dict[str, Any]) -> list[str]:
    """Verdicts by what a record keeps."""
    found = {
        "static": made(100, 1000),
        "drafts 8": made(20, 900),
        "fixed 4": made(25, 250, right=0.2, text=1),
        "threshold 0.9": made(40, 400),
        "plus 0.9": made(20, 600),
        "static, dual": made(100, 300),
        "drafts, dual": made(30, 500),
    }
    rounds = {"static": 4.0, "drafts 8": 2.0, "static, dual": 2.0, "drafts, dual": 1.0}
    seconds = {name: [taken, 1.1 * taken, taken] for name, taken in rounds.items()}
    config = DaveConfig(drafts=(8,))
    if slow := changed.pop("seconds", None):
        seconds |= slow
    kept = compact(DaveFindings(config, found | changed, seconds).evidence)
    assert "texts" not in kept["found"]["static"]
    return [claim.verdict for claim in freedave.claims(config, kept)]


def test_freedave_holds() -> None:
    assert dave() == ["holds", "sanity", "sanity", *["holds"] * 4]


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"drafts 8": made(60, 900)}, 0),  # too slow
        ({"drafts 8": made(20, 900, text=1)}, 1),  # another text
        ({"drafts, dual": made(120, 500)}, 2),  # more passes than static decoding
        ({"fixed 4": made(25, 250, right=0.8)}, 3),  # the unverified is no worse
        ({"plus 0.9": made(50, 600)}, 4),  # slower than what it wraps
        ({"plus 0.9": made(20, 600, right=0.4)}, 4),  # and no worse
        ({"drafts 8": made(20, 1900)}, 5),  # drafts that are not free
        ({"drafts 8": made(20, 900, text=1)}, 0),  # fast, at another text
        ({"seconds": {"drafts 8": [5.0, 5.0, 5.0]}}, 6),
    ],
)
def test_freedave_fails(changed, place) -> None:
    assert dave(**changed)[place] == "fails"


def test_what_freedave_leaves_open() -> None:
    """As many tokens as static decoding are not fewer; two points may be noise."""
    assert dave(**{"drafts 8": made(20, 1000)})[5] == "not resolved"
    assert dave(**{"plus 0.9": made(20, 600, right=0.45)})[4] == "not resolved"
    assert dave(seconds={"drafts 8": [2.0, 5.0, 2.0]})[6] == "not resolved"


def learned(oracle: int = 8, /, **changed: dict[str, Any]) -> list[str]:
    """Verdicts by what a record keeps."""
    config = Config(lengths=(16, 64), tuning=8, questions=32, long=32, depths=(1, 2, 4))
    found = {
        "static": made(32, 3000),
        "threshold 0.9": made(12, 1200),
        "filter 0.9": made(8, 800),
        "1 layers 0.9": made(11, 1100),
        "4 layers 0.5": made(10, 1000),
        "by of lists": made(9, 900),
    } | {name: one for name, one in changed.items() if name[-6:] != "places"}
    long = {
        "static, 16 places": made(16, 1000),
        "filter, 16 places": made(6, 400),
        "ends, 16 places": made(6, 300),
        "static, 64 places": made(64, 9000),
        "filter, 64 places": made(20, 2000),
        "ends, 64 places": made(7, 330),
        "ends, dual, 64 places": made(7, 140),
    } | {name: one for name, one in changed.items() if name[-6:] == "places"}
    tuned = {"threshold": "threshold 0.9", "filter": "filter 0.9"}
    tuned |= {"1 layers": "1 layers 0.9", "4 layers": "4 layers 0.5"}
    names = ["lists", "lookups"] * (QUESTIONS // 2)
    traces = {"passes": [oracle] * 30, "confidence": [0.5]}
    measured = Findings(config, names, traces, {}, found, tuned, long, {})
    return [c.verdict for c in learn2pd.claims(config, compact(measured.evidence))]


def test_learn2pd_holds() -> None:
    assert learned() == ["holds"] * 7


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"ends, 64 places": made(9, 900)}, 0),  # not as fast
        ({"ends, dual, 64 places": made(7, 300)}, 1),
        ({"ends, dual, 64 places": made(7, 140, right=0.3)}, 1),  # as fast, and wrong
        ({"ends, 64 places": made(20, 2000), "ends, 16 places": made(5, 200)}, 2),  # no growth
        ({"filter 0.9": made(14, 1400)}, 4),  # a threshold does better
        ({"4 layers 0.5": made(6, 600)}, 5),
        ({"4 layers 0.5": made(10, 1000, right=0.6)}, 5),  # slower, and better
        ({"by of lists": made(9, 900, right=0.2)}, 6),
    ],
)
def test_learn2pd_fails(changed, place) -> None:
    assert learned(**changed)[place] == "fails"


def test_what_learn2pd_leaves_open() -> None:
    """A filter that accepts nothing saves nothing; one answer fewer may be noise, and no gain."""
    assert learned(**{"by of lists": made(32, 3000)})[6] == "not resolved"
    assert learned(**{"ends, 64 places": made(7, 330, right=0.475)})[0] == "not resolved"
    level = {"ends, 64 places": made(7, 1500), "filter, 64 places": made(20, 2000)}
    assert learned(**level)[2] == "not resolved"


def test_an_oracle_that_needs_more_fails() -> None:
    assert learned(30)[3] == "fails"


def test_ratios_and_settings() -> None:
    middle, low, high = ratio([2.0, 4.0, 6.0] * 10, [1.0, 2.0, 3.0] * 10)
    assert low == pytest.approx(2) == high == middle
    wrong: list[tuple[Any, dict[str, Any]]] = [
        (Config, {"lengths": (16, 20)}),
        (Config, {"depths": (1,)}),
        (Config, {"long": 100}),
        (Config, {"steps": 0}),
        (DaveConfig, {"block": 5}),
        (DaveConfig, {"drafts": ()}),
        (DaveConfig, {"questions": 0}),
    ]
    for config, options in wrong:
        with pytest.raises(ValueError, match="="):
            config(**options)
