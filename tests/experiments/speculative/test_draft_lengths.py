"""What the experiments on draft lengths and sub-models make of counts with known answers."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from algorithms.speculative.pearl import tokens_a_step, within
from experiments.harness.judging.claim import Claim
from experiments.speculative.pearl import findings
from experiments.speculative.pearl.setting import Config as PearlConfig
from experiments.speculative.s2d import setting as s2d
from experiments.speculative.specdec_pp import setting as specdec_pp
from experiments.speculative.specdec_pp.findings import _gaps
from jaxdecode.train import frozen
from models.presets import small
from models.transformer import Transformer

ALPHA = 0.7


def test_points_below_a_curve() -> None:
    """Of four prompts that are alike; the last point lies beside the curve."""

    def row(family: str, verification: float, discard: float) -> dict:
        each = {"emitted": 100, "passes": 100 * verification, "drafted": 100 * discard}
        counts = {name: [value] * 4 for name, value in each.items()} | {"accepted": [0] * 4}
        return {"family": family, "verification": verification, "by prompt": counts}

    fixed = [row("fixed", v, d) for v, d in ((0.5, 0.2), (0.3, 1.0))]
    points = [row("SpecDec++", v, d) for v, d in ((0.4, 0.5), (0.3, 1.1), (0.6, 0.0))]
    gaps = _gaps(fixed + points)
    np.testing.assert_allclose([gap.value for gap in gaps], [0.1, -0.1])
    assert all(gap.low == pytest.approx(gap.high) for gap in gaps)


def counts(config: PearlConfig) -> dict:
    """A million rounds of either method, in expectation."""
    found, rounds = {}, 1e6
    for k in config.lengths:
        accepted = rounds * sum(ALPHA**i for i in range(1, k + 1))
        tokens = accepted + rounds
        one = {"tokens": tokens, "passes": rounds, "drafts": k * rounds}
        found[f"model, K = {k}"] = one | {"accepted": accepted, "drafted": k * rounds}
    for g in config.windows:
        tokens, share = rounds * tokens_a_step(ALPHA, g), within(ALPHA, g)
        one = {"tokens": tokens, "passes": rounds, "drafts": g * rounds}
        drafted = share * (g - 1) * rounds
        found[f"model, window {g}"] = one | {"drafted": drafted, "accepted": tokens}
    for one in found.values():
        names = {"emitted": "tokens", "passes": "passes", "draft_passes": "drafts"}
        names |= {"accepted": "accepted", "drafted": "drafted"}
        one["by prompt"] = {name: [one[column] / 4] * 4 for name, column in names.items()}
    return found


def judged(config: PearlConfig, runs: dict) -> list[Claim]:
    return findings.claims(config, {"drafts": ["model"], "runs": runs, "same text": None})


def test_counts_of_independent_acceptances_give_the_closed_forms() -> None:
    config = PearlConfig(exchange=0.0)
    rows = findings.table(config, ["model"], counts(config))
    for row, (turn, side) in zip(
        rows, ((1.314, 1.614), (1.583, 1.810), (1.849, 1.913)), strict=True
    ):
        assert row["acceptance"] == pytest.approx(ALPHA)
        assert (row["SD"], row["PEARL"]) == (
            pytest.approx(turn, abs=1e-3),
            pytest.approx(side, abs=1e-3),
        )
        assert row["best window"] == row["c"]
        assert row["PEARL"] == pytest.approx(row["PEARL, closed form"])
        assert row["with an exchange"] == row["PEARL / SD"]
        # A run of accepted drafts ends with a rejection, whatever the window.
        assert row["accepted in a row, PEARL"] == pytest.approx(ALPHA / (1 - ALPHA))
    # At this acceptance the closed forms give 1.23 times at most, and hardly longer runs.
    verdicts = [claim.verdict for claim in judged(config, counts(config))]
    assert verdicts == ["fails", "fails", "holds", "holds"]


def test_a_losing_corner_is_said_to_lose() -> None:
    config = PearlConfig(exchange=0.0)
    runs = counts(config)
    slow = runs["model, window 8"]["by prompt"]
    slow["passes"] = [1.1 * x for x in slow["passes"]]
    runs["model, window 8"]["passes"] *= 1.1
    claim = judged(config, runs)[0]
    assert claim.verdict == "fails" and "slower for model, c = 8" in claim.measured


def test_a_shortened_model_is_the_first_layers() -> None:
    whole = Transformer(small(7, hidden=16, layers=3, heads=2), rngs=nnx.Rngs(0))
    part = s2d.shortened(whole, 2)
    tokens = jnp.array([[1, 4, 2, 6]])
    view = frozen.whole(jnp.ones((1, 4), bool))
    stream, _ = whole.run_layers(whole.embed(tokens, view.position), None, view, 0, 2)
    expected = whole.unembed(whole.final(stream))
    np.testing.assert_allclose(part.forward(tokens)[0], expected, 1e-5, 1e-6)
    layer, output = s2d.price(part)
    assert 2 * layer + output == part.cost.parameters
    with pytest.raises(ValueError, match="layers=4"):
        s2d.shortened(whole, 4)


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="thresholds"):
        s2d.Setting.of(s2d.Config(thresholds=((0.5,),)))
    with pytest.raises(ValueError, match="temperatures"):
        s2d.Setting.of(s2d.Config(temperatures=(1.0,)))
    with pytest.raises(ValueError, match="few"):
        specdec_pp.Setting.of(specdec_pp.Config(few=(0.33,)))
