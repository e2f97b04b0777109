"""Kangaroo: how long drafts are, what a round costs, perfect drafts, and a planted bias."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from algorithms.speculative.drafters.kangaroo import Kangaroo
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.draft import Draft
from jaxdecode.drafter import Now
from jaxdecode.lm import ModelCost
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.speculate import Speculator
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM
from jaxdecode.testing.statistics import p_value
from jaxdecode.types import Array, Float
from models.heads.kangaroo import Kangaroo as Adapter
from models.presets import small

TARGET = EnumerableLM.random(3, 5)
CONFIDENCE = (0.9, 0.8, 0.55, 0.99, 0.98, 0.97)
GAMMA = 6


@struct.dataclass
class Scripted:
    """An adapter with the same law at the same position, whatever the text.

    Attributes: table f32[M, V], log-laws from position `base` on.
    """

    table: Float[Array, "M V"]
    base: int = struct.field(pytree_node=False, default=0)

    layers = 0
    cost = ModelCost(1, 0, 0)

    @property
    def vocab_size(self) -> int:
        return self.table.shape[1]

    def init_cache(self, batch, capacity) -> None:
        return None

    def __call__(self, target, stream, cache, view):
        index = jnp.clip(view.position - self.base, 0, self.table.shape[0] - 1)
        return self.table[index], cache


def sure(confidence) -> Array:
    """Laws whose first choice, token 2, has these probabilities."""
    rest = [[(1 - c) / 4, (1 - c) / 4, c, (1 - c) / 4, (1 - c) / 4] for c in confidence]
    return jnp.log(jnp.array(rest, jnp.float32))


@jax.jit
def drafted(drafter: Kangaroo, limit) -> Draft:
    """The draft of a first round after a prompt of one token."""
    prompt = Prompt.of([[4]], width=1)
    cache = TARGET.init_cache(1, 1 + drafter.nodes + 2)
    zero = jnp.zeros((1,), jnp.int32)
    now = Now(
        root=prompt.tokens[:, 0],
        length=zero,
        emitted=zero,
        limit=limit,
        active=jnp.array([True]),
        cache=cache,
        transform=(),
        key=jax.random.split(jax.random.key(0), 1),
    )
    state = drafter.init(TARGET, prompt, jnp.zeros((1, 0, TARGET.width)), 8, 8)
    return drafter.propose(TARGET, state, now)[0]


@pytest.mark.parametrize(
    ("threshold", "length"), [(0.0, 6), (0.5, 6), (0.6, 3), (0.85, 2), (0.95, 1), (1.01, 1)]
)
def test_drafting_stops_after_the_first_token_it_is_not_sure_of(threshold, length):
    drafter = Kangaroo(Scripted(sure(CONFIDENCE)), GAMMA, threshold=threshold)
    draft = drafted(drafter, jnp.array([99]))
    assert int(draft.valid.sum()) == length
    assert int(draft.spent.passes[0]) == length  # of the adapter
    assert draft.begun is not None
    # The first layers have run on the root and on every draft, the last included.
    stream = np.asarray(draft.begun.hidden)[0]
    np.testing.assert_array_equal(np.any(stream != 0, axis=1), np.arange(GAMMA + 1) <= length)


def test_the_limit_of_a_policy_holds():
    drafter = Kangaroo(Scripted(sure(CONFIDENCE)), GAMMA, threshold=0.0)
    draft = drafted(drafter, jnp.array([2]))
    assert int(draft.valid.sum()) == 2


def test_a_tree_goes_on_while_its_best_node_is_sure():
    table = sure((0.9, 0.3, 0.9))
    wide = Kangaroo(Scripted(table), 3, 2, threshold=0.35)
    draft = drafted(wide, jnp.array([99]))
    np.testing.assert_array_equal(draft.shape.depth[0] * draft.valid[0], [1, 1, 2, 2, 0, 0])
    assert draft.tokens[0, 0] == 2
    # The path is less sure than its last node alone.
    table = sure((0.6, 0.6, 0.9))
    for path, levels in ((False, 3), (True, 2)):
        tree = Kangaroo(Scripted(table), 3, 2, path, threshold=0.5)
        assert int(drafted(tree, jnp.array([99])).shape.depth.max()) == levels


def test_a_perfect_adapter_is_always_accepted():
    """All layers shared and nothing adapted: the drafter is the target."""
    config = small(5, hidden=TARGET.width, layers=1, heads=2, mlp=8)
    perfect = Adapter(config, 1, kind="none", rngs=nnx.Rngs(0))
    generator = Generator(TARGET, Identity(), Greedy(), Stop.of(()), 12)
    drafter = Kangaroo(perfect, 3, threshold=0.0)
    prompt = Prompt.of([[1, 2, 3], [4]])
    run = jax.jit(lambda decoder: decoder(jax.random.key(0), prompt))
    found = run(Autoregressive(Speculator(generator, drafter, Match())))
    np.testing.assert_array_equal(found.tokens, run(Autoregressive(generator)).tokens)
    np.testing.assert_array_equal(found.usage.histogram, [[0, 0, 0, 3]] * 2)


@struct.dataclass
class Dropping:
    """The planted mistake: a draft that was drawn and found unsure is not verified."""

    inner: Kangaroo

    drawn, nodes, depth = True, 1, 1

    @property
    def vocab_size(self) -> int:
        return self.inner.vocab_size

    def init(self, *arguments):
        return self.inner.init(*arguments)

    def propose(self, target, state, now):
        draft, state = self.inner.propose(target, state, now)
        assert draft.logq is not None
        own = jnp.take_along_axis(draft.logq, draft.tokens[..., None], axis=2)[..., 0]
        return replace(draft, valid=draft.valid & (own >= jnp.log(0.6))), state

    def commit(self, *arguments):
        return self.inner.commit(*arguments)


def test_dropping_unsure_drafts_after_they_were_drawn_is_caught():
    """p = (.5, .5) and q = (.9, .1): the first token would come out (.55, .45)."""
    rows = 4000
    coin = replace(EnumerableLM.random(0, 2), head=jnp.zeros((8, 2)), bias=jnp.zeros((2,)))
    adapter = Scripted(jnp.log(jnp.array([[0.9, 0.1]], jnp.float32)))
    drafter = Kangaroo(adapter, 1, threshold=0.6, sampler=Categorical())
    generator = Generator(coin, Identity(), Categorical(), Stop.of(()), 1)
    prompt = Prompt.of([[1]] * rows, list(range(rows)))

    def first(drafter) -> np.ndarray:
        decoder = Autoregressive(Speculator(generator, drafter, Residual()))
        result = jax.jit(lambda decoder: decoder(jax.random.key(3), prompt))(decoder)
        return np.asarray(result.tokens)[:, 0]

    assert p_value(first(drafter), {0: 0.5, 1: 0.5}) > 1e-4
    wrong = first(Dropping(drafter))
    assert p_value(wrong, {0: 0.5, 1: 0.5}) < 1e-4
    assert p_value(wrong, {0: 0.55, 1: 0.45}) > 1e-4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda a: Kangaroo(a, 0), "length=0"),
        (lambda a: Kangaroo(a, 2, 6), "width=6 exceeds"),
    ],
)
def test_nonsense_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make(Scripted(sure((0.5,))))
