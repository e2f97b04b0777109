"""The experiment on planning: grades of programs, hostile ones among them, claims, and a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from algorithms.search.pg_td import PlanningGuided
from experiments.harness.files import compact
from experiments.sandbox.program import Limits
from experiments.search.pg_td import main
from experiments.search.pg_td.claims import kept
from experiments.search.pg_td.judge import Functions, Judge, Lists
from experiments.search.pg_td.main import PRESETS, Found, claims, run
from experiments.search.pg_td.setting import Config, Setting
from experiments.tasks.graded import Graded, cases
from experiments.tasks.human_eval import HumanEval
from experiments.tasks.programs import Programs
from jaxdecode.decoder import decode
from jaxdecode.prompt import Prompt
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM
from models.presets import QWEN2_5_0_5B
from models.transformer import abstract
from tests.experiments.harness.records import same_again

PROMPT = "def double(x):\n"
TEST = """
METADATA = {'author': 'own'}

def check(candidate):
    table = {1: 2}
    assert candidate(0) == 0
    for x, y in table.items():
        assert candidate(x) == y
    assert candidate(3) == 6
"""
RECORD = {
    "task_id": "Own/0",
    "prompt": PROMPT,
    "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "test": TEST,
}
# What the tokens of a tiny vocabulary spell; 4 ends a program.
PIECES = (
    "    return 2 * x\n",
    "    while True: pass\n",
    "    import os; os.kill(os.getpid(), 9)\n",
    "    return x\n",
    "",
)


@dataclass(frozen=True)
class Spelling:
    """A codec of `PIECES`."""

    def decode(self, tokens, after=()) -> str:
        return "".join(PIECES[token] for token in tokens)


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Graded:
    path = tmp_path_factory.mktemp("human_eval") / "own.jsonl"
    path.write_text(json.dumps(RECORD))
    return Graded(HumanEval(path), Limits(wall=20.0, cpu=1.0), workers=2)


def test_a_test_comes_apart_into_cases():
    around, setup, found = cases(TEST)
    assert around == "METADATA = {'author': 'own'}" and setup == "table = {1: 2}"
    assert found[0] == "assert candidate(0) == 0" and len(found) == 3
    assert found[1].startswith("for x, y in table.items():")
    with pytest.raises(ValueError, match="no check"):
        cases("def check(candidate):\n    pass")


def test_programs_are_graded_case_by_case(graded):
    texts = [RECORD["canonical_solution"], "    return x\n", *PIECES[1:3], "    return 2 *\n"]
    grades = graded.grades([PROMPT] * len(texts), texts)
    assert grades == [(1.0, 1.0), (0.5, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)]


def test_hanging_and_killed_programs_earn_nothing_and_the_search_goes_on(graded):
    """The likeliest programs never end or kill themselves; the best is found behind them."""
    flat = EnumerableLM.random(0, len(PIECES), sharpness=0.0)
    model = replace(flat, bias=np.array([0.1, 0.4, 0.3, 0.2, 0.0], np.float32))
    examples = graded.task.examples()
    config = Config(batch=1, questions=1, max_tokens=2)
    here = Setting(config, model, Spelling(), Functions(graded))  # pyright: ignore[reportArgumentType]
    here.__dict__["judge"] = Judge(here.world, examples, here.codec)
    search = PlanningGuided(model, Stop.of(4), here.rewards(), 2, 4, 10, goal=1.0)
    result = jax.device_get(decode(search, 0, Prompt.of([[3]])))
    texts = here.judge.texts(result.tokens, result.length, [3])
    assert texts[0].startswith(PIECES[0])
    rewards = result.trace.reward[0, 2 : result.trace.nodes[0]]
    assert rewards[0] == 0.0 and rewards.max() == 1.0
    assert here.judge.run == len(here.judge.known) <= here.judge.asked


def test_a_bonus_is_for_short_programs_and_for_comments(graded):
    world, code = Functions(graded), Spelling()
    assert world.size("    # why\n    return x\n\n") == 2.0
    assert world.comments("    # why\n    return x\n") == 0.5 and world.comments("") == 0.0
    lists = Lists(Programs())
    assert lists.size("sort mul 2") == 2.0 and lists.comments("sort") == 0.0
    judge = Judge(world, graded.task.examples(), code)  # pyright: ignore[reportArgumentType]
    judge.known = {(PROMPT, PIECES[3]): (0.5, 0.0)}
    given = ([0], [PROMPT], [PIECES[3]])
    np.testing.assert_allclose(judge.rewards(0.0, 0.0, *given), 0.5)
    np.testing.assert_allclose(judge.rewards(1.0, 0.0, *given), (0.5 + np.exp(-1 / 20)) / 2)
    np.testing.assert_allclose(judge.rewards(0.0, 1.0, *given), 0.25)


def found(hidden: float, tokens: float, size: float) -> Found:
    """Problems are of all sorts of difficulty."""
    hard = np.linspace(-0.1, 0.1, 40)
    one = hidden + hard
    column = np.repeat(one[:, None], len(Config().budgets), axis=1)
    return Found(
        column, column, column, one, size + hard, one, tokens * (1 + hard), one, seconds=1.0
    )


def test_claims_are_decided_by_the_scores():
    config = Config()
    names = [f"SMCG-TD, n={n}" for n in config.particles]
    names += [f"beam search, b={b}" for b in config.beams]
    runs = {name: found(0.5, 9, 2) for name in [*names, "sampling"]}
    runs |= {"PG-TD": found(0.6, 5, 2), "PG-TD, caches: none": found(0.6, 10, 2)}
    runs |= {"PG-TD, caches: both": found(0.6, 5, 2)}
    runs |= {"PG-TD, shorter": found(0.6, 5, 1)}

    def verdicts() -> list[str]:
        return [claim.verdict for claim in claims(config, compact(kept(config, runs)))]

    assert verdicts() == ["holds"] * 6
    above = runs["PG-TD"]
    for level, verdict in ((0.5, "not resolved"), (0.4, "fails")):
        hidden = above.hidden.copy()
        hidden[:, 2] += level - 0.6  # level with sampling, then below it, at 4 completions alone
        runs["PG-TD"] = replace(above, hidden=hidden)
        assert verdicts() == ["holds"] * 2 + [verdict] + ["holds"] * 3
    runs |= {"PG-TD": found(0.5, 7, 1), "PG-TD, caches: both": found(0.6, 7, 2)}
    assert verdicts() == ["not resolved"] * 4 + ["fails", "not resolved"]
    runs |= {"PG-TD": found(0.4, 7, 0.5), "PG-TD, caches: both": found(0.6, 6, 2)}
    assert verdicts() == ["fails"] * 4 + ["not resolved", "fails"]


def test_the_published_setting_traces(graded):
    """A 0.5 B model's search over a batch of problems: shapes only."""
    config = replace(PRESETS["paper"], questions=1, batch=1, rollouts=8, data=graded.task.path)
    here = Setting(config, abstract(QWEN2_5_0_5B), Spelling(), Functions(graded))  # pyright: ignore[reportArgumentType]
    rules = (here.model, Stop.of(4), here.rewards(), config.max_tokens, config.branch, 8)
    prompt = Prompt.of([[1] * 60] * config.batch)
    search = PlanningGuided(*rules)
    result = jax.eval_shape(lambda run, *given: run(*given), search, jax.random.key(0), prompt)
    assert result.tokens.shape == (config.batch, config.max_tokens)


@pytest.mark.slow
def test_smoke(tmp_path: Path) -> None:
    config = replace(PRESETS["smoke"], out=tmp_path)
    report = run(config)
    same_again(report, main, config)
    beams, *_ = report.claims
    assert beams.holds
    rows = {row["method"]: row for row in report.rows}
    assert rows["PG-TD"]["completions"] <= 8 == rows["sampling"]["completions"]
    assert rows["PG-TD"]["hidden tests, %"] > rows["sampling"]["hidden tests, %"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000
