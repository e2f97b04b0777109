"""The experiment runs, its claim has the right sign, and the published setting traces."""

import dataclasses

import jax
import numpy as np
import pytest

from algorithms.selection.speculative_rejection import SpeculativeRejection, schedule
from experiments.harness.files import Lines
from experiments.harness.judging.equal_compute import Baseline, Run
from experiments.selection.speculative_rejection.figure import saw_tooth
from experiments.selection.speculative_rejection.main import PRESETS, run
from experiments.selection.speculative_rejection.measures import kendall
from experiments.selection.speculative_rejection.setting import Setting
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Temperature, TopK, chain
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import LikelihoodScorer
from jaxdecode.stop import Stop
from models.presets import LLAMA_3_1_8B
from models.transformer import abstract


def test_smoke_beats_best_of_n_at_equal_compute(tmp_path):
    report = run(dataclasses.replace(PRESETS["smoke"], out=tmp_path))
    (row,) = [row for row in report.rows if "95 % (tokens)" in row]
    assert row["speed-up in tokens"] > 1
    assert row["peak / budget"] <= 1
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert {claim.claim for claim in report.claims if not claim.paper} == set()
    # What is reported as perplexity is what was maximised: that of prompt and response.
    with Lines(tmp_path / "metrics.jsonl", "fingerprint") as stored:
        rows = {record["key"]: record["row"] for record in stored.records if "key" in record}
    for row in rows["by likelihood"]["rows"]:
        assert row["perplexity"] == pytest.approx(-row["score"], rel=1e-5)


def test_published_setting_traces_at_full_size():
    """Llama-3-8B, 1000 responses of up to 8000 tokens: every stage has its shapes."""
    config = PRESETS["paper"]
    generator = Generator(
        model=abstract(LLAMA_3_1_8B),
        transform=chain(TopK(config.top_k), Temperature(config.temperature)),
        sampler=Categorical(),
        stop=Stop.of([128001, 128009]),
        max_tokens=config.max_tokens,
    )
    decoder = SpeculativeRejection(
        generator, LikelihoodScorer(generator.model), budget=160_000, width=config.width, alpha=0.5
    )
    prompt = Prompt.of([[128000] * 64], width=64)
    result = jax.eval_shape(lambda d, k, p: d(k, p), decoder, jax.random.key(0), prompt)
    stages = schedule(160_000, config.width, 0.5, 64 + config.max_tokens, "count")
    assert [cut.score.shape for cut in result.trace.cuts] == [(1, s.width) for s in stages]
    assert result.tokens.shape == (1, config.max_tokens)


def test_missing_prompts_are_refused(tmp_path):
    few = tmp_path / "prompts.txt"
    few.write_text("how do i fix my old bicycle ?\n")
    with pytest.raises(ValueError, match=r"prompts=3: .*prompts.txt has only 1"):
        Setting.of(dataclasses.replace(PRESETS["smoke"], prompts=3, input=few))


def test_speed_up_is_compute_at_equal_score():
    # One score a decade of N: the best of 10 scores 1, of 100 scores 2, at one token each.
    baseline = Baseline(
        sizes=np.array([1, 10, 100]),
        score=np.array([[0.0, 1.0, 2.0]]),
        tokens=np.array([[1.0, 10.0, 100.0]]),
        seconds=np.array([2.0, 20.0, 200.0]),
    )
    half = Run(score=np.array([1.5]), tokens=np.array([1.0]), seconds=np.array([2.0]))
    assert baseline.speed_up(half) == pytest.approx((10**1.5, 10**1.5))
    beyond = Run(score=np.array([9.0]), tokens=np.array([10.0]), seconds=np.array([200.0]))
    assert baseline.speed_up(beyond) == pytest.approx((10.0, 1.0))


def test_kendall_counts_pairs():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert kendall(x, x) == 1.0
    assert kendall(x, -x) == -1.0
    assert kendall(x, np.array([1.0, 2.0, 4.0, 3.0])) == pytest.approx(4 / 6)


def test_saw_tooth_drops_at_every_cut():
    cuts = [{"width": 4, "tokens": 40, "longest": 10}, {"width": 2, "tokens": 40, "longest": 20}]
    position, held = saw_tooth(cuts, prompt=3)
    assert position == [1, 10, 10, 20]
    assert held == [12.0, 40, 20.0, 40]
