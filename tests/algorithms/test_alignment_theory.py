"""The theory of inference-aware alignment: closed forms, fixed points, ties, estimators."""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import exp1, expi

from algorithms.alignment import estimators, mixture, tabular
from algorithms.alignment.fixed_point import FixedPoint, fixed_point, fixed_point_at, image
from algorithms.alignment.procedures import BestOf, Procedure, Single, Top, WorstOf
from algorithms.alignment.tilt import (
    best_of_n,
    beta_of,
    identity,
    inference_win,
    logarithm,
    tilt,
)
from algorithms.alignment.transforms import Exponential, Function, Identity, Log, Power, tabulate

BASE = np.array([0.4, 0.3, 0.2, 0.1])
REWARD = np.array([0.0, 1.0, 1.0, 2.0])


@pytest.mark.parametrize("procedure", [Single(), BestOf(4), WorstOf(3), Top(0.25)])
def test_a_policy_against_itself_wins_half(procedure: Procedure) -> None:
    """On the continuum, and on responses with ties; and the calibrated reward has mean 1/2."""
    assert inference_win(np.linspace(0, 1, 20_001), procedure) == pytest.approx(0.5, abs=1e-4)
    assert tabular.win(BASE, BASE, REWARD, procedure) == pytest.approx(0.5, abs=1e-12)
    assert BASE @ tabular.calibrate(BASE, REWARD) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("samples", "win", "kl"),
    [
        (2, 0.666667, 0.193147),
        (4, 0.8, 0.636294),
        (8, 0.888889, 1.204442),
        (32, 0.969697, 2.496986),
    ],
)
def test_the_best_of_n_policy(samples: int, win: float, kl: float) -> None:
    """It is the log tilt at beta = 1 / (N - 1), and with ties its win rate and KL are smaller."""
    assert best_of_n(samples) == pytest.approx((win, kl), abs=1e-6)
    law = tilt(Log(), 1 / (samples - 1))
    assert (law.standard, law.kl) == pytest.approx((win, kl), abs=1e-5)
    best = tabular.apply(BestOf(samples), BASE, REWARD)
    assert tabular.win(best, BASE, REWARD, Single()) < win
    assert tabular.kl(best, BASE) < kl


@pytest.mark.parametrize(
    ("beta", "win", "kl"),
    [(1, 0.581977, 0.040652), (0.5, 0.656518, 0.151596), (0.2, 0.806784, 0.650117)],
)
def test_the_identity_transform(beta: float, win: float, kl: float) -> None:
    law = tilt(Identity(), beta)
    assert identity(beta) == pytest.approx((win, kl), abs=1e-6)
    assert (law.standard, law.kl) == pytest.approx((win, kl), abs=1e-6)


def test_the_identity_under_best_and_worst_of_four() -> None:
    for beta, best, worst in [(0.5, 0.687183, 0.723024), (0.1, 0.907139, 0.991470)]:
        law = tilt(Identity(), beta)
        assert (law.win(BestOf(4)), law.win(WorstOf(4))) == pytest.approx((best, worst), abs=1e-6)


def test_the_log_transform_and_its_mirror() -> None:
    for m, second, fourth in [(2, 0.733333, 0.802020), (4, 0.888889, 0.952987)]:
        law = tilt(Log(), 1 / (m - 1))
        for n in (1, 2, 4, 8):
            assert law.win(BestOf(n)) == pytest.approx(m / (m + 1), abs=1e-6)
            assert logarithm(1 / (m - 1), n) == pytest.approx((m / (m + 1), law.kl), abs=1e-5)
        assert law.win(WorstOf(2)) == pytest.approx(second, abs=1e-6)
        assert law.win(WorstOf(4)) == pytest.approx(fourth, abs=1e-6)
    c, u = 0.5, np.linspace(0, 1, 20_001)
    for n in (1, 2, 4):
        assert inference_win(1 - (1 - u) ** c, WorstOf(n)) == pytest.approx(1 / (1 + c), abs=1e-6)
    kl = quad(lambda s: c * s ** (c - 1) * math.log(c * s ** (c - 1)), 0, 1)[0]
    assert kl == pytest.approx(math.log(c) - 1 + 1 / c, abs=1e-6)


def test_the_exponential_transform() -> None:
    law = tilt(Exponential(-5), 0.1)
    found = (law.standard, law.kl, law.win(WorstOf(2)), law.win(WorstOf(4)))
    assert found == pytest.approx((0.725286, 0.399617, 0.826538, 0.917844), abs=1e-6)
    down = exp1(math.exp(-5) / 0.1) - exp1(1 / 0.1)
    assert law.log_partition == pytest.approx(math.log(down / 5), abs=1e-5)
    up = (expi(math.exp(5) / 47.948) - expi(1 / 47.948)) / 5
    assert tilt(Exponential(5), 47.948).log_partition == pytest.approx(math.log(up), abs=1e-5)


# procedure, beta -> W, KL, standard win rate, density at 1 (best) or at 0 (worst).
SOLVED = [
    (BestOf(2), 0.5, (0.709733, 0.184125, 0.656774, 3.83893)),
    (BestOf(4), 1.0, (0.689661, 0.082702, 0.585996, 3.75864)),
    (BestOf(4), 0.5, (0.779156, 0.211934, 0.635624, 7.23325)),
    (BestOf(4), 0.2, (0.880569, 0.535163, 0.708766, 18.6114)),
    (BestOf(8), 0.5, (0.846094, 0.214228, 0.603464, 14.5375)),
    (WorstOf(2), 0.5, (0.764988, 0.245718, 0.683646, 0.0599507)),
    (WorstOf(4), 0.5, (0.875151, 0.281578, 0.669458, 0.00120699)),
    (WorstOf(4), 0.2, (0.950000, 0.510314, 0.737104, 9.3e-9)),
]


@pytest.fixture(scope="module")
def solved() -> list[FixedPoint]:
    return [fixed_point(procedure, beta, 40_001) for procedure, beta, _ in SOLVED]


def test_fixed_points_are_the_known_ones(solved: list[FixedPoint]) -> None:
    for point, (procedure, _, (win, kl, standard, end)) in zip(solved, SOLVED, strict=True):
        assert point.residual < 1e-10
        found = (point.win, point.tilt.kl, point.tilt.standard)
        assert found == pytest.approx((win, kl, standard), abs=2e-6)
        at = 0 if isinstance(procedure, WorstOf) else -1
        assert point.tilt.density[at] == pytest.approx(end, rel=4e-3)


def test_fixed_points_obey_the_exact_identities(solved: list[FixedPoint]) -> None:
    for point in solved:
        tolerance = 4e-6 if point.procedure != BestOf(8) else 2e-5
        assert point.identities() == pytest.approx((point.win, point.tilt.kl), abs=tolerance)
    with pytest.raises(ValueError, match="identities for BestOf and WorstOf"):
        fixed_point(Single(), 0.5, nodes=101).identities()


def test_one_sample_makes_the_fixed_point_the_identity() -> None:
    for procedure in (Single(), BestOf(1), WorstOf(1)):
        point = fixed_point(procedure, 0.2, nodes=2001)
        grid = np.linspace(0, 1, 11)
        np.testing.assert_allclose(point(grid), grid - 1, atol=1e-12)


def test_the_undamped_iteration_cycles_and_is_not_called_converged() -> None:
    """With best-of-4 at beta = 0.2 it swings between two functions for ever."""
    swings: list[Any] = [np.zeros(501)]
    for _ in range(200):
        swings.append(image(swings[-1], BestOf(4), 0.2))
    assert np.ptp(swings[-1] - swings[-2]) > 0.1
    assert np.ptp(swings[-1] - swings[-3]) < 1e-9
    with pytest.raises(ArithmeticError, match=r"beta=0\.2.*after limit=25"):
        fixed_point(BestOf(4), 0.2, nodes=501, limit=25)
    assert fixed_point(BestOf(4), 0.2, nodes=501).damping < 1
    assert fixed_point(BestOf(8), 0.01, nodes=501).residual < 1e-10


def test_a_jump_in_the_density_puts_all_tilt_above_the_cut() -> None:
    point = fixed_point(Top(0.5), 1.0, nodes=2001, tolerance=2e-3)
    grid = np.linspace(0, 1, 2001)
    rise = np.diff(point.phi)
    assert np.ptp(point.phi[grid <= 0.5]) < 1e-9 and rise[-1] == pytest.approx(4 / 2000)
    assert point.win > max(tilt(phi, beta_of(point.tilt.kl, phi)).win(Top(0.5)) for phi in RISING)


RISING = (Identity(), Log(), Exponential(5), Exponential(-5))

# KL, N -> win rates at that KL: identity, log, exp 5 t, exp 10 t, fixed point, its beta and its
# standard win rate, for best-of-N (t = +1) and for worst-of-N (t = -1).
CURVES = {
    (0.25, 2): (
        (0.7198, 0.6902, 0.7386, 0.7249, 0.7393, 0.4052, 0.6814),
        (0.7486, 0.7637, 0.7635, 0.7473, 0.7671, 0.4942, 0.6852),
    ),
    (0.25, 4): (
        (0.7304, 0.6902, 0.7856, 0.7966, 0.7969, 0.4342, 0.6467),
        (0.7847, 0.8364, 0.8539, 0.8563, 0.8583, 0.5685, 0.6587),
    ),
    (0.5, 2): (
        (0.7917, 0.7682, 0.8154, 0.8031, 0.8156, 0.2340, 0.7497),
        (0.8403, 0.8559, 0.8587, 0.8509, 0.8603, 0.2805, 0.7585),
    ),
    (0.5, 4): (
        (0.7998, 0.7682, 0.8566, 0.8715, 0.8733, 0.2166, 0.7025),
        (0.8860, 0.9270, 0.9439, 0.9476, 0.9479, 0.2084, 0.7344),
    ),
    (0.5, 8): (
        (0.8036, 0.7682, 0.8747, 0.9037, 0.9299, 0.1698, 0.6543),
        (0.9116, 0.9710, 0.9871, 0.9920, 0.9929, 0.0568, 0.7174),
    ),
    (1.0, 2): (
        (0.8733, 0.8631, 0.8964, 0.8905, 0.8969, 0.1128, 0.8345),
        (0.9368, 0.9441, 0.9482, 0.9475, 0.9486, 0.1028, 0.8537),
    ),
    (1.0, 4): (
        (0.8770, 0.8631, 0.9192, 0.9351, 0.9411, 0.0831, 0.7737),
        (0.9745, 0.9859, 0.9912, 0.9927, 0.9929, 0.0282, 0.8389),
    ),
}


@pytest.mark.parametrize(("kl", "samples"), CURVES)
def test_the_analytic_curves(kl: float, samples: int) -> None:
    for sign, procedure, expected in zip(
        (1, -1), (BestOf(samples), WorstOf(samples)), CURVES[kl, samples], strict=True
    ):
        family = (Identity(), Log(), Exponential(5 * sign), Exponential(10 * sign))
        laws = [tilt(phi, beta_of(kl, phi, 4001), 4001) for phi in family]
        point = fixed_point_at(procedure, kl, 2001)
        found = [*(law.win(procedure) for law in laws), point.win]
        assert found == pytest.approx(expected[:5], abs=5e-4)
        assert (point.beta, point.tilt.standard) == pytest.approx(expected[5:], abs=5e-4)
        assert max(found) == point.win


def test_betas_of_a_kl_and_standard_win_rates() -> None:
    for phi, beta, standard in [
        (Identity(), 0.24281, 0.7737),
        (Log(), 0.43207, 0.7682),
        (Exponential(5), 47.948, 0.7461),
        (Exponential(10), 7011.9, 0.7117),
    ]:
        found = beta_of(0.5, phi)
        assert found == pytest.approx(beta, rel=1e-4)
        assert tilt(phi, found).standard == pytest.approx(standard, abs=1e-4)
    assert beta_of(0.5, Exponential(-5)) == pytest.approx(0.070295, rel=1e-4)
    assert beta_of(0.5, Exponential(-10)) == pytest.approx(0.011511, rel=1e-3)
    with pytest.raises(ValueError, match="kl=60 nats is not reached"):
        beta_of(60, Identity())


def test_the_power_transform_is_not_the_optimum_of_best_of_n() -> None:
    power = Power(4)
    law = tilt(power, beta_of(0.5, power))
    assert law.win(BestOf(4)) < fixed_point_at(BestOf(4), 0.5, 2001).win - 0.005


def test_ties_by_hand() -> None:
    np.testing.assert_allclose(tabular.calibrate(BASE, REWARD), [0.2, 0.65, 0.65, 0.95])
    best = tabular.apply(BestOf(4), BASE, REWARD)
    np.testing.assert_allclose(best, [0.0256, 0.3783, 0.2522, 0.3439])
    worst = tabular.apply(WorstOf(4), BASE, REWARD)
    np.testing.assert_allclose(worst, [0.8704, 0.0777, 0.0518, 0.0001])
    assert tabular.win(best, BASE, REWARD, Single()) == pytest.approx(0.74165)
    assert tabular.kl(best, BASE) == pytest.approx(0.500624, abs=1e-6)
    policy = tabular.tilted(BASE, tabular.calibrate(BASE, REWARD), 0.5)
    np.testing.assert_allclose(policy, [0.192496, 0.355097, 0.236731, 0.215676], atol=1e-6)
    wins = [tabular.win(policy, BASE, REWARD, p) for p in (Single(), BestOf(4), WorstOf(4))]
    assert wins == pytest.approx((0.628080, 0.643230, 0.647912), abs=1e-6)
    assert tabular.kl(policy, BASE) == pytest.approx(0.124768, abs=1e-6)


TIED = [
    (BestOf(4), 0.5, (0.298402, 0.239965, 0.159977, 0.301656), 0.709576),
    (BestOf(4), 0.2, (0.242425, 0.199634, 0.133090, 0.424851), 0.773605),
    (WorstOf(4), 0.5, (0.014246, 0.492687, 0.328458, 0.164609), 0.907312),
]


@pytest.mark.parametrize(("procedure", "beta", "policy", "win"), TIED)
def test_the_fixed_point_with_ties(procedure, beta, policy, win) -> None:
    """It is the known one, satisfies the coupled equations, and nothing random beats it."""
    found, reward = tabular.fixed_point(procedure, BASE, REWARD, beta)
    np.testing.assert_allclose(found, policy, atol=1e-6)
    assert tabular.win(found, BASE, REWARD, procedure) == pytest.approx(win, abs=1e-6)
    if beta == 0.5 and procedure == BestOf(4):
        np.testing.assert_allclose(reward, [0, 0.034866, 0.034866, 0.698571], atol=1e-6)
        assert tabular.kl(found, BASE) == pytest.approx(0.156323, abs=1e-6)

    def objective(policy):
        return tabular.win(policy, BASE, REWARD, procedure)

    slope = np.asarray(jax.grad(objective)(jnp.asarray(found)), np.float64)
    np.testing.assert_allclose(slope - slope.min(), reward, atol=1e-5)

    rng = np.random.default_rng(0)
    top = objective(found) - beta * tabular.kl(found, BASE)
    for other in rng.dirichlet(np.ones(4), 5000):
        assert objective(other) - beta * tabular.kl(other, BASE) < top


def test_calibration_forgets_the_scale_of_a_reward() -> None:
    """Every strictly increasing map leaves the calibrated policy as it is, and no raw one."""
    rng = np.random.default_rng(1)
    base, reward = rng.dirichlet(np.ones(12)), rng.normal(size=12)
    calibrated = tabular.calibrate(base, reward)
    raw = tabular.tilted(base, reward, 0.5)
    for mapped in (np.exp(reward), 7 * reward - 3, reward**3):
        np.testing.assert_array_equal(tabular.calibrate(base, mapped), calibrated)
        for procedure in (BestOf(4), WorstOf(4)):
            np.testing.assert_array_equal(
                tabular.fixed_point(procedure, base, mapped, 0.5)[0],
                tabular.fixed_point(procedure, base, reward, 0.5)[0],
            )
        assert np.abs(tabular.tilted(base, mapped, 0.5) - raw).max() > 0.01


def test_win_rates_from_samples_are_means_over_all_subsets() -> None:
    rng = np.random.default_rng(2)
    policy, base = rng.integers(0, 4, (2, 5)) + 0.0, rng.integers(0, 4, (2, 4)) + 0.0
    rules: list[tuple[estimators.Rule, Any]] = [("best", max), ("worst", min)]
    for rule, choose in rules:
        expected = [
            np.mean(
                [
                    estimators.win(choose(mine), choose(theirs))
                    for mine in itertools.combinations(one, 3)
                    for theirs in itertools.combinations(other, 3)
                ]
            )
            for one, other in zip(policy, base, strict=True)
        ]
        np.testing.assert_allclose(estimators.inference_win(policy, base, 3, rule), expected)
    # With as many samples as the procedure draws, it is the procedure itself.
    whole = estimators.inference_win(policy[:, :4], base, 4)
    np.testing.assert_allclose(whole, estimators.win(policy[:, :4].max(1), base.max(1)))


def test_win_rates_from_samples_are_unbiased() -> None:
    """Against the exact rate of a policy with ties, to four standard errors."""
    rng = np.random.default_rng(3)
    policy = np.array([0.1, 0.2, 0.3, 0.4])
    rules: list[tuple[Procedure, estimators.Rule]] = [(BestOf(4), "best"), (WorstOf(4), "worst")]
    for procedure, rule in rules:
        mine = REWARD[rng.choice(4, (3000, 8), p=policy)]
        theirs = REWARD[rng.choice(4, (3000, 6), p=BASE)]
        found = estimators.inference_win(mine, theirs, 4, rule)
        exact = tabular.win(policy, BASE, REWARD, procedure)
        assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(3000)
        assert abs(found.mean() - tabular.win(policy, BASE, REWARD, Single())) > 0.02


def test_a_judge_decides_over_what_the_reward_chose() -> None:
    policy, base = np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]])
    found = estimators.inference_win(
        policy, base, 2, "best", policy_judged=np.array([[5.0, 0.0]]), base_judged=base
    )
    assert found == [0.0]


def test_nothing_is_won_against_no_number() -> None:
    found = estimators.win(np.array([1.0, 1.0, np.nan, 1.0]), np.array([0.0, 1.0, 0.0, np.nan]))
    np.testing.assert_array_equal(found, [1.0, 0.5, np.nan, np.nan])


NONE, ZEROS = np.array([[np.nan, 1.0]]), np.zeros((1, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((1, 2)), np.zeros((1, 4)), 3), "best_of=3 must lie in 1..samples=2"),
        ((NONE, ZEROS, 2), "policy: 1 rewards are not finite"),
        ((ZEROS, NONE, 2), "base: 1 rewards are not finite"),
        ((ZEROS, ZEROS, 2, "best", NONE), "policy_judged: 1 rewards are not finite"),
        ((ZEROS, ZEROS, 2, "best", None, NONE), "base_judged: 1 rewards are not finite"),
        ((np.zeros((1, 2)), np.zeros((1, 2)), 2, "middle"), "rule='middle' must be"),
    ],
)
def test_bad_samples_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimators.inference_win(*arguments)


@pytest.mark.parametrize("procedure", [BestOf(4), WorstOf(4), Single()])
def test_a_procedure_is_found_from_samples(procedure: Procedure) -> None:
    """From 4000 quantiles of 32 rollouts each: its law, and the optimum it leads to."""
    rng = np.random.default_rng(4)
    grid = np.linspace(0, 1, 4001)
    quantile = np.interp(rng.random(4000), procedure.cdf(grid), grid)
    found = mixture.estimate(rng.binomial(32, quantile) / 32, 32)
    assert np.abs(found.cdf(grid) - procedure.cdf(grid)).max() < 0.025
    blurred = mixture.estimate(rng.binomial(32, quantile) / 32, 10**6, degree=8)
    if procedure != Single():  # taken at face value, blurred quantiles give another law
        errors = [
            np.abs(m.density(grid) - procedure.density(grid)).mean() for m in (found, blurred)
        ]
        assert errors[0] < errors[1]
    mine, best = fixed_point_at(found, 0.5, 2001), fixed_point_at(procedure, 0.5, 2001)
    assert mine.tilt.win(procedure) > best.win - 2e-3


def test_what_no_procedure_can_be_is_refused() -> None:
    with pytest.raises(ValueError, match="3 of them do not tell degree=8"):
        mixture.estimate(np.zeros(3), 32)
    with pytest.raises(ValueError, match=r"quantiles\[1\]=nan is not in"):
        mixture.estimate(np.array([0.5, np.nan]), 32, degree=2)
    for make, message in [
        (lambda: BestOf(0), "samples=0"),
        (lambda: Top(1.0), "cut=1.0 must lie in"),
        (lambda: Exponential(0), "t=0: the transform is constant"),
        (lambda: tilt(Identity(), 0.0), "beta=0.0: the strength"),
        (lambda: tabulate(Log(), 5), "its value at quantile 0 is -inf"),
        (lambda: tabulate(Function(lambda u: 1 / (u - 0.5)), 5), "its value at quantile 0.5"),
    ]:
        with pytest.raises(ValueError, match=message), np.errstate(divide="ignore"):
            make()
