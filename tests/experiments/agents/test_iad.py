"""The experiment on IAD at its smallest, its parts, and its published size as shapes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.agents.agent import Attempt, Reply, Review, Verdict
from experiments.agents.iad import main
from experiments.agents.iad.agents import Confused, ModelAgent, Noisy, Sparse, _draw
from experiments.agents.iad.claims import CONFUSED, PROGRAMS, kept
from experiments.agents.iad.main import ON_PROGRAMS, PRESETS, arms, claims, run
from experiments.agents.iad.setting import (
    Code,
    Config,
    Queries,
    Setting,
    run_public,
    write_code,
    write_plain,
)
from experiments.harness.files import compact
from experiments.inputs.sources import Codec
from experiments.tasks.human_eval import HumanEval
from experiments.tasks.programs import Programs
from experiments.tasks.sql import Sql
from experiments.tasks.task import Example
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM
from models.presets import LLAMA_3_1_8B
from models.text import Tokenizer
from models.transformer import abstract
from tests.experiments.harness.records import same_again

TASK = Sql()


def codec() -> Codec:
    strict = TASK.tokenizer()
    return Codec(Tokenizer(strict.inner, strict.bos_id, (strict.eos_id,), strict.pad_id), strict)


@pytest.mark.slow
def test_smoke(tmp_path) -> None:
    config = replace(PRESETS["smoke"], out=tmp_path)
    report = run(config)
    same_again(report, main, config)
    _, _, feedback, gate, *_ = report.claims
    assert feedback.holds and gate.holds
    rows = {row["method"]: row for row in report.rows}
    assert {row["calls"] for row in rows.values()} == {12}
    assert rows["IAD"]["solved %"] > rows["best-of-N"]["solved %"]
    assert rows["IAD"]["solved %"] > rows["IAD, noise 0.4"]["solved %"]
    assert rows["IAD"]["tokens read"] > 2 * rows["best-of-N"]["tokens read"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def curves(lead: float, **wins: float) -> dict[str, np.ndarray]:
    """Of 100 questions a tenth is solved by any arm, at the end, and so many more by some."""
    found = {}
    asked = arms(CONFIG)
    asked |= {f"{PROGRAMS}{name}": asked[name] for name in ON_PROGRAMS}
    for name, arm in asked.items():
        steps = arm.rounds if arm.rounds > 1 else arm.samples
        found[name] = np.full((100, steps), 0.5)
        more = wins.get(name, lead if name.removeprefix(PROGRAMS) in WINNERS else 0.0)
        found[name][: round(10 + 100 * more), -1] = 1.0
    return found


CONFIG = Config(rounds=3, samples=2, sigmas=(0.4,))
WINNERS = ("IAD", "IAD, one at a time")


def judged(found: dict[str, np.ndarray], config: Config = CONFIG) -> list[str]:
    return [claim.verdict for claim in claims(config, compact(kept(config, found)))]


def test_claims_are_decided_by_the_scores():
    assert judged(curves(0.5)) == ["holds"] * 8
    assert len(judged(curves(0.5), replace(CONFIG, writer=None))) == 6
    assert judged(curves(0.0)) == ["fails"] + ["not resolved"] * 7  # level is not 3 points more
    assert judged(curves(-0.08)) == ["fails"] * 8
    assert judged(curves(0.04))[0] == "not resolved"  # some lead, and perhaps no 3 points
    fed = judged(curves(0.5, **{CONFUSED: 0.8, f"{PROGRAMS}{CONFUSED}": 0.8}))
    assert [place for place, verdict in enumerate(fed) if verdict == "fails"] == [2, 7]


def test_queries_are_verified_and_failures_raise():
    verify = Queries(TASK)
    (example,) = TASK.sample(np.random.default_rng(1), 1, "test")
    assert verify(example.prompt, example.target).score == 1.0
    with pytest.raises(ValueError, match="refused: not authorized"):
        verify(example.prompt, "drop table items")
    best, worst = Attempt(example.target, 0.55), Attempt("select 1", -np.inf, error="x")
    text = write_plain(Review(example.prompt, best, worst))
    assert text.endswith(f"best {example.target} scores 5 worst select 1 scores 0 answer")


def test_list_programs_are_verified_by_what_is_public_and_scored_by_what_is_hidden():
    here = Setting(Config(), None, codec(), Programs())
    prompt, hidden = "1 2 > 2 1 ; 3 > 3 :", [([4, 5], [5, 4]), ([6], [7])]
    assert here.verify(prompt, "rev").score == 1.0 == run_public(prompt, "rev").score
    assert here.verify(prompt, "sort").score == 0.5
    assert here.score(Example(prompt, "rev", {"hidden": hidden}), "rev") == 0.5
    with pytest.raises(ValueError, match="is no chain of"):
        here.verify(prompt, "rev 3")
    with pytest.raises(ValueError, match="writer=None"):
        Setting.programs(Config(writer=None))


def test_programs_are_verified_with_a_critique(tmp_path: Path):
    record = {
        "task_id": "Own/0",
        "prompt": "def two():\n",
        "entry_point": "two",
        "canonical_solution": "    return 2\n",
        "test": "def check(f):\n    assert f() == 2, 'not two'\n",
    }
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(record))
    verify = Code(HumanEval(path))
    assert verify("def two():\n", "    return 2") == Verdict(1.0)
    wrong = verify("def two():\n", "    return 3")
    assert wrong.score == 0.0 and "not two" in wrong.critique
    best = Attempt("    return 3", wrong.score, wrong.critique)
    text = write_code(Review("def two():\n", best, Attempt("```\nx\n```", 0.0)))
    assert "best answer so far, score 0:\n```python\n    return 3\n```" in text
    assert "not two" in text and "worst answer so far, score 0:\n```\nx\n```" in text
    assert "best" not in write_code(Review("def two():\n"))


def test_long_reviews_lose_the_critique_then_the_worst_never_the_best():
    def write(review: Review) -> str:
        shown = [review.best and review.best.text, review.best and review.best.critique]
        return " ".join(filter(None, [*shown, review.worst and review.worst.text]))

    review = Review("", Attempt("1 2 3", 0.5, "4 5"), Attempt("6 7", 0.1))
    generator = Generator(
        EnumerableLM.random(0, 4), Identity(), Categorical(), Stop.of(1), max_tokens=1
    )
    agent = ModelAgent(generator, codec(), write)
    for longest, words in ((8, "1 2 3 4 5 6 7"), (7, "1 2 3 6 7"), (4, "1 2 3")):
        assert codec().decode(replace(agent, longest=longest).tokens(review)) == words
    with pytest.raises(ValueError, match=r"longest=3: prompt .* takes 4 tokens"):
        replace(agent, longest=3).tokens(review)


def test_judges_err_as_they_say():
    def half(prompt: str, text: str) -> Verdict:
        return Verdict(0.5)

    noisy = Noisy(half, 0.2)
    scores = np.array([noisy("x", str(i)).score for i in range(2000)])
    assert scores.mean() == pytest.approx(0.5, abs=0.02) and scores.std() == pytest.approx(
        0.2, rel=0.07
    )
    assert noisy("x", "7") == noisy("x", "7") != noisy("y", "7")
    assert Noisy(half, 0.2, seed=1)("x", "7") != noisy("x", "7")

    def said(prompt: str, text: str) -> Verdict:
        return Verdict(float(text))

    assert [Sparse(said)("", text).score for text in ("0.9", "1")] == [0, 1]


def test_a_confused_agent_sees_the_feedback_of_the_next():
    def echo(reviews, ids, samples, first):
        return [[Reply(f"{r.prompt}{r.best and r.best.text}")] * samples for r in reviews]

    reviews = [Review(p, Attempt(p, 0.0)) for p in "abc"]
    assert [row[0].text for row in Confused(echo)(reviews, [0, 1, 2], 1, 0)] == ["ab", "bc", "ca"]


def test_the_published_setting_traces():
    """Four answers of an 8 B model to a long review: shapes only."""
    config = PRESETS["paper"]
    here = Setting(config, abstract(LLAMA_3_1_8B), codec(), HumanEval(Path("HumanEval.jsonl")))
    prompt = Prompt.of([[1] * 3000] * config.batch)
    drawn = jax.eval_shape(
        lambda *given: _draw(*given[:3], config.samples, given[3]),
        *(here.agent.generator, jax.random.key(0), prompt, jnp.int32(0)),
    )
    rows = config.batch * config.samples
    assert [leaf.shape for leaf in drawn] == [(rows, config.max_tokens), (rows,)]


def test_refusals():
    with pytest.raises(ValueError, match="rounds=2"):
        Config(rounds=2)
    for sigmas in ((), (0.0, 0.1), (0.2, 0.1)):
        with pytest.raises(ValueError, match="sigmas="):
            Config(sigmas=sigmas)
