"""Tokenizers of published folders: what is read from where, round trips, refusals."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text import Tokenizer, check_same_tokenizer
from models.tokenizer_files import load_tokenizer
from tests.models.vocabularies import TEXT, byte_level, characters, sentencepiece, write

CONFIG = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}


def token(inner, text):
    index = inner.token_to_id(text)
    assert index is not None
    return index


def test_end_tokens_are_the_union_of_all_files(tmp_path):
    inner = byte_level()
    eos, end = token(inner, "<eos>"), token(inner, "<end>")
    generation = {"eos_token_id": [end, 7]}
    folder = write(tmp_path, inner, tokenizer_config=CONFIG, generation_config=generation)
    assert load_tokenizer(folder).eos == tuple(sorted({eos, end, 7}))


def test_config_stands_in_for_a_missing_generation_config(tmp_path):
    inner = byte_level()
    config = {"eos_token_id": 7, "pad_token_id": 5}
    folder = write(tmp_path, inner, config=config)
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.eos, tokenizer.pad, tokenizer.bos) == ((7,), 5, None)
    write(tmp_path, inner, generation_config={"eos_token_id": 8})
    assert load_tokenizer(folder).eos == (8,)


def test_padding_named_by_the_tokenizer_wins_and_minus_one_is_none(tmp_path):
    inner = byte_level()
    folder = write(tmp_path, inner, tokenizer_config=CONFIG, config={"pad_token_id": 5})
    assert load_tokenizer(folder).pad == token(inner, "<pad>")
    folder = write(tmp_path / "none", inner, config={"pad_token_id": -1})
    assert load_tokenizer(folder).pad is None


def test_special_tokens_may_be_objects(tmp_path):
    inner = byte_level()
    tokens = {"bos_token": {"content": "<bos>", "lstrip": False}, "eos_token": None}
    folder = write(tmp_path, inner, special_tokens_map=tokens)
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.bos, tokenizer.eos) == (token(inner, "<bos>"), ())


def test_special_tokens_around_a_text(tmp_path):
    inner = byte_level()
    bos, eos = token(inner, "<bos>"), token(inner, "<eos>")
    plain = inner.encode("a cat", add_special_tokens=False).ids
    for flags, before, after in (
        ({}, [bos], []),
        ({"add_bos_token": False}, [], []),
        ({"add_eos_token": True}, [bos], [eos]),
        ({"add_bos_token": False, "add_eos_token": True}, [], [eos]),
    ):
        folder = write(tmp_path, inner, tokenizer_config=CONFIG | flags)
        tokenizer = load_tokenizer(folder)
        assert tokenizer.encode("a cat") == [*before, *plain, *after]
        assert tokenizer.encode("a cat", add_special=False) == plain


def test_one_token_for_both_ends_is_put_in_front_only(tmp_path):
    config = {"bos_token": "<bos>", "eos_token": "<bos>", "add_bos_token": True}
    tokenizer = load_tokenizer(write(tmp_path, byte_level(), tokenizer_config=config))
    ids = tokenizer.encode("a")
    assert [i == tokenizer.bos for i in ids] == [True, False]


def test_stored_truncation_and_padding_are_dropped(tmp_path):
    inner = byte_level()
    inner.enable_truncation(3)
    inner.enable_padding(length=50)
    tokenizer = load_tokenizer(write(tmp_path, inner))
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


@pytest.mark.parametrize("build", [byte_level, sentencepiece])
def test_round_trip(tmp_path, build):
    tokenizer = load_tokenizer(write(tmp_path, build()))
    assert tokenizer.decode(tokenizer.encode(TEXT, add_special=False)) == TEXT


BYTES = Tokenizer(byte_level())


@given(st.text(max_size=30))
def test_byte_level_round_trip_of_any_text(text):
    assert BYTES.decode(BYTES.encode(text, add_special=False), skip_special=False) == text


def test_rows_are_cut_at_their_lengths():
    ids = BYTES.encode("the cat", add_special=False)
    rows = [[*ids, 0, 0], ids[:1] + [9] * (len(ids) + 1)]
    assert BYTES.decode_rows(rows, [len(ids), 1]) == ["the cat", BYTES.decode(ids[:1])]


def test_second_bos_is_refused(tmp_path):
    tokenizer = load_tokenizer(write(tmp_path, byte_level(), tokenizer_config=CONFIG))
    with pytest.raises(ValueError, match=r"second '<bos>'.*add_special=False"):
        tokenizer.encode("<bos>the cat")
    assert tokenizer.encode("<bos>a", add_special=False)[0] == tokenizer.bos


def test_vocabulary_and_rows():
    size = BYTES.vocab_size
    assert BYTES.check_rows(size) == size
    assert BYTES.check_rows(size + 100) == size
    with pytest.raises(ValueError, match=f"has {size - 1} rows: id {size - 1} .'<pad>'"):
        BYTES.check_rows(size - 1)


def test_fingerprint_names_the_content(tmp_path):
    folder = write(tmp_path, characters())
    assert load_tokenizer(folder).fingerprint == Tokenizer(characters()).fingerprint
    assert Tokenizer(characters("abx")).fingerprint != Tokenizer(characters("aby")).fingerprint


def test_same_tokenizer():
    check_same_tokenizer(Tokenizer(characters("abc")), Tokenizer(characters("abc")))
    with pytest.raises(ValueError, match=r"id 4: 'b' here, 'x' there"):
        check_same_tokenizer(Tokenizer(characters("abc")), Tokenizer(characters("axc")))
    with pytest.raises(ValueError, match=r"id 5: None here, 'c' there"):
        check_same_tokenizer(Tokenizer(characters("ab")), Tokenizer(characters("abc")))


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer\.json is missing"):
        load_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    for text in ("", "{", "[]", "{}", '{"model": {"type": "BPE", "vocab": {}, "merges": [["a"]]}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="holds no tokenizer"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config": {"bos_token": "<nope>"}}, "bos_token '<nope>' is not in"),
        ({"generation_config": {"eos_token_id": "2"}}, "eos_token_id='2' must be"),
        ({"generation_config": {"eos_token_id": [True]}}, r"eos_token_id=\[True\] must be"),
        ({"tokenizer_config": {"chat_template": 3}}, "chat_template must be text"),
        ({"tokenizer_config": []}, "a JSON object was expected"),
    ],
)
def test_bad_settings(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        load_tokenizer(write(tmp_path, byte_level(), **files))


def test_damaged_settings(tmp_path):
    folder = write(tmp_path, byte_level())
    (folder / "tokenizer_config.json").write_text('{"a": 1, "a": 2}')
    with pytest.raises(ValueError, match="'a' appears twice"):
        load_tokenizer(folder)
    (folder / "tokenizer_config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="no valid JSON"):
        load_tokenizer(folder)


def test_where_chat_templates_are_found(tmp_path):
    inner = byte_level()
    assert load_tokenizer(write(tmp_path, inner)).template is None
    with pytest.raises(ValueError, match="no chat template"):
        load_tokenizer(tmp_path).render_chat([])
    several = [{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}]
    write(tmp_path, inner, tokenizer_config={"chat_template": several})
    assert load_tokenizer(tmp_path).chat_template.source == "D"
    write(tmp_path, inner, tokenizer_config={}, chat_template={"chat_template": "J"})
    assert load_tokenizer(tmp_path).chat_template.source == "J"
    (tmp_path / "chat_template.jinja").write_text("F é", encoding="utf-8")
    assert load_tokenizer(tmp_path).chat_template.source == "F é"


def test_chat_ids_carry_one_bos(tmp_path):
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    config = CONFIG | {"chat_template": template}
    tokenizer = load_tokenizer(write(tmp_path, byte_level(), tokenizer_config=config))
    ids = tokenizer.encode_chat([{"role": "user", "content": "the cat"}])
    assert ids == [tokenizer.bos, *tokenizer.encode("the cat", False), tokenizer.eos[0]]
    text = tokenizer.render_chat([{"role": "user", "content": "the cat"}])
    assert json.dumps(text) == '"<bos>the cat<eos>"'
    with pytest.raises(ValueError, match="use encode_chat"):
        tokenizer.encode(text)
