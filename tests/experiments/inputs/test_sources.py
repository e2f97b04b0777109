"""A folder of SentencePiece words, with a token more than the model has embeddings for."""

from __future__ import annotations

from pathlib import Path

import pytest
from flax import nnx

from experiments.commands.decoding.decoders import Rules
from experiments.commands.generate import running
from experiments.commands.generate.answers import Job
from experiments.commands.generate.options import Options
from experiments.inputs import sources
from models import export
from models.presets import small
from models.text import BROKEN
from models.transformer import Transformer
from tests.models.vocabularies import sentencepiece, write

TEXTS = ("the cat", "the cat</s>", "</s>", "that") * 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pieces")
    inner = sentencepiece()
    rows = inner.get_vocab_size(with_added_tokens=True)
    inner.add_special_tokens(["<image>"])
    settings = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    files = write(root / "files", inner, tokenizer_config=settings | {"add_eos_token": True})
    model = Transformer(small(rows, hidden=32, layers=1, max_positions=96), rngs=nnx.Rngs(1))
    export.save(model, root / "model", family="llama", tokenizer=files)
    return root / "model"


def test_the_folder_opens_and_only_a_text_with_that_token_is_refused(folder: Path) -> None:
    source = sources.open_model(str(folder))
    codec = source.codec
    assert codec.text.rows == source.model.vocab_size == codec.text.vocab_size - 1
    with pytest.raises(ValueError, match=r"names '<image>'.*leave it out"):
        codec.prompt("the <image>")
    bos, (eos,) = codec.text.bos, codec.text.eos
    # What closes every text is left out, what the prompt itself ends with is not.
    assert codec.prompt("the cat") == [bos, *codec.piece("the cat")]
    assert codec.prompt("the cat</s>") == [*codec.prompt("the cat"), eos]
    assert codec.prompt("</s>") == [bos, *codec.piece("</s>")]


def test_a_prompt_and_its_answer_are_the_text(folder: Path) -> None:
    """In records and streamed alike, first spaces included."""

    def job_of(texts: tuple[str, ...], stream: bool = False) -> Job:
        rules = Rules(max_tokens=8)
        options = Options(str(folder), prompts=texts, rules=rules, batch=64, seed=5, stream=stream)
        return running.prepare(options, "sample")

    job = job_of(TEXTS)
    spaced = 0
    for record in job.answers(range(len(TEXTS))):
        prompt = job.tokens[record["id"]]
        before = job.codec.decode(prompt)
        whole = job.codec.decode([*prompt, *record["tokens"]])
        assert BROKEN in before or before + record["text"] == whole
        spaced += record["text"] != job.codec.decode(record["tokens"])
    assert spaced, "the example has an answer that begins with a space"
    alone = job_of(TEXTS[:1], stream=True)
    assert "".join(running.spoken(alone)) == next(iter(job.answers([0])))["text"]
