"""Stop strings on the device: the same answer as searching the text, for any tokenisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.stop_strings import StopStrings
from models.text import Tokenizer
from models.token_bytes import token_bytes
from tests.models.vocabularies import TEXT, byte_level, characters, sentencepiece

BYTES, PIECES = Tokenizer(byte_level(), eos=(3, 4)), Tokenizer(sentencepiece())
STRINGS = ["\n\nThe", "the c", "é", "<end>"]
WIDTH = 12


def ends(table, tokens, eos=()):
    """Whether the newest token is an end, or completes a string; by joining bytes."""
    before = b"".join(table[t] for t in tokens[:-1])
    after = before + table[tokens[-1]]
    new = [s for s in STRINGS if after.count(s.encode()) > before.count(s.encode())]
    return bool(new) or tokens[-1] in eos


@pytest.mark.parametrize("tokenizer", [BYTES, PIECES, Tokenizer(characters("abc d"))])
def test_bytes_of_tokens_join_to_the_text(tokenizer):
    text = TEXT if tokenizer.vocab_size > 100 else "a bcd"
    ids = tokenizer.encode(text, add_special=False)
    joined = b"".join(token_bytes(tokenizer)[i] for i in ids).decode()
    assert joined.removeprefix(" ") == text


def test_decoders_that_do_more_than_join_are_refused():
    inner = characters()
    inner.decoder = None
    with pytest.raises(ValueError, match="name token ids instead"):
        token_bytes(Tokenizer(inner))


STOP, TABLE = StopStrings.of(BYTES, STRINGS), token_bytes(BYTES)
CALL = jax.jit(lambda stop, tokens, length: stop(tokens, length))
# Pieces of the stop strings, cut in every way the vocabulary knows, and a few others.
LIKELY = sorted({i for s in [*STRINGS, TEXT] for i in BYTES.encode(s, add_special=False)})


@given(st.lists(st.lists(st.sampled_from(LIKELY), max_size=WIDTH), min_size=8, max_size=8))
def test_equals_searching_the_bytes(rows):
    tokens = np.zeros((8, WIDTH), np.int32)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
    length = np.array([len(ids) for ids in rows], np.int32)
    expected = [bool(ids) and ends(TABLE, ids, BYTES.eos) for ids in rows]
    assert CALL(STOP, tokens, length).tolist() == expected


def test_every_cut_of_a_string_is_found():
    """ "the c" spelled as bytes, with merges, and with other text around it."""
    letters = {bytes([b]): i for i, token in enumerate(TABLE) for b in token if len(token) == 1}
    spelled = [letters[bytes([b])] for b in b"the c"]
    merged = BYTES.encode("the c", add_special=False)
    inside = BYTES.encode("a the cat", add_special=False)
    assert len({len(spelled), len(merged)}) == 2
    for ids in (spelled, merged, [9, *merged], inside[:-1]):
        found = [
            bool(STOP(jnp.asarray([ids[: n + 1] + [0] * (20 - n)]), jnp.asarray([n + 1]))[0])
            for n in range(len(ids))
        ]
        assert found == [False] * (len(ids) - 1) + [True]


def test_what_lies_past_the_length_does_not_count():
    ids = BYTES.encode("the c", add_special=False)
    tokens = jnp.asarray([ids])
    assert not STOP(tokens, jnp.asarray([len(ids) - 1]))[0]
    assert not STOP(tokens, jnp.asarray([0]))[0]


def test_refusals():
    with pytest.raises(ValueError, match=r"strings\[1\] is empty"):
        StopStrings.of(BYTES, ["a", ""])
    with pytest.raises(ValueError, match="none given"):
        StopStrings.of(BYTES, [])
