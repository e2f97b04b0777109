"""The experiment on momentum decoding: its rules know the paper's world from others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.harness.files import compact
from experiments.harness.judging.claim import Claim
from experiments.tokens.momentum_decoding import main
from experiments.tokens.momentum_decoding.findings import PEOPLE, Findings
from experiments.tokens.momentum_decoding.main import PRESETS, claims, run
from experiments.tokens.momentum_decoding.measures import Config, methods, open_judge
from experiments.tokens.open_texts import OpenTexts
from experiments.zoo import real
from tests.experiments.harness.records import same_again

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
    same_again(report, main, replace(PRESETS["smoke"], out=tmp_path))
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


def judged(found: Findings, config: Config = CONFIG) -> list[Claim]:
    """By what a record keeps of it."""
    return claims(config, compact(found.evidence))


def test_the_rules_hold_in_the_papers_world_and_each_fails_in_another() -> None:
    held = judged(findings())
    assert [claim.verdict for claim in held] == ["holds"] * 6 + ["sanity"] + ["holds"] * 4, held
    # The paper stands and falls with contrastive search, not with how greedy text loops.
    assert [claim.claim for claim in held if claim.headline] == [
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
        ({"momentum, constant": 0.98}, {8}),
        ({"likeliest": 0.4}, {10}),
    ]
    for fault, expected in faults:
        failed = {i for i, claim in enumerate(judged(findings(**fault))) if not claim.holds}
        assert failed >= expected and failed - expected <= {9}, (fault, failed)
    for fault, place in (({"momentum, constant": 0.97}, 8), ({"wall": 1.1}, 7)):
        assert judged(findings(**fault))[place].verdict == "not resolved", fault


def test_a_loss_by_the_character_counts_by_the_character() -> None:
    """What is little of a token is much of each of its letters."""
    by_letters = replace(CONFIG, coherence="character")
    for loss, verdict in ((0.01, "holds"), (0.05, "fails")):
        world = findings(coherence=-1.5 - loss)
        assert judged(world, by_letters)[4].verdict == verdict
        assert judged(world)[4].verdict == "holds"


def test_a_judge_of_other_tokens_reads_the_text() -> None:
    """It says of the very tokens that it would write what it says of the text."""
    texts = OpenTexts.of("stdlib-draft", None, 12, 16, 24, 0)
    reader = open_judge(replace(CONFIG, judge="stdlib", coherence="character"), texts)
    shared = open_judge(replace(CONFIG, judge="stdlib"), texts)
    found, by_token = (one.coherence(texts, texts.people) for one in (reader, shared))
    codec, same = texts.codec, []
    for row, (context, after) in enumerate(
        zip(texts.windows[:, :16].tolist(), texts.people.tolist(), strict=True)
    ):
        text = codec.text.decode(after, skip_special=False, after=context)
        if codec.piece(text) == after and codec.prompt(codec.decode(context)) == context:
            same.append((found[row] * len(text), by_token[row] * texts.tokens))
    assert len(same) > 3
    np.testing.assert_allclose(*np.transpose(same), rtol=1e-3)
    cut = replace(reader, source=replace(reader.source, positions=24))
    assert np.isfinite(cut.coherence(texts, texts.people)).all()


def test_methods_and_refusals() -> None:
    texts = OpenTexts.of("stdlib-draft", None, 2, 8, 8, 0)
    assert {"greedy", "momentum", "dola", "k 20", "alpha 0"} <= set(methods(CONFIG, texts))
    with pytest.raises(ValueError, match=r"vocabulary|tokenizer"):
        open_judge(replace(CONFIG, judge="arithmetic"), texts)
    with pytest.raises(ValueError, match="repeats=1"):
        Config(repeats=1)


def test_without_its_package_the_real_preset_says_what_to_run(monkeypatch) -> None:
    missing = replace(real.REAL["smollm2"], package="no-such-package")
    monkeypatch.setitem(real.REAL, "smollm2", missing)
    with pytest.raises(ValueError, match="make demo"):
        run(PRESETS["real"])
