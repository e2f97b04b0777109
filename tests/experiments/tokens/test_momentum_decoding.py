"""The experiment on momentum decoding: its rules know the paper's world from others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.tokens.momentum_decoding.findings import PEOPLE, Findings, claims
from experiments.tokens.momentum_decoding.main import PRESETS, run
from experiments.tokens.momentum_decoding.measures import Config, methods, open_judge
from experiments.tokens.open_texts import OpenTexts

CONFIG = Config(contexts=60)
DIVERSITY = {
    "greedy": 0.054,
    "momentum": 0.97,
    "contrastive search": 0.93,
    "nucleus 0.95": 0.94,
    "momentum, constant": 0.5,
    PEOPLE: 0.956,
}


@pytest.mark.slow
def test_smoke(tmp_path) -> None:
    report = run(replace(PRESETS["smoke"], out=tmp_path))
    verdict = {claim.claim: claim.holds for claim in report.claims}
    assert (
        verdict["which greedy text is not"] and verdict["and more coherent than nucleus sampling"]
    )
    assert report.claims[0].holds and report.claims[6].holds  # out of the loops, at one pass each
    rows = {row["method"]: row for row in report.rows}
    assert rows["alpha 0"]["diversity"] == rows["greedy"]["diversity"]
    assert rows["momentum"]["diversity"] > 0.9 > 0.3 > rows["greedy"]["diversity"]
    assert rows["contrastive search"]["tokens read a token"] > 5
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def findings(**faults: float) -> Findings:
    """The paper's world; each fault breaks one thing."""
    rng, count = np.random.default_rng(0), CONFIG.contexts

    def around(mean: float) -> np.ndarray:
        return mean + 0.005 * rng.normal(size=count)

    rows = {}
    for name, mean in DIVERSITY.items():
        coherence = -2.88 if name.startswith("nucleus") else -1.5
        rows[name] = {
            "diversity": around(faults.get(name, mean)),
            "pooled": mean,
            **{f"rep-{n}": np.full(count, 0.5) for n in (2, 3, 4)},
            "different": around(0.5),
            "coherence": around(coherence),
            "likeliest": around(0.8),
            "passes": 1.0,
            "read": 1.0,
        }
    rows["momentum"] |= {
        "rep-4": np.full(count, faults.get("rep", 0.0)),
        "coherence": around(faults.get("coherence", -1.5)),
        "likeliest": around(faults.get("likeliest", 0.8)),
        "read": faults.get("read", 1.0),
    }
    rows["contrastive search"] |= {"read": 5.0, "passes": 1.0}
    ratios = {
        "greedy": np.ones(7),
        "momentum": faults.get("wall", 1.02) + 0.01 * rng.normal(size=7),
        "contrastive search": 3 + 0.1 * rng.normal(size=7),
    }
    return Findings(CONFIG, rows, ratios)


def test_the_rules_hold_in_the_papers_world_and_each_fails_in_another() -> None:
    assert all(claim.holds for claim in claims(findings())), claims(findings())
    # The paper stands and falls with contrastive search, not with how greedy text loops.
    assert [c.claim for c in claims(findings()) if c.headline] == [
        "more diverse than contrastive search"
    ]
    faults = [
        ({"momentum": 0.94}, {0}),
        ({"greedy": 0.97}, {1}),
        ({"contrastive search": 0.98}, {2}),
        ({"contrastive search": 0.95}, {9}),
        ({"rep": 0.1}, {3}),
        ({"coherence": -1.8}, {4}),
        ({"coherence": -3.0}, {4, 5}),
        ({"read": 2.0}, {6}),
        ({"wall": 1.2}, {7}),
        ({"momentum, constant": 0.97}, {8}),
        ({"likeliest": 0.4}, {10}),
    ]
    for fault, expected in faults:
        verdicts = claims(findings(**fault))
        failed = {i for i, claim in enumerate(verdicts) if not claim.holds}
        assert failed >= expected and failed - expected <= {9}, (fault, failed)


def test_methods_and_refusals() -> None:
    texts = OpenTexts.of("stdlib-draft", None, 2, 8, 8, 0)
    assert {"greedy", "momentum", "dola", "k 20", "alpha 0"} <= set(methods(CONFIG, texts))
    with pytest.raises(ValueError, match=r"vocabulary|tokenizer"):
        open_judge(replace(CONFIG, judge="arithmetic"), texts)
    with pytest.raises(ValueError, match="repeats=1"):
        Config(repeats=1)
