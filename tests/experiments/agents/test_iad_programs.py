"""IAD on programs: hostile answers under the sandbox, and a checkpoint asked in its own words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from flax import nnx

from algorithms.agents.agent import Reply, Review
from algorithms.agents.iad import IAD
from experiments.agents.iad.main import PRESETS, arms, measure
from experiments.agents.iad.setting import Code, Setting
from experiments.sandbox.program import Limits
from experiments.tasks.human_eval import HumanEval
from experiments.tasks.tokenizer import byte_pairs
from models import export
from models.presets import small
from models.transformer import Transformer
from tests.experiments.folders import companions

PROMPT = "def two():\n"
RECORD = {
    "task_id": "Own/0",
    "prompt": PROMPT,
    "entry_point": "two",
    "canonical_solution": "    return 2\n",
    "test": "def check(f):\n    assert f() == 2, 'not two'\n",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("human_eval") / "own.jsonl"
    path.write_text(json.dumps(RECORD))
    return path


@dataclass(frozen=True)
class Troublemaker:
    """Writes harmful programs until it reads that something was not two."""

    programs: tuple[str, ...]

    def __call__(
        self, reviews: Sequence[Review], ids: Sequence[int], samples: int, first: int
    ) -> list[list[Reply]]:
        told = ["not two" in (r.best.critique if r.best else "") for r in reviews]
        good = (RECORD["canonical_solution"],) * samples
        return [[Reply(text) for text in (good if t else self.programs)] for t in told]


def test_hostile_programs_are_scored_and_the_run_goes_on(data):
    programs = {
        "    assert False, 'not two'": "error",
        "    while True: pass": "timeout",
        "    import os; os.kill(os.getpid(), 9)": "killed",
        "    x = []\n    while True: x.append(bytearray(10**7))": "memory",
    }
    task = HumanEval(data, Limits(wall=20.0, cpu=1.0, memory=256 << 20))
    loop = IAD(Troublemaker(tuple(programs)), Code(task), 3, len(programs), goal=1.0, workers=4)
    (outcome,) = loop([PROMPT])
    first, last = outcome.rounds
    for attempt, status in zip(first.attempts, programs.values(), strict=True):
        assert attempt.score == 0.0 and attempt.critique.startswith(status)
    assert last.review.best == first.attempts[0]
    assert outcome.reached and outcome.best is not None
    assert outcome.best.text == RECORD["canonical_solution"]
    assert outcome.spent.agent_calls == 2 * len(programs)


def test_a_checkpoint_is_asked_through_its_template_and_judged(data, tmp_path):
    codec = byte_pairs([json.dumps(RECORD)], 280)
    config = small(codec.vocab_size, hidden=32, layers=1, max_positions=2048)
    folder = tmp_path / "generator"
    files = companions(tmp_path / "files", codec)
    export.save(Transformer(config, rngs=nnx.Rngs(0)), folder, family="llama", tokenizer=files)
    paper = PRESETS["paper"]
    here = Setting.of(
        replace(
            paper, generator=str(folder), data=data, questions=1, batch=1, samples=2, max_tokens=6
        )
    )
    examples = here.questions()
    assert [example.prompt for example in examples] == [PROMPT]
    text = here.codec.text.decode(here.agent.tokens(Review(PROMPT)))
    assert text.startswith("[user] Complete the Python function") and text.endswith("[assistant] ")
    found = measure(here, examples, arms(here.config)["IAD"])
    assert found["scores"] == [[0.0] * paper.rounds]
    assert found["calls"] == found["verified"] == [2 * paper.rounds]
    assert 0 < found["written"] <= 6 * 2 * paper.rounds < found["read"]
