"""The experiment on Mirostat: its rules know control from none, and its published size traces."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.harness.files import compact
from experiments.harness.judging.claim import Claim
from experiments.tokens.mirostat import main
from experiments.tokens.mirostat.findings import CURVES, LOOPS, Findings
from experiments.tokens.mirostat.main import PRESETS, claims, run
from experiments.tokens.mirostat.measures import EIGHTHS, GRAMS, Config, samplers
from experiments.tokens.open_texts import (
    OpenTexts,
    diversity,
    grams,
    interval,
    pooled_diversity,
    repeated,
)
from experiments.zoo import real
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from models.presets import GPT2
from models.transformer import abstract
from tests.experiments.harness.records import same_again

CONFIG = Config(
    contexts=40, targets=(0.5, 1.5, 2.0, 2.5, 6.0), ks=(1, 2, 8, 64), ps=(0.3, 0.6, 1.0)
)


@pytest.mark.slow
def test_smoke(tmp_path) -> None:
    report = run(replace(PRESETS["smoke"], out=tmp_path))
    same_again(report, main, replace(PRESETS["smoke"], out=tmp_path))
    assert report.claims[0].claim.startswith("after 96 tokens") and report.claims[1].holds
    rows = {(row["sampler"], row["setting"]): row for row in report.rows}
    assert rows["llama.cpp", 2.5]["bits"] > rows["mirostat", 2.5]["bits"] + 0.3
    floor, ceiling = rows["greedy", None]["bits"], rows["sampling", 1.0]["bits"]
    assert rows["mirostat", 6.0]["bits"] < 6.0 and rows["mirostat", 1.0]["bits"] > 1.0
    assert abs(rows["mirostat", 6.0]["bits"] - ceiling) < 0.5 > abs(floor - 2.0)
    assert not rows["mirostat", 6.0]["reachable"] and rows["mirostat", 3.5]["reachable"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def row(
    mean: float, spread: float, drift: float, rng: np.random.Generator, loops: float = 1.0
) -> dict:
    """A setting whose texts have this surprise, and repeat as its mean has it."""
    bits = mean + spread * rng.normal(size=CONFIG.contexts)
    slope = np.linspace(-drift / 1.25, drift / 1.25, EIGHTHS)
    eighths = bits[:, None] + slope + 0.05 * rng.normal(size=(CONFIG.contexts, EIGHTHS))
    rest = {f"rep-{n}": np.full(CONFIG.contexts, loops * max(0.0, 30 - 12 * mean)) for n in GRAMS}
    rest["rep-1"] = 90 - 12 * bits
    drift = eighths[:, 6:].mean(axis=1) - eighths[:, 2:4].mean(axis=1)
    return {"bits": bits, "eighths": eighths, "drift": drift, **rest}


def findings(**faults: float) -> Findings:
    """The paper's world, greedy text at 0.7 bits and sampled at 4; each fault breaks one thing."""
    rng = np.random.default_rng(0)

    def fixed(mean: float, drift: float) -> dict:
        return row(mean, faults.get("spread", 0.5), drift, rng, faults.get("loops", 1.0))

    def controlled(bias: float = 0.0, drift: float = 0.0) -> dict:
        reach = {t: float(np.clip(t, 0.7, 4.0)) for t in CONFIG.targets}
        return {t: row(reach[t] + bias, 0.02, drift, rng) for t in CONFIG.targets}

    trap = faults.get("trap", 1.0)
    k_bits = dict(zip(CONFIG.ks, (0.7, 1.25, 2.35, 4.0), strict=True))
    p_bits = dict(zip(CONFIG.ps, (1.2, 2.4, 4.0), strict=True))
    by_k, by_p = {2: -trap, 64: trap}, {0.3: -trap, 1.0: trap}
    return Findings(
        CONFIG,
        {
            "sampling": {1.0: fixed(4.0, 0.0)},
            "top-k": {k: fixed(m, by_k.get(k, 0.0)) for k, m in k_bits.items()},
            "top-p": {p: fixed(m, by_p.get(p, 0.0)) for p, m in p_bits.items()},
            "mirostat": controlled(faults.get("bias", 0.0), faults.get("drift", 0.0)),
            "mirostat 1": controlled(faults.get("rank", 0.0)),
            "slow": controlled(0.1),
            "llama.cpp": controlled(faults.get("library", 0.6)),
        },
        row(0.7, 0.3, 0.0, rng),
    )


def judged(found: Findings) -> list[Claim]:
    """By what a record keeps of it."""
    return claims(found.config, compact(found.evidence))


def test_the_rules_hold_in_the_papers_world_and_each_fails_in_another() -> None:
    found = findings()
    assert found.within == (1.5, 2.0, 2.5)
    assert [claim.verdict for claim in judged(found)] == ["holds"] * 12, judged(found)
    faults = [
        ({"bias": 0.05}, {0}),
        ({"rank": -0.2}, {1}),
        ({"spread": 0.1}, {2}),
        ({"trap": 0.0}, {3, 4}),
        ({"trap": -1.0}, {3, 4}),
        ({"loops": 0.0}, {3, 7}),  # Mirostat's own still loop
        ({"drift": -0.5}, {5}),
        ({"library": 0.0}, {11}),
    ]
    for fault, expected in faults:
        verdicts = judged(findings(**fault))
        assert {i for i, c in enumerate(verdicts) if c.verdict != "holds"} == expected, fault
    assert judged(findings(bias=0.03))[0].verdict == "not resolved"
    assert judged(findings(trap=-1.0))[3].verdict == "fails"
    unreached = judged(replace(findings(), config=replace(CONFIG, targets=(0.5, 6.0))))
    assert [unreached[i].verdict for i in (0, 1, 2, 5, 11)] == ["not measurable here"] * 5
    broken = findings()
    broken.rows["top-p"][0.6][LOOPS] += 20
    failed = {i for i, claim in enumerate(judged(broken)) if claim.verdict == "fails"}
    assert failed == {7}
    broken.rows["top-p"][1.0][LOOPS] += 2
    assert judged(broken)[8].verdict == "fails"
    for value in broken.rows["mirostat"].values():
        value["rep-1"] = np.random.default_rng(1).uniform(0, 100, CONFIG.contexts)
    assert judged(broken)[6].verdict == "fails"


def test_a_record_keeps_what_the_claims_need_and_little_more() -> None:
    kept = findings().evidence
    assert set(kept) == {"greedy", "sampling", *CURVES, "llama.cpp"}
    assert set(kept["llama.cpp"]) == {"1.5", "2", "2.5"} and "drift" not in kept["top-k"]["8"]
    again = Findings.of(CONFIG, kept)
    assert again.within == (1.5, 2.0, 2.5) and set(again.rows["top-p"]) == {0.3, 0.6, 1.0}


def test_measures_of_repetition_known_by_hand() -> None:
    text = np.array([[0, 1, 0, 1, 0, 1]], np.int32)
    assert [repeated(text, n)[0].round(2) for n in (2, 3, 4)] == [60.0, 50.0, 33.33]
    np.testing.assert_allclose(diversity(text), 0.133333, 1e-5)
    np.testing.assert_allclose(pooled_diversity(np.concatenate([text, text])), 0.133333, 1e-5)
    with pytest.raises(ValueError, match="no 9-grams"):
        grams(text, 9)
    mean, low, high = interval(np.array([1.0, 2.0, 3.0]))
    assert low < mean == 2.0 < high


def test_contexts_are_held_out_text_and_go_on_as_it_does(tmp_path) -> None:
    texts = OpenTexts.of("stdlib-draft", None, 3, 8, 12, 0)
    assert texts.windows.shape == (3, 20) and texts.people.shape == (3, 12)
    assert (texts.windows[:, 0] == texts.codec.prompt("")[0]).all()
    with pytest.raises(ValueError, match="is no file"):
        OpenTexts.of("stdlib-draft", tmp_path / "none.jsonl", 3, 8, 12, 0)
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "import os"}\n{"words": 3}\n')
    with pytest.raises(ValueError, match=r"texts\.jsonl:2: not an object"):
        _ = OpenTexts.of("stdlib-draft", path, 3, 8, 12, 0).windows
    with pytest.raises(ValueError, match="exceed the 2048 positions"):
        OpenTexts.of("stdlib-draft", None, 3, 8, 4096, 0)
    path.write_text('{"text": "import os"}\n')
    with pytest.raises(ValueError, match="do not hold"):
        _ = OpenTexts.of("stdlib-draft", path, 3, 8, 12, 0).windows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": (2.0, 1.0)}, "targets"),
        ({"ks": (3,)}, "ks"),
        ({"tokens": 8}, "tokens=8"),
    ],
)
def test_refusals(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_the_published_setting_traces() -> None:
    """200 tokens after 90 by GPT-2: shapes only."""
    config = PRESETS["paper"]
    codec = OpenTexts.of("stdlib-draft", None, 2, 8, 8, 0).codec
    texts = OpenTexts(abstract(GPT2), codec, None, 1, config.context, config.tokens, 0)
    for family in ("mirostat", "mirostat 1"):
        transform = next(iter(samplers(config)[family].values()))
        decoder = Autoregressive(texts.generator(transform))
        prompt = Prompt.of([[1] * config.context])
        result = jax.eval_shape(lambda d, k, p: d(k, p), decoder, jax.random.key(0), prompt)
        assert result.trace.bits.shape == result.tokens.shape == (1, 200)


def test_without_its_package_the_real_preset_says_what_to_run(monkeypatch) -> None:
    missing = replace(real.REAL["smollm2"], package="no-such-package")
    monkeypatch.setitem(real.REAL, "smollm2", missing)
    with pytest.raises(ValueError, match="make demo"):
        run(PRESETS["real"])
