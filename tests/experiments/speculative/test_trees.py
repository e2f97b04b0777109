"""The experiments on draft trees, on models of their own; their published sizes as shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from algorithms.speculative.dyspec import dyspec_threshold
from experiments.harness.judging.claim import Claim, above
from experiments.harness.report import Report
from experiments.speculative import spectr
from experiments.speculative.dyspec import main as dyspec
from experiments.speculative.rsd import main as rsd
from experiments.speculative.rsd.setting import at_budget
from experiments.speculative.speculation import Field
from experiments.speculative.trees import Pair, field_of, laws, rises, speed_up, spread
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.testing.enumerable import EnumerableLM
from models.presets import LLAMA_2_7B, TINYLLAMA_1B
from models.transformer import abstract

VOCAB = 20


def field() -> Field:
    """A target and a draft that know nothing, and differ."""
    target: Any = EnumerableLM.random(0, VOCAB)
    prompts = tuple(tuple((7 * i + j) % VOCAB for j in range(12)) for i in range(6))
    return Field("noise", target, target.perturbed(1, 0.6), (VOCAB + 1,), prompts, 5)


FIELD = field()


def claimed(report: Report, words: str) -> bool:
    (found,) = (claim.holds for claim in report.claims if words in claim.claim)
    return bool(found)


def test_spectr_on_noise(tmp_path: Path) -> None:
    config = spectr.Config(batch=6, counts=(1, 3), lengths=(2,), baselines=False, out=tmp_path)
    report = spectr.study(config, FIELD)
    assert claimed(report, "1 - 1/e") and claimed(report, "multi-round")
    one, three, *levels = report.rows
    assert (one["drafts"], one["nodes"], three["nodes"]) == (1, 2, 6)
    assert 1 <= one["tokens_per_call"] <= 3
    assert levels[1]["k-seq"] > levels[0]["k-seq"] == pytest.approx(levels[0]["optimum"], abs=1e-5)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_rsd_on_noise(tmp_path: Path) -> None:
    config = rsd.Config(
        batch=6,
        temperatures=(1.0,),
        lengths=(2,),
        width=3,
        shapes=((2, (1, 1), 1),),
        methods=("SpecTr", "RSD-C"),
        out=tmp_path,
    )
    report = rsd.study(config, FIELD)
    runs = report.rows[:-1]
    assert [row["method"] for row in runs] == ["SpecTr", "RSD-C"] * 2
    assert [row["nodes"] for row in runs] == [6, 6, 2, 2]
    assert len(report.claims) == 3
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_dyspec_on_noise(tmp_path: Path) -> None:
    config = dyspec.Config(
        batch=6,
        budgets=(4,),
        temperatures=(1.0,),
        methods=("Sequoia", "DySpec, threshold"),
        out=tmp_path,
    )
    report = dyspec.study(config, FIELD, FIELD)
    trees = [row for row in report.rows if "budget" in row]
    assert [row["nodes"] for row in trees] == [4, 4]
    assert all(row["draft_passes"] <= 4 for row in trees)
    bins = [row for row in report.rows if "share of drafts" in row]
    assert sum(row["share of drafts"] for row in bins) == pytest.approx(1)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_laws_and_errors() -> None:
    target, draft = laws(FIELD, 1.0, 0.5)
    assert target.shape == draft.shape == (6 * 4, VOCAB)
    np.testing.assert_allclose(target.sum(axis=1), 1, rtol=1e-5)
    assert spread(np.array([4.0, 4.0]), np.array([2.0, 2.0])) == 0
    assert speed_up(3.0, 5.0, 0.1) == 2
    with pytest.raises(ValueError, match="give all three"):
        field_of(2, 2, "folder", None, None)
    with pytest.raises(ValueError, match="do not make 7 nodes"):
        at_budget(7, (2, 2), 7)


def test_a_series_that_falls_once_does_not_rise() -> None:
    def row(*passes: int) -> dict:
        zeros = [0] * len(passes)
        return {"by prompt": {"emitted": [60] * 4, "passes": passes, "draft_passes": zeros}}

    slow, fast, faster = row(30, 31, 29, 30), row(20, 21, 19, 20), row(15, 15, 16, 15)

    def verdict(*rows: dict) -> str:
        return Claim.tested("it rises", "", *(above(step, "1x") for step in rises(rows))).verdict

    assert verdict(slow, fast, faster) == "holds"
    assert verdict(slow, faster, fast) == "fails"
    assert verdict(slow, fast, fast) == "not resolved"


def test_the_published_settings_trace() -> None:
    """7 B with a draft of 1 B: every shape of every paper."""
    models = abstract(LLAMA_2_7B), abstract(TINYLLAMA_1B)
    prompts = (tuple(range(1, 33)),)
    paper = replace(FIELD, target=models[0], small=models[1], prompts=prompts, max_tokens=8)
    pair = Pair(paper, 1.0, 1, 0)
    makers = list(spectr.variants(spectr.PRESETS["paper"], pair).values())[-1:]
    shapes = rsd.PRESETS["paper"].shapes
    assert all(at_budget(*shape) for shape in shapes)
    makers += [make(pair) for make in at_budget(*shapes[-1]).values()]
    makers += [dyspec_threshold(pair.generator, paper.draft, 64, levels=16)]
    for speculator in makers:
        decoder = Autoregressive(speculator)
        result = jax.eval_shape(
            lambda d, k, p: d(k, p), decoder, jax.random.key(0), Prompt.of(prompts, width=32)
        )
        assert result.tokens.shape == (1, 8)
