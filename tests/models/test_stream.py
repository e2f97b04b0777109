"""Streaming: the pieces add up to the text, whatever is held back on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.stream import BROKEN, TextStream, trim
from models.text import Tokenizer
from tests.models.vocabularies import byte_level, characters, sentencepiece

TOKENIZERS = [Tokenizer(byte_level()), Tokenizer(sentencepiece()), Tokenizer(characters())]
BYTES, PIECES, _ = TOKENIZERS


def stream(tokenizer, ids, stops=(), step=1):
    """The pieces that come out of pushing `step` ids at a time."""
    text = TextStream(tokenizer, stops)
    pieces = [text.push(ids[i : i + step]) for i in range(0, len(ids), step)]
    return [*pieces, text.finish()], text.stopped


@given(st.sampled_from(TOKENIZERS[:2]), st.text(max_size=20), st.integers(1, 4))
def test_pieces_add_up(tokenizer, text, step):
    ids = tokenizer.encode(text, add_special=False)
    pieces, _ = stream(tokenizer, ids, step=step)
    assert "".join(pieces) == tokenizer.decode(ids)


@given(st.sampled_from(TOKENIZERS[:2]), st.text(max_size=20), st.integers(1, 4))
def test_pieces_add_up_after_a_prompt(tokenizer, text, step):
    prompt = tokenizer.encode("the cat", add_special=False)
    ids = tokenizer.encode(text, add_special=False)
    out = TextStream(tokenizer, after=prompt)
    pieces = [out.push(ids[i : i + step]) for i in range(0, len(ids), step)]
    assert "".join([*pieces, out.finish()]) == tokenizer.decode(ids, after=prompt)


def test_a_stop_string_that_begins_with_a_space_cuts():
    prompt, ids = (PIECES.encode(text, add_special=False) for text in ("the", "cat the"))
    text = TextStream(PIECES, [" cat"], after=prompt)
    assert text.push(ids) + text.finish() == "" and text.stopped == " cat"
    assert trim(PIECES.decode(ids, after=prompt), [" cat"]) == ("", " cat")


@given(st.sampled_from(TOKENIZERS), st.data())
def test_no_ids_are_too_strange(tokenizer, data):
    known = st.integers(0, tokenizer.vocab_size - 1)
    ids = data.draw(st.lists(known, max_size=30))
    pieces, _ = stream(tokenizer, ids)
    whole = tokenizer.decode(ids)
    if BROKEN not in whole:
        assert "".join(pieces) == whole


@pytest.mark.parametrize("tokenizer", [BYTES, PIECES])
def test_half_characters_are_held_back(tokenizer):
    ids = tokenizer.encode("a🙂b", add_special=False)
    pieces, _ = stream(tokenizer, ids)
    assert len(ids) > 3
    assert not any(BROKEN in piece for piece in pieces)
    assert [piece for piece in pieces if piece] == ["a", "🙂", "b"]


def test_half_a_character_at_the_end_is_shown_as_broken():
    ids = BYTES.encode("a🙂", add_special=False)[:-1]
    pieces, _ = stream(BYTES, ids)
    assert "".join(pieces) == BYTES.decode(ids)
    assert pieces[-1].startswith(BROKEN)


def test_broken_bytes_do_not_hold_back_forever():
    lone = BYTES.inner.token_to_id("ÿ")
    text = TextStream(BYTES)
    sent = "".join(text.push([lone]) for _ in range(10))
    assert sent == BROKEN * 7
    assert text.finish() == BROKEN * 3


def test_text_is_shown_at_once():
    ids = BYTES.encode("the cat", add_special=False)
    text = TextStream(BYTES)
    for index in range(len(ids)):
        assert text.push(ids[index : index + 1]) == BYTES.decode(ids[index : index + 1])


STOPS = ["ab", "b\n\n", "\n\nThe"]


@given(st.text("ab\nThe", max_size=25), st.integers(1, 3))
def test_stop_strings_cut_the_text(text, step):
    ids = BYTES.encode(text, add_special=False)
    pieces, stopped = stream(BYTES, ids, STOPS, step)
    found = [(text.find(stop) + len(stop), stop) for stop in STOPS if stop in text]
    if not found:
        assert ("".join(pieces), stopped) == (text, None)
        return
    end = min(end for end, _ in found)
    assert stopped in [stop for at, stop in found if at == end]
    assert "".join(pieces) == text[: text.find(stopped)]


def test_stop_string_across_tokens_and_after_it():
    text = TextStream(BYTES, ["\n\nThe"])
    ids = BYTES.encode("ok.\n\nThe end", add_special=False)
    out = "".join(text.push([i]) for i in ids) + text.finish()
    assert (out, text.stopped) == ("ok.", "\n\nThe")


def test_trim():
    assert trim("one two", ()) == ("one two", None)
    assert trim("one two one", ["two", "one"]) == ("", "one")
    assert trim("xaby", ["b", "ab"]) == ("x", "ab")
    with pytest.raises(ValueError, match="empty string"):
        TextStream(BYTES, [""])
