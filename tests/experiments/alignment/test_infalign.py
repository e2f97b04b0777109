"""The experiment runs, theory comes out as published, and its statistics are what they say."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.alignment.calibration import RawReward
from algorithms.alignment.procedures import BestOf
from experiments.alignment.infalign.findings import at_kl, frontier_claim, resamples
from experiments.alignment.infalign.main import PRESETS, run
from experiments.alignment.infalign.theory import frontier, heteroscedastic
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import FunctionScorer
from jaxdecode.stop import Stop
from jaxdecode.train.policy_gradient import Setting
from jaxdecode.train.ppo import PPO
from models.presets import LLAMA_3_1_8B
from models.transformer import abstract


def test_smoke_trains_and_judges(tmp_path) -> None:
    report = run(dataclasses.replace(PRESETS["smoke"], out=tmp_path))
    rows = {part: [row for row in report.rows if row["part"] == part] for part in PARTS}
    assert {row["method"] for row in rows["trained"]} == {"raw", "identity"}
    assert all(row["kl"] > 0 and 0 < row["best-of-4, judge"] < 1 for row in rows["trained"])
    # What needs no training holds at any size.
    assert all(claim.holds for claim in report.claims[:3])
    assert report.claims[3].claim.startswith("hacked") and report.claims[6].holds
    assert (tmp_path / "figure.png").stat().st_size > 10_000


PARTS = ("analytic", "tables", "trained")


def test_tables_whose_scales_differ() -> None:
    """Standard, best-of-4 and worst-of-4 at a mean KL of 1, about as in other draws."""
    found = {row["method"]: row for row in heteroscedastic(200, 64, 1.0, 4, seed=0)}
    for method, expected in {
        "raw": (0.733, 0.757, 0.778),
        "identity": (0.864, 0.867, 0.974),
        "log": (0.862, 0.854, 0.986),
        "exp(10)": (0.801, 0.921, 0.773),
        "-exp(-10)": (0.847, 0.803, 0.992),
    }.items():
        row = [found[method][name] for name in ("standard", "best-of-4", "worst-of-4")]
        assert row == pytest.approx(expected, abs=0.06 if method == "raw" else 0.015), method


def test_curves_are_read_at_equal_kl() -> None:
    runs = [
        {"method": "a", "aim": 1.0, "kl": [1.0] * 8, "best": [0.7] * 8},
        {"method": "a", "aim": 0.5, "kl": [0.5] * 8, "best": [0.6] * 8},
    ]
    index = resamples(8, 0)
    for kl, win in ((0.125, 0.55), (0.5, 0.6), (0.728553, 0.65), (2.0, 0.7)):
        np.testing.assert_allclose(at_kl(runs, "a", "best", kl, index), win, atol=1e-6)


def test_a_policy_above_the_frontier_is_caught() -> None:
    bounds = {"best": frontier(BestOf(4), 1.0)}
    assert np.interp(0.5, *bounds["best"]) == pytest.approx(0.8733, abs=5e-3)
    for win, holds in ((0.86, True), (0.95, False)):
        runs = [{"method": "a", "aim": 0.5, "kl": [0.5] * 8, "best": [win] * 8}]
        (claim,) = frontier_claim(runs, bounds, 0)
        assert claim.holds == holds


def test_a_method_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="methods: 'guess' is none of raw, identity"):
        run(dataclasses.replace(PRESETS["smoke"], methods=("guess",)))


def test_published_setting_traces_at_full_size() -> None:
    """A step of PPO on an 8-billion model: 64 prompts of 8 responses of 256 tokens."""
    config = PRESETS["paper"]
    model = abstract(LLAMA_3_1_8B)
    generator = Generator(model, Identity(), Categorical(), Stop.of(128001), config.max_tokens)
    scorer = FunctionScorer(lambda prompt, start, tokens, length: length.astype(jnp.float32))
    setting = Setting(generator, RawReward(scorer), 0.1, config.group)
    prompt = Prompt.of([[128000] * 64] * config.batch, width=64)
    learner = PPO(width=LLAMA_3_1_8B.embed_width)

    def step(model, setting, prompt, key):
        critic = learner.module(model)
        arguments, metrics = learner.rollout(critic, setting, prompt, key)
        return arguments["advantage"], learner.loss(critic, **arguments)[0], metrics["kl"]

    found = jax.eval_shape(step, model, setting, prompt, jax.random.key(0))
    assert [array.shape for array in found] == [(512, 319), (), ()]
