"""A run is brought to the divergence that was asked for, whatever it did on its way."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from algorithms.alignment.align import Pair, Plan, align, check
from algorithms.alignment.by_pairs import LOOKS
from algorithms.alignment.by_reward import fixed_point_of
from algorithms.alignment.closed_form import closed_form
from algorithms.alignment.controlled import TRAVEL, Controlled, Held, aims, holding
from algorithms.alignment.estimators import inference_win
from algorithms.alignment.pairs import terms_near
from algorithms.alignment.procedures import BestOf, Single
from algorithms.alignment.reach import Place, divergences, hopeless, reach
from jaxdecode.plain import Autoregressive
from tests.algorithms.test_infalign import BASE, GENERATOR, PLAN, PROMPTS, SCORER
from tests.jaxdecode.train import bigrams

STEPS = [10, 20, 30, 40]


def run(speed: float, kl: float, begun: int = 0):
    """A weight that moves at one speed; the divergence is its square."""
    done = []

    def train(steps: int):
        done.append(steps)
        return jnp.float32(speed * steps)

    def measure(policy) -> float:
        return float(policy) ** 2

    place, seen = reach(jnp.float32(0.0), train, STEPS, kl, measure, begun)
    return place, seen, done


def test_a_run_is_gone_on_with_until_it_is_there() -> None:
    place, seen, done = run(0.03, 0.81)
    assert done == [10, 20, 30] and place.kl == pytest.approx(0.81) and len(seen) == 3
    place, _, done = run(0.03, 0.81, begun=25)
    assert done == [30] and place.steps == 30, "what a killed run had passed is not asked for"
    place, _, done = run(0.001, 0.81)
    assert done == [10, 20] and place.kl < 0.01, "and one that does not get on is left"


def test_one_that_went_too_far_is_brought_back() -> None:
    place, seen, done = run(0.2, 0.5)
    assert done == [10] and place.kl == pytest.approx(0.5, rel=0.15)
    assert 0 < place.line < 1 and place.line == pytest.approx(0.5**0.5 / 2, rel=0.1)
    assert seen[0].kl == pytest.approx(4.0) and seen[-1] is place


def test_a_run_without_hope_is_one_that_would_end_below_half() -> None:
    def at(*kls: float) -> list[Place]:
        return [Place(None, kl, steps) for kl, steps in zip(kls, STEPS, strict=False)]

    assert not hopeless(at(0.01), STEPS, 0.5)
    assert not hopeless(at(0.04, 0.16), STEPS, 0.5)
    assert hopeless(at(0.04, 0.05), STEPS, 0.5) and hopeless(at(0.2, 0.1), STEPS, 0.5)


def test_beta_follows_the_error_and_nothing_else_changes() -> None:
    """One step: log beta moves by its rate times the error, the policy as it would alone."""

    class Toy(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(jnp.asarray([1.0, 2.0]))

    class Learner:
        updates = 1

        def loss(self, model, gain):
            return -jnp.sum(gain * model.weight[...]), {}

    module, tx = Held(Toy(), 0.5), holding(optax.sgd(0.1), 50, 1)
    graph, params = nnx.split(module, nnx.Param)
    gain, error = jnp.asarray([1.0, -1.0]), jnp.float32(0.4)

    def loss(params):
        return Controlled(Learner()).loss(nnx.merge(graph, params), {"gain": gain}, error)[0]

    value, gradient = jax.value_and_grad(loss)(params)
    change, _ = tx.update(gradient, tx.init(params), params)
    moved = nnx.merge(graph, optax.apply_updates(params, change))
    assert float(value) == pytest.approx(1.0), "the loss is the learner's"
    np.testing.assert_allclose(moved.inner.weight[...], [1.1, 1.9], rtol=1e-6)
    assert moved.beta == pytest.approx(0.5 * np.exp(TRAVEL / 50 * 0.4), rel=1e-5)
    np.testing.assert_allclose([aims(0.6, 50, s)[0] for s in (0, 12, 24, 90)],
                               [0.024, 0.312, 0.6, 0.6], rtol=1e-5)  # fmt: skip


def test_the_divergence_is_the_exact_one() -> None:
    other = bigrams.random(5)
    exact = float(np.sum(other.law() * np.log(other.law() / BASE.law())))
    found = divergences(GENERATOR, other, PROMPTS, 256, 0)
    assert found.shape == (8,) and found.mean() == pytest.approx(exact, rel=0.1)
    assert divergences(GENERATOR, BASE, PROMPTS, 4, 0) == pytest.approx(np.zeros(8), abs=1e-6)


def test_the_base_may_have_another_number_of_samples() -> None:
    """Against all subsets."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(1, 5)), rng.normal(size=(1, 4))
    sides = [itertools.combinations(side[0], n) for side, n in ((one, 3), (other, 2))]
    wins = [max(a) > max(b) for a, b in itertools.product(*map(list, sides))]
    assert inference_win(one, other, 3, base_samples=2)[0] == pytest.approx(np.mean(wins))


def test_plain_decoding_is_one_sample() -> None:
    assert closed_form(Autoregressive(GENERATOR), SCORER, GENERATOR) == Single()


PAIRS = [Pair([1], [2, 3], [3, 2])]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "best"}, "method='best': use one of ctrl, rloo"),
        ({"kl": 0.0}, r"kl=0.0: the divergence to be reached is a positive number"),
        ({"kl": float("inf")}, "kl=inf"),
        ({"scorer": None}, "scorer: method 'ctrl' needs a reward; pass one"),
        ({"scorer": None, "method": "dpo"}, "method 'dpo' needs a reward or pairs"),
        ({"plan": Plan(prompts=9)}, "plan.prompts=9 of a step, and there are 8"),
        ({"plan": Plan(samples=1)}, "plan.samples=1: base responses are compared"),
        ({"method": "bonbon", "plan": Plan(samples=2)}, "base responses, and the best of 4"),
        ({"method": "rloo", "procedure": Single()}, "only method 'ctrl' is aligned for one that"),
    ],
    ids=lambda given: given if isinstance(given, str) else "-".join(given),
)
def test_what_cannot_be_aligned_is_refused(change, message) -> None:
    given = {"method": "ctrl", "kl": 0.5, "prompts": PROMPTS, "scorer": SCORER, "pairs": [],
             "procedure": None, "plan": PLAN}  # fmt: skip
    with pytest.raises(ValueError, match=message):
        check(**given | change)


def test_a_kl_that_no_transform_has_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"kl=80\.0: no transform of the reward was found for BestOf"
    ):
        fixed_point_of(BestOf(2), 80.0)


def test_own_pairs_need_no_reward() -> None:
    """Imitation of one response, until the policy is where it should be."""
    pairs = [Pair([bigrams.START], [3, 3], [1, 2])] * 8
    plan = Plan(prompts=4, group=4, steps=16, optimizer=optax.adam(0.05))
    found = align(GENERATOR, PROMPTS, 0.3, "sft", pairs=pairs, plan=plan)
    assert found.reached and found.kl == pytest.approx(0.3, rel=0.15) and found.beta is None
    law, word = found.policy.law(), 3 * bigrams.WORDS + 3
    assert law[word] > 2 * BASE.law()[word]
    assert {look.steps for look in found.looks} <= {round(16 * share) for share in LOOKS}


def test_losses_on_pairs_are_stronger_for_larger_divergences() -> None:
    """A smaller beta, a larger margin, and as many samples as were asked for."""
    near, far = (terms_near("dpo", 0.5, 4, strength) for strength in (1.0, 2.0))
    assert (near.scale, far.scale) == (4.0, 2.0)
    near, far = (terms_near("ipo", 0.25, 4, strength) for strength in (1.0, 2.0))
    assert (near.margin, far.margin) == (1.0, 2.0)
    near, far = (terms_near("bonbon", 0.5, 4, strength) for strength in (1.0, 2.0))
    own = 3 * (1 + 1 / 2 + 1 / 3)
    assert near.margin == pytest.approx(0.5 * own) and far.margin == pytest.approx(own)
    with pytest.raises(ValueError, match="'ctrl' has no loss on pairs"):
        terms_near("ctrl", 0.5, 4)
