"""Citations are blocked as a search of every document would block them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity, NoCitation
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM

V, N = 3, 2
DOCUMENTS = [[0, 1, 2, 1, 0, 0, 1, 1], [2, 2], [1], [0, 1, 0]]
PROMPT = Prompt.of([[0, 1], [2], [2, 1, 0], [0, 0, 1]], width=4)
ROWS = [[0, 1], [2], [2, 1, 0], [0, 0, 1]]


def forbidden(text: list[int]) -> set[int]:
    """What follows the last N tokens in some document."""
    if len(text) < N:
        return set()
    return {
        document[at + N]
        for document in DOCUMENTS
        for at in range(len(document) - N)
        if document[at : at + N] == text[-N:]
    }


@jax.jit
def along(transform, outputs):
    """The logits of every step, after its output was seen; all zero before."""
    state = transform.init(PROMPT)
    zero = jnp.zeros((PROMPT.batch, V))
    seen = [transform.apply(state, zero)]
    for token in outputs.T:
        state = transform.observe(state, jnp.maximum(token, 0), token >= 0)
        seen.append(transform.apply(state, zero))
    return jnp.stack(seen, axis=1)


OUTPUTS = np.array([[2, 1, 0, 0, 1], [2, 2, -1, 2, 0], [0, 1, -1, -1, 2], [1, 0, 1, 2, 1]])


def test_blocking_is_a_search_of_the_documents():
    found = np.asarray(along(NoCitation.of(DOCUMENTS, V, N), OUTPUTS))
    whole = 0
    for row, prompt in enumerate(ROWS):
        text = list(prompt)
        for step in range(OUTPUTS.shape[1] + 1):
            banned = forbidden(text)
            whole += len(banned) == V
            expected = banned if len(banned) < V else set()  # nothing left: not blocked
            assert set(np.flatnonzero(np.isneginf(found[row, step]))) == expected, (text, banned)
            if step < OUTPUTS.shape[1] and OUTPUTS[row, step] >= 0:
                text.append(int(OUTPUTS[row, step]))
    assert whole > 0  # after 0, 1 come 2, 1 and 0


def test_no_text_long_enough_blocks_nothing():
    found = along(NoCitation.of([[0, 1], [2]], V, N), OUTPUTS)
    assert np.all(np.asarray(found) == 0)


def test_only_what_is_left_counts_as_a_way_out():
    """A token that something else excluded is no alternative to a citation."""
    transform = NoCitation.of([[0, 1, 2, 0, 1, 0]], V, N)
    logits = jnp.tile(jnp.array([0.0, -jnp.inf, 1.0]), (PROMPT.batch, 1))
    edited = np.asarray(transform.apply(transform.init(PROMPT), logits))
    assert edited[0].tolist() == [0.0, -np.inf, 1.0]


def test_decoded_text_shares_no_longer_run():
    """No n + 1 tokens in a row, prompt included, unless all tokens were forbidden."""
    model = EnumerableLM.random(3, 6, sharpness=2.0)
    prompt = Prompt.of([[0, 1, 2], [3, 4, 5, 1]], width=4)

    def greedy(transform):
        generator = Generator(model, transform, Greedy(), Stop.of(9), max_tokens=12)
        return np.asarray(decode(Autoregressive(generator), 0, prompt).tokens).tolist()

    free = [[0, 1, 2, *(text := greedy(Identity()))[0]], [3, 4, 5, 1, *text[1]]]
    block = NoCitation.of(free, 6, N)

    def grams(rows):
        return {tuple(row[i : i + N + 1]) for row in rows for i in range(len(row) - N)}

    known = grams(free)
    for start, row in zip(([0, 1, 2], [3, 4, 5, 1]), greedy(block), strict=True):
        whole = [*start, *row]
        given = len(start) - N  # trigrams that the prompt itself spells
        assert not known & set(list(zip(whole, whole[1:], whole[2:], strict=False))[given:])


@pytest.mark.parametrize(
    ("documents", "n", "message"),
    [([], 2, "documents"), ([[0, 7]], 2, "token 7"), ([[0, 1]], 0, "n=0")],
)
def test_refusals(documents, n, message):
    with pytest.raises(ValueError, match=message):
        NoCitation.of(documents, V, n)
