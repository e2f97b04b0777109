"""A stream is the same text, in pieces."""

import jax
import numpy as np
import pytest

from experiments.harness.measuring.compiles import Compiles
from jaxdecode import autoregress
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Temperature
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical
from jaxdecode.stop import Stop
from jaxdecode.stream import stream
from jaxdecode.testing.enumerable import EnumerableLM

MODEL = EnumerableLM.random(0, 6)
PROMPT = Prompt.of([[1], [2, 3, 4], [5, 1], [3]])


def generator(max_tokens: int = 12, growth: int = 1, eos: tuple[int, ...] = (0,)) -> Generator:
    stop = Stop.of(eos)
    return Generator(MODEL, Temperature(0.9), Categorical(), stop, max_tokens, cache_growth=growth)


@pytest.mark.parametrize(("every", "growth"), [(1, 1), (5, 1), (5, 3), (99, 1)])
def test_pieces_make_the_text(every, growth) -> None:
    rows = jax.jit(autoregress.generate)(generator(), jax.random.key(4), PROMPT)
    pieces = list(stream(generator(growth=growth), 4, PROMPT, every))
    for row in range(PROMPT.batch):
        text = np.concatenate([piece.tokens[row] for piece in pieces])
        np.testing.assert_array_equal(text, rows.tokens[row, : rows.length[row]])
        assert all(len(piece.tokens[row]) <= every for piece in pieces)
    np.testing.assert_array_equal(pieces[-1].status, rows.status)
    assert set(rows.status.tolist()) == {Status.EOS, Status.LENGTH}
    if growth == 1:
        assert len(pieces) == -(-int(rows.length.max()) // every)


def test_a_row_that_ended_says_so_and_no_more() -> None:
    pieces = list(stream(generator(), 4, PROMPT, 2))
    for row in range(PROMPT.batch):
        ends = [piece.status[row] != Status.RUNNING for piece in pieces]
        assert ends == sorted(ends) and ends[-1]
        later = [piece.tokens[row] for piece, over in zip(pieces[1:], ends, strict=False) if over]
        assert all(len(tokens) == 0 for tokens in later)


def test_one_program_serves_every_chunk_and_key() -> None:
    pieces = stream(generator(9, eos=()), jax.random.key(0), PROMPT, 2)
    next(pieces)
    keys = [jax.random.key(1), jax.random.key(2)]
    with Compiles() as compiles:
        assert len(list(pieces)) == 4
        for key in keys:
            assert len(list(stream(generator(9, eos=()), key, PROMPT, 2))) == 5
    assert compiles.count == 0


def test_a_reader_may_stop() -> None:
    pieces = stream(generator(eos=()), 0, PROMPT, 3)
    first = next(pieces)
    assert [len(tokens) for tokens in first.tokens] == [3] * 4
    assert (first.status == Status.RUNNING).all()


def test_refusals_come_with_the_call() -> None:
    with pytest.raises(ValueError, match="every=0"):
        stream(generator(), 0, PROMPT, 0)
    with pytest.raises(ValueError, match="outside the vocabulary"):
        stream(generator(), 0, Prompt.of([[6]]))
