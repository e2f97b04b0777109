"""The experiment runs, theory comes out as published, and its statistics are what they say."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.alignment.calibration import RawReward
from algorithms.alignment.procedures import BestOf
from experiments.alignment.infalign import main
from experiments.alignment.infalign.claims import frontier_claim
from experiments.alignment.infalign.findings import DISTILLED, OTHERS, at_kl, kept, resamples
from experiments.alignment.infalign.main import PRESETS, claims, run
from experiments.alignment.infalign.theory import curves, frontier, hacked, heteroscedastic
from experiments.harness.files import compact
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
from tests.experiments.harness.records import same_again


def test_smoke_trains_and_judges(tmp_path) -> None:
    config = dataclasses.replace(PRESETS["smoke"], out=tmp_path)
    report = run(config)
    same_again(report, main, config)
    rows = {part: [row for row in report.rows if row["part"] == part] for part in PARTS}
    assert {row["method"] for row in rows["trained"]} == {"raw", "identity"}
    assert all(row["kl"] > 0 and 0 < row["best-of-4, judge"] < 1 for row in rows["trained"])
    # What needs no training holds at any size.
    assert [claim.verdict for claim in report.claims[:1]] == ["sanity"]
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


def runs_of(method: str, lead: float) -> list[dict]:
    """Runs at two strengths, ahead of the middle by as much; prompts differ far more."""
    hard = np.linspace(-0.1, 0.1, 24)
    wobble = 0.01 * np.random.default_rng(len(method)).normal(size=24)
    wobble -= wobble.mean()
    made = []
    for kl in (0.45, 0.55):
        win = (0.6 + lead + hard + wobble).tolist()
        ways = [f"{kind}{who}" for kind in (*KINDS, "rejection") for who in ("", ", judge")]
        made.append({"method": method, "aim": kl, "kl": [kl] * 24} | dict.fromkeys(ways, win))
    return made


KINDS = ("standard", "best", "worst")
THEORY = [
    *curves((4,), (0.5,)),
    *heteroscedastic(40, 32, 1.0, 4, 0),
    *hacked(40, 32, 1.0, 4, 8.0, 0.125, 0),
]
CONFIG = PRESETS["cpu"]


def evidence(**leads: float) -> dict:
    """The paper's world, as a record keeps it; a fault is another lead of the best or the raw."""
    methods = {"exp(10)": 0.12, "-exp(-10)": 0.12, "identity": 0.05, "rejection optimum": 0.1}
    methods |= dict.fromkeys((*DISTILLED, *OTHERS), 0.0) | leads
    trained = [one for name, lead in methods.items() for one in runs_of(name, lead)]
    spoilt = [one for name in ("raw", "identity") for one in runs_of(name, 0.0)]
    for one in spoilt:
        loss = 0.2 if one["method"] == "raw" else 0.1
        one["standard, judge"] = [win - loss for win in one["standard"]]
    return compact(kept(THEORY, trained, spoilt))


def test_claims_hold_in_the_papers_world_and_fail_in_another() -> None:
    held = claims(CONFIG, evidence())
    verdicts = [claim.verdict for claim in held]
    assert verdicts == ["sanity", *["holds"] * 3, "sanity", *["holds"] * 14], held
    assert held[5].headline and held[5].claim.startswith("exp(10) wins 8 points and more above raw")
    for lead, verdict in ((0.08, "not resolved"), (0.05, "fails"), (-0.1, "fails")):
        found = claims(CONFIG, evidence(**{"exp(10)": lead}))
        assert [claim.verdict for claim in found[5:9]] == [verdict] * 4
    level = claims(CONFIG, evidence(identity=-0.02))
    assert [claim.verdict for claim in level[13:15]] == ["fails"] * 2
    swapped = evidence()
    for row in swapped["theory"]:
        if row["part"] in ("tables", "hacked"):
            row["each"] = {name: [1 - win for win in wins] for name, wins in row["each"].items()}
    assert [claim.verdict for claim in claims(CONFIG, swapped)[1:4]] == ["fails"] * 3


def test_a_record_keeps_what_is_judged_and_no_more() -> None:
    found = evidence()
    kept_of = {
        run["method"]: set(run) - {"method", "aim", "kl", *KINDS} for run in found["trained"]
    }
    assert kept_of["exp(10)"] == {"best, judge"} and kept_of["identity"] == {"standard, judge"}
    assert "rejection" in kept_of["raw"] and kept_of["GRPO"] == {"best, judge", "worst, judge"}
    assert {row["method"] for row in found["theory"] if row["part"] == "hacked"} == {
        "raw", "identity",
    }  # fmt: skip


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
