"""Policies and halt rules: known schedules, rows on their own, and what drafts come of them."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.drafters.chain import Chain, Evidence
from algorithms.speculative.policies.confidence import Confidence
from algorithms.speculative.policies.cost_aware import CostAware
from algorithms.speculative.policies.fixed import Fixed
from algorithms.speculative.policies.foresight import Foreseen, Product, evenness
from algorithms.speculative.policies.heuristic import Heuristic
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.speculate import Speculator
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM

ALL = jnp.ones((1,), bool)
FLAT = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def rounds(policy, accept, count: int) -> list[int]:
    """Limits of `count` rounds of one row that accepts `accept(round, limit)` tokens."""
    state, limits = policy.init(1), []
    for index in range(count):
        limit = int(policy.limit(state)[0])
        limits.append(limit)
        if limit == 0:
            state = policy.rest(state, ALL)
            continue
        taken = jnp.array([accept(index, limit)], jnp.int32)
        state = policy.update(state, jnp.array([limit], jnp.int32), taken, ALL)
    return limits


def test_the_heuristic_schedule() -> None:
    accepted = [5, 7, 3, 0, 0, 0, 0, 0, 0, 1, 3]
    found = rounds(Heuristic(), lambda index, _: accepted[index], len(accepted))
    assert found == [5, 7, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert rounds(Heuristic(1), lambda index, _: 0, 3) == [1, 1, 1]


def test_a_fixed_depth_stays() -> None:
    assert rounds(Fixed(3), lambda index, limit: index % 2, 4) == [3] * 4


@pytest.mark.parametrize(
    ("alpha", "drafting", "depth"),
    # Best depths for unit passes by hand: argmax of (1 - a^(d+1)) / (1 - a) / (1 + drafting d).
    [(0.8, 0.1, 6), (0.8, 0.2, 4), (0.6, 0.2, 2), (0.6, 1 / 3, 1), (0.1, 0.2, 0)],
)
def test_the_depth_of_the_greatest_rate(alpha: float, drafting: float, depth: int) -> None:
    policy = CostAware(FLAT, drafting, acceptance=alpha)
    rate = [sum(alpha**i for i in range(d + 1)) / (1 + drafting * d) for d in range(len(FLAT))]
    state = policy.init(1)
    np.testing.assert_allclose(policy.rates(state.held, state.tested)[0], rate, 1e-5)
    assert int(np.argmax(rate)) == depth
    assert int(policy.best(state.held, state.tested)[0]) == depth


def test_dear_passes_make_shallow_drafts() -> None:
    dear = CostAware((2.0, 3.0, 6.0, 9.0), 0.0, acceptance=0.9)  # relative to its first
    np.testing.assert_allclose(dear.passes, [1.0, 1.5, 3.0, 4.5])
    assert int(dear.init(1).depth[0]) == 1


def test_a_row_that_rejects_rests_and_probes_at_multiples_of_growing_pauses() -> None:
    policy = CostAware(FLAT, 0.5, shortest=4, longest=16)
    limits = np.array(rounds(policy, lambda *_: 0, 80))
    drafts = np.flatnonzero(limits)
    assert drafts.tolist() == [0, 4, 8, 16, 32, 48, 64]
    assert (limits[drafts[-2:]] == 1).all()  # a probe is as shallow as it can be


def test_a_row_that_is_not_expected_to_gain_begins_by_resting() -> None:
    policy = CostAware(FLAT, 0.5, acceptance=0.2, shortest=4, longest=16)
    limits = np.array(rounds(policy, lambda *_: 0, 40))
    assert np.flatnonzero(limits).tolist() == [3, 7, 15, 31]


def test_a_probe_that_holds_ends_the_rest() -> None:
    policy = CostAware(FLAT, 0.3, fade=0.5)
    limits = rounds(policy, lambda index, limit: limit if index > 30 else 0, 70)
    assert 0 in limits[:30]
    assert min(limits[-10:]) == len(FLAT) - 1


def test_a_drafter_with_nothing_to_offer_is_left_alone_for_longer_and_longer() -> None:
    policy = CostAware(FLAT, 0.1, shortest=4)
    state = policy.init(1)
    none = jnp.zeros((1,), jnp.int32)
    limits = []
    for _ in range(40):
        limits.append(int(policy.limit(state)[0]))
        state = policy.update(state, none, none, ALL)
    assert np.flatnonzero(limits).tolist() == [0, 4, 8, 16, 32]


def test_rows_that_decide_together_go_by_the_acceptance_of_all() -> None:
    """One row of four whose drafts hold: alone it drafts on, together all of them rest."""
    drafted, accepted = jnp.full((4,), 2, jnp.int32), jnp.array([2, 0, 0, 0], jnp.int32)
    limits = {}
    for together in (False, True):
        policy = CostAware(FLAT, 0.5, together=together)
        state = policy.init(4)
        for _ in range(3):
            state = policy.update(state, drafted, accepted, jnp.ones((4,), bool))
        limits[together] = (policy.limit(state) > 0).tolist()
    assert limits == {False: [True, False, False, False], True: [False] * 4}


def test_rows_are_on_their_own() -> None:
    """A row's estimate ignores its neighbour, and does not move while it takes no part."""
    policy = CostAware(FLAT, 0.3)
    active = jnp.array([True, False])
    state = policy.init(2)
    for taken in (6, 0, 2):
        drafted = jnp.array([6, 6], jnp.int32)
        state = policy.update(state, drafted, jnp.array([taken, 1], jnp.int32), active)
    still = jax.tree.map(lambda x: x[1], state)
    assert jax.tree.leaves(still) == jax.tree.leaves(jax.tree.map(lambda x: x[0], policy.init(1)))
    held = 0.9 * (0.9 * (0.9 * 1.2 + 6) + 0) + 2
    tested = 0.9 * (0.9 * (0.9 * 2 + 6) + 1) + 3
    np.testing.assert_allclose([state.held[0], state.tested[0]], [held, tested], 1e-5)


def halted(halt, laws, hidden) -> int:
    """Tokens of a draft of one row under a halt rule."""
    state = halt.init(1)
    for index, (law, h) in enumerate(zip(laws, hidden, strict=True)):
        evidence = Evidence(
            jnp.asarray(index), jnp.array([law]), jnp.zeros((1,), jnp.int32), jnp.array([h])
        )
        state, last = halt(state, evidence)
        if bool(last[0]):
            return index + 1
    return len(laws)


LAWS = [[0.9, 0.1], [0.8, 0.2], [0.5, 0.5], [0.6, 0.4]]


def test_confidence_looks_at_one_token_and_products_at_all() -> None:
    hidden = [[0.0]] * 4
    assert halted(Confidence(0.6), LAWS, hidden) == 3
    assert halted(Confidence(0.5), LAWS, hidden) == 4  # 0.5 is not below it
    assert halted(Product(0.25), LAWS, hidden) == 2  # 1 - 0.72
    assert halted(Product(0.3), LAWS, hidden) == 3  # 1 - 0.36
    assert halted(Product(0.25, least=4), LAWS, hidden) == 4
    assert halted(Product(0.45, factor=evenness), LAWS, hidden) == 2  # exp(-0.325 - 0.500)


def test_the_head_sees_tokens_that_were_read() -> None:
    """P of token i is known once it was read, which is when token i + 1 is drawn."""

    def head(hidden):
        return hidden[:, 0]

    accepted = [[0.0], [0.9], [0.9], [0.2]]  # the root's own factor does not count
    assert halted(Foreseen(head, 0.15, least=1), LAWS, accepted) == 3  # 1 - 0.81
    assert halted(Foreseen(head, 0.3, least=1), LAWS, accepted) == 4
    assert halted(Foreseen(head, -1.0, least=2), LAWS, accepted) == 2
    assert halted(Foreseen(head, 1.0, least=1), LAWS, accepted) == 4


TARGET = EnumerableLM.random(3, 5)
PROMPT = Prompt.of([[1, 2, 3], [4], [2, 2]], [7, 2, 9], 4)


TRACES = []


@jax.jit
def run(decoder, key):
    TRACES.append(type(decoder.generator.policy))
    return decoder(key, PROMPT)


def test_depths_bound_what_is_drafted() -> None:
    """The drafter's own length and the policy's bound: whichever is less, in one program."""
    generator = Generator(TARGET, Temperature(1.0), Categorical(), Stop.of(()), 12)
    spec = Speculator(generator, Chain(TARGET, 4), Residual(), Fixed(2))
    two, nine = (
        run(Autoregressive(replace(spec, policy=Fixed(depth))), jax.random.key(0))
        for depth in (2, 9)
    )
    # The draft is the target: every draft token holds.
    np.testing.assert_array_equal(two.usage.target_passes - nine.usage.target_passes, [1] * 3)
    np.testing.assert_array_equal(two.usage.histogram.sum(0), [0, 0, 12, 0, 0])
    assert nine.usage.histogram[:, 4].sum() >= 6
    assert TRACES.count(Fixed) == 1


def test_useless_drafts_are_soon_left_off() -> None:
    """With a draft model that is never right, the target runs hardly more tokens than needed."""
    generator = Generator(TARGET, Temperature(1.0), Categorical(), Stop.of(()), 60)
    wrong = replace(TARGET, head=-4 * TARGET.head, bias=-4 * TARGET.bias)
    costs = CostAware((1.0, 1.1, 1.2, 1.3), 0.6)
    found = run(
        Autoregressive(Speculator(generator, Chain(wrong, 3), Residual(), costs)), jax.random.key(1)
    )
    assert (found.length == 60).all()
    assert (found.usage.drafted < 30).all()
    histogram = np.asarray(found.usage.histogram)
    assert (histogram.sum(1) <= 60).all()


def test_bad_input_is_refused() -> None:
    for wrong in (
        lambda: Fixed(0),
        lambda: Heuristic(0),
        lambda: CostAware((1.0,), 0.1),
        lambda: CostAware((1.0, -1.0), 0.1),
        lambda: CostAware(FLAT, -0.1),
        lambda: CostAware(FLAT, 0.1, acceptance=1.5),
        lambda: CostAware(FLAT, 0.1, shortest=0),
        lambda: CostAware(FLAT, 0.1, longest=0),
        lambda: Confidence(1.5),
        lambda: Product(-0.1),
        lambda: Product(least=0),
        lambda: Foreseen(None, least=0),
    ):
        with pytest.raises(ValueError, match="="):
            wrong()
