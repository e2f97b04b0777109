"""The tokenizer of a file's metadata is the one that the metadata were made of."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from models.chat import ChatTemplate
from models.families.fields import Fields
from models.gguf.splits import SPLITS
from models.gguf.tokenizer import read
from models.text import Tokenizer
from models.token_bytes import token_bytes
from models.tokenizer_files import load_tokenizer, save_tokenizer
from tests.models.vocabularies import TEXT, byte_level, sentencepiece

TEXTS = [
    TEXT,
    "",
    " the",
    "  the  cat",
    "the cat\n\n\tsat.",
    "<s>the cat</s> the",
    "été 你好 🙂",
    "the <end> cat",
]


def entries(inner: Any, **changes: Any) -> dict[str, Any]:
    """Metadata of a tokenizer, as a converter writes them."""
    data = json.loads(inner.to_str())
    vocabulary = inner.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    added = {token["content"] for token in data["added_tokens"]}
    kinds = {token: 3 if token in added else 1 for token in tokens}
    kinds |= {token: 6 for token in tokens if token.startswith("<0x")}
    merges = [tuple(merge) for merge in data["model"]["merges"]]
    rank = {left + right: index for index, (left, right) in enumerate(merges)}
    metadata = {
        "tokens": tokens,
        "token_type": [kinds[token] for token in tokens],
        "merges": [" ".join(merge) for merge in merges],
        "scores": [-float(rank.get(token, 1000)) for token in tokens],
    } | changes
    return {f"tokenizer.ggml.{key}": value for key, value in metadata.items() if value is not None}


def fields(metadata: dict[str, Any]) -> Fields:
    return Fields(metadata, "x.gguf")


def of_bytes(**changes: Any) -> Tokenizer:
    inner = byte_level()
    ids = {"bos": "<bos>", "eos": "<eos>", "padding": "<pad>"}
    named = {f"{key}_token_id": inner.token_to_id(token) for key, token in ids.items()}
    settings = {"model": "gpt2", "pre": "gpt-2"} | named | changes
    return read(fields(entries(inner, **settings)))


def of_pieces(**changes: Any) -> Tokenizer:
    return read(fields(entries(sentencepiece(), model="llama", merges=None, **changes)))


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_texts_become_the_same_tokens(text: str):
    inner, ours = byte_level(), of_bytes(add_bos_token=True)
    ids = inner.encode(text).ids
    assert ours.encode(text) == ids
    assert ours.decode(ids) == inner.decode(ids)


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_become_the_same_tokens(text: str):
    inner, ours = sentencepiece(), of_pieces(add_bos_token=False)
    ids = inner.encode(text).ids
    assert ours.encode(text) == ids
    assert ours.decode(ids) == inner.decode(ids)


def test_the_highest_score_is_merged_first_and_not_the_longest():
    """Of "abc" with ab before bc the tokens are ab, c; with bc first they are a, bc."""
    for first, want in (("ab", ["ab", "c"]), ("bc", ["a", "bc"])):
        tokens = ["<unk>", "<s>", "</s>", "a", "b", "c", "ab", "bc"]
        scores = [0.0] * 6 + ([-1.0, -2.0] if first == "ab" else [-2.0, -1.0])
        data = {"tokens": tokens, "scores": scores, "token_type": [2, 3, 3] + [1] * 5}
        data |= {"model": "llama", "add_space_prefix": False, "add_bos_token": False}
        ours = read(fields({f"tokenizer.ggml.{key}": value for key, value in data.items()}))
        assert [tokens[i] for i in ours.encode("abc")] == want


def test_the_begin_token_is_put_where_the_file_or_the_rule_says():
    assert of_bytes().encode("the")[0] != of_bytes().bos
    assert of_bytes(pre="llama-bpe").encode("the")[0] == of_bytes().bos
    assert of_bytes(pre="llama-bpe", add_bos_token=False).encode("the")[0] != of_bytes().bos
    assert of_pieces().encode("the")[0] == 1
    ended = of_bytes(add_eos_token=True)
    assert ended.encode("the")[-1] == ended.eos[-1]


def test_a_response_ends_at_every_end_token():
    inner = byte_level()
    inner.add_special_tokens(["<|im_end|>", "<|im_start|>"])
    found = read(fields(entries(inner, model="gpt2", eos_token_id=inner.token_to_id("<eos>"))))
    assert found.eos == tuple(sorted(inner.token_to_id(t) or 0 for t in ("<eos>", "<|im_end|>")))
    assert found.bos is None and found.pad is None
    turn = inner.token_to_id("<end>")
    assert turn in read(fields(entries(inner, model="gpt2", eot_token_id=turn))).eos


def test_user_defined_tokens_are_whole_and_shown():
    inner = byte_level()
    metadata = entries(inner, model="gpt2")
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    types[tokens.index("<end>")] = 4
    ours = read(fields(metadata))
    ids = ours.encode("the<end><pad>", add_special=False)
    assert ids[-2:] == [tokens.index("<end>"), tokens.index("<pad>")]
    assert ours.decode(ids) == "the<end>"


def test_the_chat_template_is_the_files():
    source = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    inner = byte_level()
    metadata = entries(inner, model="gpt2", bos_token_id=inner.token_to_id("<bos>"))
    metadata |= {"tokenizer.chat_template": source}
    metadata["tokenizer.ggml.eos_token_id"] = inner.token_to_id("<eos>")
    found = read(fields(metadata))
    assert found.render_chat([{"role": "user", "content": "hi"}]) == "<bos>hi<eos>"
    assert of_bytes().template is None


def test_every_token_has_its_bytes():
    """So that stop strings can be found: texts are the concatenation of their tokens' bytes."""
    for ours in (of_bytes(), of_pieces(add_space_prefix=False, add_bos_token=False)):
        table = token_bytes(ours)
        text = "the cat sat. été"
        assert b"".join(table[i] for i in ours.encode(text)).decode() == text


def test_every_rule_loses_nothing():
    text = "It's 12345 o'clock: DON'T (x²)  \n\n y\t\u3000Ünïcode, 你好 🙂.\r\n"
    for name in SPLITS:
        ours = of_bytes(pre=name, add_bos_token=False)
        assert ours.decode(ours.encode(text)) == text, name


CUTS = [
    ("gpt-2", "I'll 123  x", ["I", "'ll", " 123", " ", " x"]),
    ("smollm", "I'll 123  x", ["I", "'ll", " ", "1", "2", "3", " ", " x"]),
    ("llama-bpe", "I'LL 1234\n\nx", ["I", "'LL", " ", "123", "4", "\n\n", "x"]),
    ("qwen2", "I'LL 12 (a)\n", ["I", "'LL", " ", "1", "2", " (", "a", ")\n"]),
    ("tekken", "camelCase 12", ["camel", "Case", " ", "1", "2"]),
    ("gpt-4o", "it's 1234", ["it's", " ", "123", "4"]),
]


@pytest.mark.parametrize(("name", "text", "want"), CUTS)
def test_texts_are_cut_as_the_models_cut_them(name: str, text: str, want: list[str]):
    cut = of_bytes(pre=name).inner.pre_tokenizer.pre_tokenize_str(text)
    assert [text[first:last] for _, (first, last) in cut] == want


UNSOUND = [
    ({"model": "bert"}, "'bert' is not supported"),
    ({"model": None}, "'tokenizer.ggml.model' is missing"),
    ({"pre": "magic"}, "'magic' is not supported"),
    ({"tokens": None}, "tokens must be a list of str"),
    ({"tokens": [1, 2]}, "tokens must be a list of str"),
    ({"tokens": ["a", "a"], "token_type": None}, "lists 'a' twice"),
    ({"tokens": []}, "lists 0 tokens"),
    ({"token_type": [1]}, "token_type has 1 entries"),
    ({"merges": None}, "merges must be a list of str"),
    ({"merges": ["ab"]}, "'ab', which is no pair"),
    ({"merges": ["no such"]}, "'no' and 'such'"),
    ({"bos_token_id": 10**6}, "bos_token_id=1000000 is none of"),
    ({"eos_token_id": -1}, "eos_token_id=-1 is none of"),
    ({"add_bos_token": 1}, "add_bos_token=1 must be true or false"),
]


@pytest.mark.parametrize(("change", "match"), UNSOUND, ids=[str(c[0]) for c in UNSOUND])
def test_metadata_that_do_not_fit(change: dict[str, Any], match: str):
    with pytest.raises(ValueError, match=match):
        of_bytes(**change)


def test_scores_that_do_not_fit():
    with pytest.raises(ValueError, match="scores has 2 entries"):
        of_pieces(scores=[0.0, 1.0])


@pytest.mark.parametrize("make", [of_bytes, of_pieces])
def test_it_is_written_as_a_published_folder(make: Any, tmp_path: Path):
    source = "{{ eos_token }}"
    ours = make(add_bos_token=True)
    ours = dataclasses.replace(ours, template=ChatTemplate(source, {"eos_token": "</s>"}))
    if make is of_bytes:
        ours = dataclasses.replace(ours, template=None)
    save_tokenizer(ours, tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.bos, again.eos, again.pad) == (ours.bos, ours.eos, ours.pad)
    assert (again.template is None) == (ours.template is None)
    for text in TEXTS:
        ids = ours.encode(text, add_special=False)
        assert again.encode(text, add_special=False) == ids
        assert again.decode(ids) == ours.decode(ids)
    assert again.encode("the") == ours.encode("the")
