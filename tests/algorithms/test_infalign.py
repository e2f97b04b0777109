"""Calibrate, transform, optimise: each step, and what comes out of all three."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from algorithms.alignment import base, tabular
from algorithms.alignment.adversary import worst_of_n
from algorithms.alignment.calibration import Calibration, Quantiles, fingerprint
from algorithms.alignment.closed_form import closed_form
from algorithms.alignment.infalign import (
    Plan,
    calibrate,
    deployed,
    infalign,
    optimal,
    quantiles,
)
from algorithms.alignment.mixture import estimate
from algorithms.alignment.optimising import order
from algorithms.alignment.procedures import BestOf, Single, WorstOf
from algorithms.alignment.transforms import Exponential, Identity, noise
from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.self_certainty import SelfCertainty, Voting
from algorithms.selection.speculative_rejection import SpeculativeRejection
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import TopP
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.sampling import Greedy
from jaxdecode.scoring import FunctionScorer
from jaxdecode.train.policy_gradient import GroupRelative
from jaxdecode.types import Array, Key
from tests.jaxdecode.train import bigrams

BASE = bigrams.random()
GENERATOR = bigrams.generator(BASE)
# No ties, and a scale that only calibration forgets.
WORTH = np.exp(3 * np.random.default_rng(1).normal(size=64)).astype(np.float32)
PROMPTS = [[bigrams.START]] * 8


def worth(prompt, prompt_length, tokens, length):
    return jnp.asarray(WORTH)[tokens[:, 0] * bigrams.WORDS + tokens[:, 1]]


def signed(sign: float) -> FunctionScorer:
    """Functions of one name that differ in what they close over."""
    return FunctionScorer(lambda *given: sign * worth(*given))


SCORER = FunctionScorer(worth)
PLAN = Plan(samples=128, steps=400, optimizer=optax.adam(optax.linear_schedule(0.08, 0.0, 400)))


@pytest.fixture(scope="module")
def drawn() -> base.Responses:
    return base.draw(GENERATOR, SCORER, PROMPTS, PLAN.samples, 0, batch=8)


@pytest.fixture(scope="module")
def table(drawn: base.Responses) -> Calibration:
    return Calibration.of(drawn.reward, fingerprint(GENERATOR, SCORER, PROMPTS, 0))


def test_quantiles_are_mid_ranks_with_half_ties() -> None:
    rewards = jnp.array([[0.0, 1.0, 1.0, 2.0], [5.0, 6.0, jnp.inf, jnp.inf]])
    table = Quantiles(rewards, jnp.array([4, 2]))
    ids = jnp.array([0, 0, 0, 0, 1, 1, 0])
    found = table(ids, jnp.array([-1.0, 0.0, 1.0, 9.0, 5.5, 6.0, jnp.nan]))
    np.testing.assert_allclose(found, [0, 0.125, 0.5, 1, 0.5, 0.75, np.nan])


def test_quantiles_are_unbiased_and_average_to_one_half(table: Calibration) -> None:
    """Over the base policy, every response's exact quantile, to four standard errors."""
    law = BASE.law()
    exact = tabular.calibrate(law, WORTH.astype(np.float64))
    ids = jnp.repeat(jnp.arange(8), 64)
    found = np.asarray(table.quantiles(ids, jnp.tile(jnp.asarray(WORTH), 8))).reshape(8, 64)
    error = np.sqrt(exact * (1 - exact) / PLAN.samples / 8) + 1e-6
    assert np.abs((found.mean(axis=0) - exact) / error).max() < 4
    own = np.asarray(table.quantiles(jnp.arange(8).repeat(128), table.quantiles.rewards.ravel()))
    assert own.mean() == pytest.approx(0.5, abs=1e-6)


def test_a_monotone_map_of_the_reward_changes_no_quantile(drawn: base.Responses) -> None:
    plain = Calibration.of(drawn.reward, "").quantiles
    logged = Calibration.of(np.log(drawn.reward), "").quantiles
    ids, some = jnp.zeros(64, jnp.int32), jnp.asarray(WORTH)
    np.testing.assert_array_equal(plain(ids, some), logged(ids, jnp.asarray(np.log(WORTH))))


def test_convex_transforms_are_biased_as_they_must_be() -> None:
    """E exp(t C_hat) / exp(t C) at C = 1/2; and what the noise does to each transform."""
    for t, samples, ratio in [(10, 8, 4.35), (10, 32, 1.476), (10, 100, 1.133), (5, 32, 1.103)]:
        wins = np.random.default_rng(0).binomial(samples, 0.5, 400_000) / samples
        phi = Exponential(t)
        expected = (0.5 + 0.5 * np.exp(t / samples)) ** samples / np.exp(t / 2)
        assert expected == pytest.approx(ratio, rel=1e-3)
        assert phi(wins).mean() / phi(0.5) == pytest.approx(ratio, rel=0.02)
    assert noise(Identity(), 100) == pytest.approx(1 / 51, rel=1e-3)
    assert noise(Exponential(10), 8) > noise(Exponential(5), 8) > noise(Identity(), 8)


def test_too_few_rollouts_are_warned_of() -> None:
    table = Calibration.of(np.arange(8.0)[None], "")
    with pytest.warns(UserWarning, match=r"samples=8 .* leave 40 % of the variance of Exponential"):
        table.warn(Exponential(10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Calibration.of(np.arange(100.0)[None], "").warn(Exponential(10))


def test_a_table_is_stored_and_refused_under_other_conditions(tmp_path, table) -> None:
    path = tmp_path / "calibration.npz"
    table.save(path)
    again = Calibration.load(path, fingerprint(GENERATOR, SCORER, PROMPTS, 0))
    np.testing.assert_array_equal(again.quantiles.rewards, table.quantiles.rewards)
    assert again.samples == 128
    other = bigrams.generator(bigrams.random(5))
    marks = {
        fingerprint(other, SCORER, PROMPTS, 0),
        fingerprint(replace(GENERATOR, transform=TopP(0.9)), SCORER, PROMPTS, 0),
        fingerprint(replace(GENERATOR, max_tokens=1), SCORER, PROMPTS, 0),
        fingerprint(GENERATOR, SCORER, PROMPTS[1:], 0),
        fingerprint(GENERATOR, SCORER, PROMPTS, 1),
        fingerprint(GENERATOR, signed(-1.0), PROMPTS, 0),
        fingerprint(GENERATOR, signed(1.0), PROMPTS, 0),
    }
    assert len(marks) == 7 and table.fingerprint not in marks
    for mark in marks:
        with pytest.raises(ValueError, match="made under another base policy, sampling"):
            Calibration.load(path, mark)
    # The growth of the cache changes no draw.
    assert fingerprint(replace(GENERATOR, cache_growth=2), SCORER, PROMPTS, 0) == table.fingerprint


def test_a_base_response_without_a_reward_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rewards\[0, 1\]=nan: response 1 to prompt 0"):
        Calibration.of(np.array([[0.0, np.nan]]), "")


def test_worst_of_n_is_the_best_by_minus_the_reward(drawn: base.Responses) -> None:
    block, _ = next(base.blocks(PROMPTS, 8))
    result = jax.device_get(decode(worst_of_n(GENERATOR, SCORER, 128), 0, block))
    np.testing.assert_allclose(-result.trace.score.max(axis=1), drawn.reward.min(axis=1))


def test_extremes_are_those_of_the_samples_drawn(drawn: base.Responses) -> None:
    prompts = np.array([0, 3, 3])
    best, worst = drawn.extremes(prompts, 128, np.random.default_rng(0))
    np.testing.assert_array_equal(best, drawn.reward[prompts].argmax(axis=1))
    few = [drawn.extremes(prompts, 2, np.random.default_rng(seed)) for seed in range(20)]
    for best, worst in few:
        assert (drawn.reward[prompts, best] >= drawn.reward[prompts, worst]).all()
    assert len({tuple(best) for best, _ in few}) > 15


def test_decoders_with_a_closed_form_are_known() -> None:
    def known(procedure):
        return closed_form(procedure, SCORER, GENERATOR)

    assert known(BestOfN(GENERATOR, SCORER, 4)) == BestOf(4)
    assert known(BestOfN(replace(GENERATOR, cache_growth=2), SCORER, 4)) == BestOf(4)
    assert known(worst_of_n(GENERATOR, SCORER, 3)) == WorstOf(3)
    assert known(BestOfN(GENERATOR, FunctionScorer(jnp.add), 4)) is None
    assert known(Single()) == Single()
    # Draws of another law have other quantiles.
    for other in (
        replace(GENERATOR, transform=TopP(0.9)),
        replace(GENERATOR, sampler=Greedy()),
        replace(GENERATOR, max_tokens=1),
        bigrams.generator(bigrams.random(5)),
    ):
        assert known(BestOfN(other, SCORER, 4)) is None
        assert known(worst_of_n(other, SCORER, 4)) is None


@pytest.mark.parametrize("procedure", [BestOf(4), BestOf(16), WorstOf(64)])
def test_the_degree_is_that_of_the_samples(procedure) -> None:
    """Far out as near by, the law is recovered and nothing is warned of."""
    drawn = np.random.default_rng(0).random(240) ** (1 / procedure.samples)
    drawn = drawn if isinstance(procedure, BestOf) else 1 - drawn
    found = np.random.default_rng(1).binomial(100, drawn) / 100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        law = estimate(found, 100)
    grid = np.linspace(0, 1, 201)
    noise_of_240 = 1.36 / np.sqrt(240)  # of an empirical distribution, at 5 %
    assert np.abs(law.cdf(grid) - procedure.cdf(grid)).max() < noise_of_240
    if procedure.samples > 8:
        with pytest.warns(UserWarning, match="degree=8: 100 %"):
            near = estimate(found, 100, degree=8)
        assert np.abs(near.cdf(grid) - procedure.cdf(grid)).max() > 0.2


def test_what_cannot_be_told_apart_is_said() -> None:
    found = np.random.default_rng(0).random(240) ** (1 / 512)
    found = np.random.default_rng(1).binomial(100, found) / 100
    with pytest.warns(UserWarning, match="degree=128: 100 % .* may be further out"):
        estimate(found, 100)


def test_no_step_takes_a_prompt_twice() -> None:
    """It would draw the same responses twice; over the steps all come in turn."""
    plan = replace(PLAN, prompts=3, steps=40)
    steps = list(order(4, plan))
    assert all(len(set(step.tolist())) == 3 for step in steps)
    assert np.bincount(np.concatenate(steps)).tolist() == [30] * 4
    with pytest.raises(ValueError, match=r"plan.prompts=8 of a step, and there are 7: .* to 7 and"):
        infalign(GENERATOR, SCORER, PROMPTS[1:], 0.3, BestOf(4), plan=PLAN)


def test_any_other_decoder_is_estimated(table: Calibration) -> None:
    """Speculative rejection that rejects nothing is best-of-N, which nobody tells the estimate."""
    decoder: Any = SpeculativeRejection(GENERATOR, SCORER, budget=12, width=4, alpha=0.0)
    assert closed_form(decoder, SCORER, GENERATOR) is None
    plan = replace(PLAN, draws=60)
    found = estimate(quantiles(decoder, table, SCORER, PROMPTS, plan), table.samples)
    grid = np.linspace(0, 1, 101)
    assert np.abs(found.cdf(grid) - grid**4).max() < 0.05
    phi = optimal(decoder, table, GENERATOR, SCORER, PROMPTS, 0.5, plan)
    known = optimal(BestOf(4), table, GENERATOR, SCORER, PROMPTS, 0.5, plan)
    law = BASE.law()
    exact = tabular.calibrate(law, WORTH.astype(np.float64))
    wins = [
        tabular.win(tabular.tilted(law, t(exact), 0.5), law, WORTH, BestOf(4)) for t in (phi, known)
    ]
    assert wins[0] == pytest.approx(wins[1], abs=0.01)


def first_word(tokens, length):
    """An answer that some responses share."""
    return tokens[:, 0]


def test_a_vote_that_does_not_see_the_reward_is_estimated_too(table: Calibration) -> None:
    """Its law is neither one sample's nor best-of-4's, and has an increasing optimum."""
    decoder: Any = Voting(SelfCertainty(GENERATOR, 4), first_word)
    plan = replace(PLAN, draws=30)
    found = quantiles(decoder, table, SCORER, PROMPTS, plan)
    law = estimate(found, table.samples)
    assert found.shape == (240,) and law.samples == 240
    assert float(law.cdf(1.0)) == pytest.approx(1.0)
    grid = np.linspace(0, 1, 101)
    empirical = np.mean(found[:, None] <= grid, axis=0)
    assert np.abs(law.cdf(grid) - empirical).max() < 0.12
    phi = optimal(decoder, table, GENERATOR, SCORER, PROMPTS, 0.5, plan)
    assert (np.diff(np.asarray(phi.values)) >= 0).all() and np.ptp(phi.values) > 0.1


@struct.dataclass
class Middle:
    """The second best of three: a decoder of one's own."""

    generator: Generator
    scorer: FunctionScorer

    def check(self, prompt: Prompt) -> None:
        pass

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        result = BestOfN(self.generator, self.scorer, 3)(key, prompt)
        row = jnp.arange(prompt.batch)
        middle = jnp.argsort(result.trace.score, axis=1)[:, 1]
        tokens, length = result.trace.tokens[row, middle], result.trace.length[row, middle]
        return replace(result, tokens=tokens, length=length)


class SecondOfThree:
    """What theory says of it: 6 u (1 - u)."""

    def density(self, u):
        return 6.0 * u * (1.0 - u)

    def cdf(self, u):
        return u**2 * (3.0 - 2.0 * u)


def judged(policy: np.ndarray, procedure, beta: float) -> tuple[float, float]:
    """(what is maximised, win rate) of a policy over the 64 responses."""
    law = BASE.law()
    win = tabular.win(policy, law, WORTH, procedure)
    return win - beta * tabular.kl(policy, law), win


def test_a_policy_is_aligned_for_a_decoder_of_ones_own(tmp_path) -> None:
    """Which nobody says the law of: nearly the optimum of what theory says it does."""
    beta, plan = 0.3, replace(PLAN, draws=60)
    decoder: Any = Middle(GENERATOR, SCORER)
    policy = infalign(GENERATOR, SCORER, PROMPTS, beta, decoder, plan=plan, folder=tmp_path)
    best, _ = tabular.fixed_point(SecondOfThree(), BASE.law(), WORTH, beta)
    found, optimum = (judged(p, SecondOfThree(), beta) for p in (policy.law(), best))
    assert found[0] > optimum[0] - 0.015
    assert found[1] > judged(BASE.law(), SecondOfThree(), beta)[1] + 0.1


@pytest.mark.parametrize("procedure", [BestOf(4), WorstOf(4)])
def test_the_aligned_policy_wins_under_its_procedure(procedure, tmp_path) -> None:
    """Nearly as often as the exact optimum, at its KL; and the work is kept."""
    law, beta = BASE.law(), 0.3
    policy = infalign(GENERATOR, SCORER, PROMPTS, beta, procedure, plan=PLAN, folder=tmp_path)
    best, _ = tabular.fixed_point(procedure, law, WORTH, beta)
    found, optimum = judged(policy.law(), procedure, beta), judged(best, procedure, beta)
    assert found[0] > optimum[0] - 0.01
    assert found[1] > judged(law, procedure, beta)[1] + 0.2
    again = infalign(GENERATOR, SCORER, PROMPTS, beta, procedure, plan=PLAN, folder=tmp_path)
    np.testing.assert_array_equal(again.law(), policy.law())
    deploy = deployed(BestOfN(GENERATOR, SCORER, 4), policy)
    assert deploy.generator.model is policy


def test_another_run_does_not_go_on_in_its_folder(tmp_path) -> None:
    """Named by what differs: the strength, the optimiser, the seed, the procedure."""
    plan = replace(PLAN, steps=2, optimizer=optax.adam(0.1))

    def run(beta: Any = 0.3, samples: Any = None, **changes: Any):
        run_plan = replace(plan, **changes)
        procedure = BestOf(4) if samples is None else WorstOf(samples)
        return infalign(GENERATOR, SCORER, PROMPTS, beta, procedure, plan=run_plan, folder=tmp_path)

    policy = run()
    np.testing.assert_array_equal(run().law(), policy.law())
    run(steps=3)  # longer, and still the same
    others: list[tuple[dict[str, Any], str]] = [
        ({"beta": 0.4}, r"differs in data\[0\]: setting.beta, data\[0\]: setting.reward,"),
        ({"samples": 4}, r"differs in data\[0\]: setting.reward,"),
        ({"optimizer": optax.adam(0.2)}, "differs in optimizer;"),
        ({"learner": GroupRelative()}, "differs in loss, rollout;"),
        ({"group": 4}, r"differs in data\[0\]: setting.group, "),
    ]
    for changes, named in others:
        with pytest.raises(ValueError, match=f"policy holds another run: it {named}"):
            run(steps=3, **changes)


def test_arguments_that_contradict_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="procedure, transform: give exactly one"):
        infalign(GENERATOR, SCORER, PROMPTS, 0.5)
    with pytest.raises(ValueError, match="procedure, transform: give exactly one"):
        infalign(GENERATOR, SCORER, PROMPTS, 0.5, BestOf(2), Identity())
    filtered = replace(GENERATOR, transform=TopP(0.9))
    with pytest.raises(ValueError, match="transform=TopP and sampler=Categorical draw from"):
        infalign(filtered, SCORER, PROMPTS, 0.5, BestOf(2))
    with pytest.raises(ValueError, match="prompts: none given"):
        calibrate(GENERATOR, SCORER, [], PLAN)
    Calibration.of(np.zeros((1, 2)), "other").save(tmp_path / "calibration-128.npz")
    with pytest.raises(ValueError, match=r"calibration-128\.npz: this calibration was made under"):
        calibrate(GENERATOR, SCORER, PROMPTS, PLAN, tmp_path)
