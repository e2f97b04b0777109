"""Tokenizers of published folders: what is read from where, round trips, refusals."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers, processors

from models.chat import ChatTemplate
from models.text import BROKEN, Tokenizer, check_same_tokenizer
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


BYTES, PIECES = Tokenizer(byte_level()), Tokenizer(sentencepiece())


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
    small = Tokenizer(characters("abc"))
    with pytest.raises(
        ValueError, match=r"knows 6 ids, the model has 5 rows: id 5 .'c'.*different"
    ):
        small.check_rows(5)


def test_tokens_that_were_added_beyond_a_models_table_are_no_tokens_of_it():
    """As Gemma 3's for images, or a padding token: a text that uses one is refused."""
    inner = byte_level()
    rows = Tokenizer(inner).vocab_size
    inner.add_special_tokens(["<image>"])
    whole = Tokenizer(inner)
    tokenizer = whole.fitted(rows)
    assert (whole.vocab_size, tokenizer.check_rows(rows), tokenizer.rows) == (rows + 1, rows, rows)
    assert tokenizer.encode("a cat") == whole.encode("a cat")
    assert whole.encode("<image>")[-1] == rows
    with pytest.raises(ValueError, match=f"names '<image>' .*has {rows} embeddings and none for"):
        tokenizer.encode("a <image>")
    assert whole.fitted(rows + 5) is whole
    check_same_tokenizer(tokenizer, BYTES)  # a draft without the added token means the same
    many = byte_level()
    many.add_special_tokens([f"<extra {i}>" for i in range(100)])
    with pytest.raises(ValueError, match="belong to different models"):
        Tokenizer(many).fitted(rows)


@pytest.mark.parametrize("flags", [{}, {"add_bos_token": False}, {"add_eos_token": True}])
@pytest.mark.parametrize("text", ["the cat", "the cat<eos>", "<eos>", "", "<eos><eos>", "a<end>"])
def test_a_prompt_keeps_its_own_last_words(tmp_path, flags, text):
    """What the tokenizer would close it with is left out, and nothing else."""
    folder = write(tmp_path, byte_level(), tokenizer_config=CONFIG | flags)
    tokenizer = load_tokenizer(folder)
    begin = [] if flags == {"add_bos_token": False} else [tokenizer.bos]
    own = tokenizer.encode(text, add_special=False)
    assert tokenizer.encode_prompt(text) == [*begin, *own]


def test_one_token_for_everything_is_a_prompt(tmp_path):
    """GPT-2's end of text, the usual way to sample without a prompt."""
    inner = byte_level()
    inner.post_processor = processors.ByteLevel()
    config = {"bos_token": "<eos>", "eos_token": "<eos>"}
    tokenizer = load_tokenizer(write(tmp_path, inner, tokenizer_config=config))
    assert tokenizer.encode_prompt("<eos>") == [tokenizer.eos[0]]


@given(st.sampled_from([byte_level, sentencepiece]), st.text(max_size=20), st.data())
def test_a_response_is_what_is_added_to_its_prompt(build, text, data):
    """Wherever the text is cut, the spaces at the cut are kept."""
    tokenizer = PIECES if build is sentencepiece else BYTES
    ids = tokenizer.encode("a " + text, add_special=False)
    cut = data.draw(st.integers(1, len(ids)))
    before, whole = tokenizer.decode(ids[:cut]), tokenizer.decode(ids)
    said = tokenizer.decode(ids[cut:], after=ids[:cut])
    if BROKEN not in before:
        assert before + said == whole
    else:
        assert whole.endswith(said)


def test_a_response_keeps_its_first_space():
    prompt, response = (PIECES.encode(text, add_special=False) for text in ("the", "cat"))
    assert PIECES.decode(response) == "cat"
    assert PIECES.decode(response, after=prompt) == " cat"


TURNS = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"


@pytest.mark.parametrize("build", [byte_level, sentencepiece])
@pytest.mark.parametrize("named", ["a@b", "@", "@@c", " @", "<@"])
def test_names_of_special_tokens_are_text_by_choice(tmp_path, build, named):
    """In a plain prompt, and in the messages of a chat, whose template's own stay tokens."""
    bos, eos = ("<bos>", "<eos>") if build is byte_level else ("<s>", "</s>")
    config = {"bos_token": bos, "eos_token": eos, "chat_template": TURNS}
    tokenizer = load_tokenizer(write(tmp_path, build(), tokenizer_config=config))
    said, end = named.replace("@", eos), tokenizer.eos[0]
    plain = tokenizer.encode_prompt(said, split_special=True)
    assert end in tokenizer.encode_prompt(said) and end not in plain
    own = tokenizer.encode(said, add_special=False, split_special=True)
    assert tokenizer.decode(own, skip_special=False) == said
    talk = [{"role": "user", "content": said}, {"role": "user", "content": "the cat"}]
    (ids,) = tokenizer.encode_opened([talk], split_special=True)
    cat = tokenizer.encode("the cat", add_special=False)
    assert ids == [tokenizer.bos, *own, end, *cat, end]
    assert tokenizer.encode_opened([talk])[0].count(end) == 2 + named.count("@")
    unnamed = [talk[1:]]
    assert tokenizer.encode_opened(unnamed, True) == tokenizer.encode_opened(unnamed)
    assert tokenizer.encode_prompt(said) != plain, "the choice holds for its own call"


def test_names_are_no_text_where_pieces_are_read_otherwise():
    """As for one who puts a space before a whole text, and before no piece but the first."""
    inner = sentencepiece()
    inner.normalizer, inner.pre_tokenizer = None, pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer = Tokenizer(inner, template=ChatTemplate("{{ messages[0].content }}</s>the", {}))
    said = [[{"role": "user", "content": "a cat</s>"}]]
    assert tokenizer.encode_opened(said)
    with pytest.raises(ValueError, match="does not read texts piece by piece"):
        tokenizer.encode_opened(said, split_special=True)


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


def test_a_mark_that_an_editor_put_before_a_file_is_no_text(tmp_path):
    """The byte-order mark, in every file that a folder's text comes from."""
    plain = {"bos_token": "<bos>", "chat_template": "{{ messages[0].content }}"}
    folder = write(tmp_path, byte_level(), tokenizer_config=plain)
    (folder / "chat_template.jinja").write_text("<{{ messages[0].content }}>")
    (folder / "generation_config.json").write_text('{"eos_token_id": 3}')
    before = load_tokenizer(folder)
    for path in folder.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    after = load_tokenizer(folder)
    assert (after.bos, after.eos, after.fingerprint) == (before.bos, (3,), before.fingerprint)
    assert after.render_chat([{"role": "user", "content": "a"}]) == "<a>"


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
