"""The A* experiment: what it measures, and what its claims make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.inputs.sources import Codec
from experiments.search.a_star_decoding.main import PRESETS, Config, analyse, bench, methods
from experiments.search.a_star_decoding.setting import Bench, Measured
from experiments.tasks.arithmetic import Arithmetic
from jaxdecode.arena import Search
from jaxdecode.prompt import Prompt
from models.presets import QWEN2_5_1_5B, small
from models.rewards import RewardModel
from models.text import Tokenizer
from models.transformer import Transformer, abstract

TASK = Arithmetic((2, 3))
CONFIG = Config(
    questions=2,
    batch=2,
    samples=4,
    particles=(1, 2),
    children=(2,),
    expansions=3,
    noises=(1.0,),
)


def tiny() -> Bench:
    """Untrained models: what they write is noise, which is what the plumbing must survive."""
    strict = TASK.tokenizer()
    text = Tokenizer(strict.inner, strict.bos_id, (strict.eos_id,), strict.pad_id)
    shape = small(strict.vocab_size, hidden=32, layers=1)
    model = Transformer(shape, rngs=nnx.Rngs(0))
    judge = RewardModel.create(shape, rngs=nnx.Rngs(1), readout="sigmoid")
    questions = TASK.sample(np.random.default_rng(0), 2, "test")
    return Bench(model, judge, Codec(text, strict), TASK, questions, "\n", 3, 4, 9, 0.8, 2, 0)


def test_an_exact_reward_is_asked_once_for_every_step() -> None:
    here = tiny()
    search = here.a_star(2, here.oracle(0.0), expansions=3)
    part = here.run(search, 0)
    trace, log = part["trace"], here.asking.log
    assert log.asked == (trace.nodes - 1).sum() and log.failed == 0
    assert 1 <= log.rounds <= int(trace.rounds.max()) + 1
    rewards = trace.reward[0, 1:3]
    assert np.isclose(rewards[:, None], [0.047426, 0.952574], atol=1e-5).any(1).all()
    np.testing.assert_array_equal(part["passes"], trace.nodes - 1)


def test_noise_is_a_texts_own_and_of_the_stated_deviation() -> None:
    here = tiny()
    prompt = [1, *here.codec.piece("1+2=")]
    steps = [here.codec.piece(f"{n % 10}+{n // 10 % 10}") for n in range(400)]

    def worth(noise: float) -> np.ndarray:
        return np.array([here.worth(noise, prompt, step) for step in steps])

    clean, noisy = worth(0.0), worth(2.0)
    right = np.array([n % 100 == 21 for n in range(400)])
    np.testing.assert_allclose(clean, np.where(right, 0.952574, 0.047426), rtol=1e-4)
    np.testing.assert_array_equal(noisy, worth(2.0))
    shift = (np.log(noisy) - np.log1p(-noisy) - np.where(right, 3, -3))[:100]
    assert abs(shift.mean()) < 0.8 and 1.5 < shift.std() < 2.5


def drawn(share: float) -> dict:
    """Samples that are right with probability `share`, and a reward that does not know."""
    rng = np.random.default_rng(0)
    right = rng.random((60, 4)) < share
    wrong = rng.integers(10, 90, (60, 4))
    questions = [
        {
            "answers": [("7" if r else str(w)) for r, w in zip(*rows, strict=True)],
            "reference": "7",
            "length": np.full(4, 30),
            "scores": {"reward": rng.random(4), "exact": rng.random(4)},
            "greedy": None,
            "level": 2,
        }
        for rows in zip(right, wrong, strict=True)
    ]
    return {"questions": questions, "seconds": 1.0}


def method(share: float, tokens: float, passes: float) -> Measured:
    right = np.arange(60) < 60 * share
    return Measured(right.astype(float), np.full(60, tokens), np.full(60, passes), 1.0)


@pytest.mark.parametrize("better", [True, False])
def test_claims_follow_the_measurements(tmp_path: Path, better: bool) -> None:
    config = replace(CONFIG, questions=60, batch=60, out=tmp_path)
    found = {
        "particle filtering, N=1": method(0.3, 30, 5),
        "particle filtering, N=2": method(0.6, 60, 10),
        "A*, k=2": method(0.6, 15, 5) if better else method(0.3, 400, 40),
    }
    found |= {f"{name}, exact reward": one for name, one in found.items()}
    found |= {f"{name}, noise 1": found[name] for name in ("A*, k=2", "particle filtering, N=2")}
    report = analyse(config, drawn(0.3), found, {"nodes/s": 9.0}, 2.0)
    holds = [claim.verdict == "holds" for claim in report.claims]
    assert holds == [better] * 12, report.claims
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    by_name = {row["method"]: row for row in report.rows}
    assert by_name["A*, k=2"]["nodes/s"] == 9.0
    assert by_name["best-of-N, N=4"]["tokens"] == 120 and by_name["best-of-N, N=4"]["passes"] == 4
    assert by_name["self-consistency, N=2"]["passes"] == 0
    assert report.seconds == 2.0


def test_the_published_setting_traces() -> None:
    """A search by models of published shape: shapes only."""
    config = PRESETS["paper"]
    model = abstract(QWEN2_5_1_5B)
    here = replace(tiny(), model=model, judge=tiny().judge, width=256, depth=40, max_tokens=1024)
    search = methods(config, here)["A*, k=4"]().search
    prompt = Prompt.of([[1] * 200], width=256)
    arena, _, _ = jax.eval_shape(Search.run, search, jax.random.key(0), prompt)
    assert arena.tokens.shape == (1, search.nodes, 1024)


def test_refusals(tmp_path) -> None:
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"questions": 30}, "questions=30"),
        ({"samples": 12}, "samples=12"),
        ({"particles": (4,)}, r"particles=\(4,\)"),
        ({"children": ()}, r"children=\(\)"),
        ({"data": tmp_path}, "exact and noises"),
    ]
    for wrong, message in wrongs:
        with pytest.raises(ValueError, match=message):
            Config(**wrong)
    with pytest.raises(ValueError, match=r"is neither a folder, nor a \.gguf file, nor in the zoo"):
        bench(Config(generator="no such model"))
