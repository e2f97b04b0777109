"""The self-certainty experiment on a model of its own, and its published size as shapes."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harness.files import compact
from experiments.harness.report import Report
from experiments.harness.response_pool import ResponsePool
from experiments.inputs.sources import Codec
from experiments.selection.self_certainty.findings import Evidence, claims
from experiments.selection.self_certainty.main import PRESETS, study
from experiments.selection.self_certainty.setting import Config, Setting, measure
from experiments.selection.self_certainty.votes import Findings
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.gsm8k import Gsm8k
from jaxdecode.certainty import MEASURES, CertaintyMeter, score_certainty
from jaxdecode.prompt import Prompt
from jaxdecode.testing.enumerable import EnumerableLM
from models.presets import LLAMA_3_1_8B
from models.text import Tokenizer
from models.transformer import abstract

TASK = Arithmetic(operations=(2, 4))
MODEL = EnumerableLM.random(0, TASK.tokenizer().vocab_size)


def codec() -> Codec:
    strict = TASK.tokenizer()
    return Codec(Tokenizer(strict.inner, strict.bos_id, (strict.eos_id,), strict.pad_id), strict)


def setting(config: Config) -> Setting:
    """An untrained model: what it writes is noise, which is what the plumbing must survive."""
    return Setting(config, MODEL, codec(), TASK)


CONFIG = Config(
    questions=6,
    validation=3,
    samples=4,
    sizes=(1, 2, 4),
    repetitions=3,
    batch=3,
    max_tokens=6,
    cache_growth=1,
)


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("self_certainty")
    return out, study(setting(replace(CONFIG, out=out)))


def test_every_measure_of_every_response_is_kept() -> None:
    here = setting(CONFIG)
    examples = here.questions("test")[3:]
    base = jnp.full((here.model.vocab_size,), 1 / here.model.vocab_size)
    found = measure(here, examples, 10, base)
    assert found["counts"].sum() == sum(np.sum(q["length"]) for q in found["questions"]) + sum(
        sum(len_ < 6 for len_ in q["length"]) for q in found["questions"]
    )
    for question, example in zip(found["questions"], examples, strict=True):
        assert question["reference"] == example.meta["answer"]
        assert set(question["scores"]) == {*MEASURES, "shifted", "empirical"}
        # The uniform distribution as a base is no other base.
        scores = question["scores"]
        np.testing.assert_allclose(scores["empirical"], scores["kl"], rtol=1e-3, atol=1e-5)


def test_questions_are_different_and_of_their_split() -> None:
    here = setting(replace(CONFIG, questions=40))
    prompts = {split: [e.prompt for e in here.questions(split)] for split in ("validation", "test")}
    assert len(set(prompts["test"])) == 40
    assert not set(prompts["test"]) & set(prompts["validation"])
    assert [len(p) for p in prompts["test"]] == sorted(len(p) for p in prompts["test"])


def test_a_run_writes_its_figure_and_journal(once) -> None:
    out, _ = once
    assert (out / "figure.png").stat().st_size > 10_000
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 1 + 3 + 1  # header, end


def test_the_report_has_every_method_at_every_size(once) -> None:
    _, report = once
    methods = {row["method"]: row for row in report.rows}
    for name in ("self-certainty", "perplexity", "majority", "Borda", "Borda, p=0.5", "oracle"):
        assert {"N=1", "N=2", "N=4"} <= set(methods[name])
    assert len(report.claims) == 12


def synthetic(seed: int) -> ResponsePool:
    """Answers whose confidence tells right from wrong, so that the votes must differ."""
    rng = np.random.default_rng(seed)
    answers = rng.integers(-1, 4, (40, 16)).astype(np.int32)
    right = answers == 0
    kl = (right + rng.normal(size=right.shape)).astype(np.float32)
    noise = rng.normal(size=right.shape).astype(np.float32)
    names = ("neg_entropy", "gini", "neg_distributional_perplexity", "neg_perplexity")
    scores = {name: noise for name in (*names, "avg_logprob", "shifted", "empirical")}
    zeros = np.zeros(40, np.int32)
    return ResponsePool(answers, right, answers + 9, scores | {"kl": kl}, zeros > 0, zeros)


def test_findings_know_a_good_judge_from_noise() -> None:
    config = Config(samples=16, sizes=(1, 4, 16), repetitions=10)
    found = Findings.of(config.plan, synthetic(0), synthetic(1))
    one, four, all_ = found.curve("self-certainty")
    assert one < four < all_ - 10
    assert all_ > found.curve("perplexity")[-1] + 20
    assert found.curve("Borda, tuned")[-1] > found.curve("majority")[-1] + 10
    assert found.curve("Borda, p=0") == found.curve("majority")
    assert found.curve("oracle")[-1] >= max(found.curve(m)[-1] for m in found.accuracy)
    assert found.chosen[-1] > 0
    kept = compact(vars(Evidence.of(found)))
    verdicts = {claim.claim: claim.verdict for claim in claims(config, kept)}
    assert verdicts["self-certainty, best of 16, beats perplexity"] == "holds"
    (surer,) = (verdict for claim, verdict in verdicts.items() if "right ones are more" in claim)
    assert surer == "holds"
    assert verdicts["the majority beats the average of an answer's self-certainty at N=16"] in (
        "fails",
        "not resolved",
    )
    # With one response there is nothing to choose.
    ones = {m: found.curve(m)[0] for m in found.accuracy if m not in ("greedy", "oracle")}
    np.testing.assert_allclose(list(ones.values()), one)


def test_the_published_setting_traces() -> None:
    """64 responses of the 8 B model, and their second reading: shapes only."""
    config = PRESETS["paper"]
    model = abstract(LLAMA_3_1_8B)
    task = Gsm8k(Path("train.jsonl"), Path("test.jsonl"), flexible=True)
    here = Setting(config, model, codec(), task)
    prompt = Prompt.of([[1] * 200], width=256)
    result = jax.eval_shape(lambda d, k, p: d(k, p), here.decoder, jax.random.key(0), prompt)
    pool = result.trace
    assert pool.tokens.shape == (1, 64, 1024)
    assert pool.meter.total.kl.shape == pool.score.shape == (1, 64)
    meter = CertaintyMeter(jnp.array([2]), jnp.zeros((model.vocab_size,)))
    again = jax.eval_shape(
        lambda *given: score_certainty(*given, shifted=True),
        model,
        prompt,
        jax.ShapeDtypeStruct((64, 1024), jnp.int32),
        jax.ShapeDtypeStruct((64,), jnp.int32),
        meter,
    )
    assert again.kl.shape == (64,)


def test_refusals(tmp_path) -> None:
    for sizes in ((1, 4), (1, 4, 32), (4, 1, 64), (0, 1, 64)):
        with pytest.raises(ValueError, match="sizes="):
            Config(sizes=sizes)
    with pytest.raises(ValueError, match=r"is neither a folder, nor a \.gguf file, nor in the zoo"):
        Setting.of(Config(generator="no such model"))
