"""The engine of speculation: what it refuses, when it rests, what it carries through cuts."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.selection.speculative_rejection import SpeculativeRejection
from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode import struct
from jaxdecode.autoregress import Generator, generate
from jaxdecode.cache import gather
from jaxdecode.decoder import decode
from jaxdecode.logits import Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import FunctionScorer
from jaxdecode.shared import Shared
from jaxdecode.speculate import Speculator
from jaxdecode.stop import Stop
from jaxdecode.stream import stream
from jaxdecode.testing.enumerable import EnumerableLM

TARGET = EnumerableLM.random(3, 5)
DRAFT = TARGET.perturbed(1, 0.4)
PROMPT = Prompt.of([[1, 2, 3], [4], [2, 2], [0, 1, 4, 1]], [7, 2, 9, 3], 4)
GENERATOR = Generator(TARGET, Temperature(0.9), Categorical(), Stop.of(()), 9)
COUPLED = Speculator(GENERATOR, Chain(DRAFT, 3, sampler=Greedy()), Match())


@struct.dataclass
class Alternate:
    """Drafts in every third round of a row."""

    rests = True

    def init(self, rows):
        return jnp.arange(rows) % 3

    def limit(self, state):
        return jnp.where(state % 3 == 0, 2, 0)

    def update(self, state, drafted, accepted, active):
        return state + active

    def rest(self, state, active):
        return state + active


def test_a_resting_row_emits_one_token_a_pass() -> None:
    """The text is the same, and the rounds without a draft are counted as such."""
    expected = decode(Autoregressive(GENERATOR), 4, PROMPT)
    result = decode(Autoregressive(replace(COUPLED, policy=Alternate())), 4, PROMPT)
    np.testing.assert_array_equal(result.tokens, expected.tokens)
    usage = result.usage
    assert (usage.drafted < 2 * usage.target_passes).all() and usage.drafted.sum() > 0
    np.testing.assert_array_equal(usage.histogram.sum(1), usage.target_passes - (PROMPT.length > 1))


@struct.dataclass
class Silent(Alternate):
    """Never drafts."""

    def limit(self, state):
        return jnp.zeros_like(state)


def test_a_policy_that_never_drafts_leaves_plain_decoding() -> None:
    expected = decode(Autoregressive(GENERATOR), 4, PROMPT)
    result = decode(Autoregressive(replace(COUPLED, policy=Silent())), 4, PROMPT)
    np.testing.assert_array_equal(result.tokens, expected.tokens)
    for name in ("target_passes", "target_tokens", "attended", "emitted", "flops"):
        np.testing.assert_allclose(getattr(result.usage, name), getattr(expected.usage, name))
    assert result.usage.drafted.sum() == 0


def test_survivors_carry_their_drafters_along() -> None:
    """Speculative rejection over a speculating generator makes the same cuts."""
    scorer = FunctionScorer(lambda prompt, count, tokens, length: jnp.sum(tokens * 7 % 5, axis=1))
    run = jax.jit(lambda method: method(jax.random.key(1), PROMPT))
    expected = run(SpeculativeRejection(GENERATOR, scorer, budget=40, width=6))
    result = run(SpeculativeRejection(COUPLED, scorer, budget=40, width=6))
    np.testing.assert_array_equal(result.tokens, expected.tokens)
    for mine, other in zip(result.trace.cuts, expected.trace.cuts, strict=True):
        np.testing.assert_array_equal(mine.sample, other.sample)
        np.testing.assert_array_equal(mine.length, other.length)
    assert result.usage.accepted.sum() > 0


def test_samples_are_drafted_for_one_by_one() -> None:
    """Sample k of a prompt is the same however many samples are drawn."""
    run = jax.jit(generate, static_argnums=3)
    several = run(COUPLED, jax.random.key(2), PROMPT, 3)
    alone = run(COUPLED, jax.random.key(2), PROMPT, 1)
    np.testing.assert_array_equal(several.tokens[::3], alone.tokens)


def test_a_stream_speculates() -> None:
    """Chunk by chunk, the tokens are those of one run."""
    expected = decode(Autoregressive(COUPLED), 3, PROMPT)
    pieces = list(stream(COUPLED, 3, PROMPT, every=2))
    for row in range(PROMPT.batch):
        text = np.concatenate([piece.tokens[row] for piece in pieces])
        np.testing.assert_array_equal(text, expected.tokens[row])


def test_what_is_shared_stays_with_its_prompt() -> None:
    tree = {"own": jnp.arange(6), "table": Shared(jnp.arange(2))}
    moved = gather(tree, jnp.array([[2, 0], [1, 1]]))
    np.testing.assert_array_equal(moved["own"], [2, 0, 4, 4])
    np.testing.assert_array_equal(moved["table"].value, [0, 1])


@struct.dataclass
class Chosen(Chain):
    """A drafter that states no laws."""

    drawn = False


@pytest.mark.parametrize(
    ("drafter", "verifier", "message"),
    [
        (lambda: Chain(EnumerableLM.random(0, 4), 2), Match(), "its vocabulary has 4 tokens"),
        (lambda: Chosen(DRAFT, 2), Residual(), "pair it with Match"),
        (lambda: Chain(DRAFT, 0), Match(), "length=0"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(drafter, verifier, message) -> None:
    with pytest.raises(ValueError, match=message):
        Speculator(GENERATOR, drafter(), verifier)
