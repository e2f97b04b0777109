"""Tokenizers: round trips, strictness, stable fingerprints, and the saved format."""

import json

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.tasks.tokenizer import SPECIALS, TaskTokenizer, byte_pairs, characters, load, words

PAIRS = byte_pairs(["for i in range(10):\n    print(i)\n"] * 20, 270)
ALPHABET = "ab .\n#"
CHARS = characters(ALPHABET)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_byte_pairs_encode_any_text(text):
    assert PAIRS.decode(PAIRS.encode(text)) == text


@settings(max_examples=60, deadline=None)
@given(st.text(ALPHABET, max_size=40))
def test_characters_round_trip(text):
    ids = CHARS.encode(text)
    assert len(ids) == len(text) and CHARS.decode(ids) == text
    assert ids == [3 + ALPHABET.index(character) for character in text]


def test_specials_come_first_and_end_the_text():
    codec = words(["yes", "no", "?"])
    assert [codec.pad_id, codec.bos_id, codec.eos_id] == [0, 1, 2] and codec.vocab_size == 6
    assert codec.encode("no ? yes") == [4, 5, 3]
    assert codec.decode([1, 4, 0, 5, 2, 3]) == "no ?"
    rows = np.array([[1, 3, 4, 2], [1, 5, 0, 0]], np.int32)
    assert codec.decode_rows(rows, np.array([2, 4])) == ["yes", "?"]
    assert PAIRS.vocab_size == 270 and PAIRS.encode("<eos>") != [PAIRS.eos_id]
    assert PAIRS.decode(PAIRS.encode("a <eos> b")) == "a <eos> b"


@pytest.mark.parametrize(("codec", "text"), [(CHARS, "abc"), (words(["yes"]), "yes maybe"),
                                             (words(["yes"]), "yes <eos>")])  # fmt: skip
def test_unknown_pieces_are_refused(codec, text):
    with pytest.raises(ValueError, match="cannot encode"):
        codec.encode_many(["", text])


def test_saved_folder_is_the_published_format(tmp_path):
    for name, codec in {"chars": CHARS, "pairs": PAIRS}.items():
        codec.save(tmp_path / name)
        again = load(tmp_path / name)
        assert again.fingerprint() == codec.fingerprint()
        assert again.encode("ab a\n") == codec.encode("ab a\n")
        plain = tokenizers.Tokenizer.from_file(str(tmp_path / name / "tokenizer.json"))
        assert plain.decode(codec.encode("ab a\n")) == "ab a\n"
        assert plain.encode("<eos>").ids == [codec.eos_id]
        config = json.loads((tmp_path / name / "tokenizer_config.json").read_text())
        assert [config["pad_token"], config["bos_token"], config["eos_token"]] == list(SPECIALS)
    assert CHARS.fingerprint() == characters(ALPHABET).fingerprint()
    assert CHARS.fingerprint() != characters(ALPHABET + "c").fingerprint()


def test_bad_vocabularies_are_refused(tmp_path):
    with pytest.raises(ValueError, match="repeats"):
        characters("aba")
    with pytest.raises(ValueError, match="repeats"):
        words(["<pad>", "b"])
    with pytest.raises(ValueError, match="spaces"):
        words(["a b"])
    with pytest.raises(ValueError, match="259"):
        byte_pairs(["text"], 100)
    with pytest.raises(ValueError, match="not a file"):
        load(tmp_path)
    with pytest.raises(ValueError, match="lacks"):
        TaskTokenizer(tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a")))
