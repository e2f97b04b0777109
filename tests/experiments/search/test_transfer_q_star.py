"""The experiment on value guidance at its smallest, its arithmetic, and its published size."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.search.transfer_q_star import indirect
from experiments.search.transfer_q_star.findings import claims
from experiments.search.transfer_q_star.main import PRESETS, run
from experiments.search.transfer_q_star.measures import Frontier, arms, diversity
from experiments.search.transfer_q_star.setting import Config, Opening
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.responses import judge
from jaxdecode.sampling import Greedy
from jaxdecode.scoring import FunctionScorer
from jaxdecode.stop import Stop
from models.presets import LLAMA_3_1_8B
from models.transformer import abstract


@pytest.mark.slow
def test_smoke(tmp_path) -> None:
    report = run(replace(PRESETS["smoke"], out=tmp_path))
    rows = {row["method"]: row for row in report.rows}
    assert set(rows) == {"base", "ARGS", "CD--", "TQ*"}
    assert rows["TQ*"]["reward"] > rows["CD--"]["reward"] > rows["base"]["reward"]
    assert rows["TQ*"]["tokens run"] > 4 * rows["ARGS"]["tokens run"]
    assert rows["base"]["kl"] == pytest.approx(0.0, abs=1e-4)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def frontier(levels: list[float], rewards: list[float], prompts: int = 30) -> Frontier:
    return Frontier(
        {
            "kl": np.repeat(np.array(levels)[:, None], prompts, axis=1),
            "reward": np.repeat(np.array(rewards)[:, None], prompts, axis=1),
        }
    )


def test_claims_are_decided_at_equal_kl() -> None:
    """A method that has more reward for more KL, on the same line, is no better."""
    config = PRESETS["cpu"]
    found = {name: frontier([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) for name in arms(config)}
    found["base"] = frontier([0.0], [0.0])

    def verdicts() -> list[str]:
        evidence = {name: one.columns for name, one in found.items()}
        return [claim.verdict for claim in claims(config, evidence)]

    assert "holds" not in verdicts()
    found["CD--"] = frontier([2.0, 3.0, 4.0], [2.0, 3.0, 4.0])
    assert verdicts()[0] == "not resolved"
    for name in ("TQ*", "indirect TQ*"):
        found[name] = frontier([1.0, 2.0, 3.0], [5.0, 6.0, 7.0])
    assert set(verdicts()) == {"holds"}
    assert found["TQ*"].lead(found["CD--"], 2.5) == pytest.approx((4.0, 4.0, 4.0))
    found["CD--"] = frontier([0.2, 0.3, 0.4], [2.0, 3.0, 4.0])
    assert verdicts()[0] == "not measurable here"


def test_diversity() -> None:
    assert diversity(["a b c d e"]) == 1.0
    assert diversity(["a b c d e"] * 2) == pytest.approx(1 / 8)


def test_an_opening_is_judged_as_if_it_ended_there() -> None:
    scorer = FunctionScorer(lambda prompt, start, tokens, length: tokens[:, 0] + 10.0 * length)
    tokens = jnp.array([[[3, 1, 1], [4, 0, 0]]])
    found = judge(Opening(scorer, 2), Prompt.of([[1]], width=1), tokens, jnp.array([[3, 1]]))
    np.testing.assert_allclose(found, [[23.0, 14.0]])


def test_the_published_setting_traces() -> None:
    """Indirect transfer of an 8 B model over ten candidates: shapes only."""
    config, model = PRESETS["paper"], abstract(LLAMA_3_1_8B)
    generator = Generator(model, Identity(), Greedy(), Stop.of(2), config.max_tokens)
    scorer = FunctionScorer(lambda prompt, start, tokens, length: length.astype(jnp.float32))
    decoder = indirect(
        generator, scorer, scorer, 1.0, 1.0, None, config.candidates, config.rollouts
    )
    prompt = Prompt.of([[1] * 100] * 4)
    result = jax.eval_shape(lambda *given: given[0](*given[1:]), decoder, jax.random.key(0), prompt)
    assert result.tokens.shape == (4, config.max_tokens)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="weights="):
        Config(weights=(2.0, 1.0))
    with pytest.raises(ValueError, match="sizes="):
        Config(sizes=())
    with pytest.raises(ValueError, match="blocks="):
        Config(blocks=(0, 2))
    with pytest.raises(ValueError, match="widths="):
        Config(widths=(8, 2))
    with pytest.raises(ValueError, match="rollouts=1"):
        Config(rollouts=1)
    with pytest.raises(ValueError, match="methods: no"):
        arms(Config(methods=("ours",)))
