"""A GGUF file written as a folder is the same model with the same tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.commands import convert
from models.checkpoints import load
from models.tokenizer_files import load_tokenizer
from models.transformer import arrays_of
from tests.models.gguf import writing

pytest.importorskip("gguf")


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_a_file_becomes_a_folder(name: str, tmp_path: Path, capsys):
    change = {"tokenizer.chat_template": "{{ messages[0]['content'] }}"}
    file = writing.convert(name, tmp_path / "x.gguf", change=change)
    out = tmp_path / "out"
    convert.main([str(file), str(out)])
    assert str(out) in capsys.readouterr().out
    ours, theirs = load(out), load(file)
    assert ours.config == theirs.config
    for path, array in arrays_of(theirs).items():
        np.testing.assert_array_equal(arrays_of(ours)[path], array, err_msg=path)
    codec, original = load_tokenizer(out), load_tokenizer(file)
    assert codec.encode("the cat") == original.encode("the cat")
    assert (codec.bos, codec.eos) == (original.bos, original.eos)
    assert codec.render_chat([{"role": "user", "content": "hi"}]) == "hi"
    assert json.loads((out / "config.json").read_text())["eos_token_id"] == 2


def test_a_folder_that_is_there_is_kept(tmp_path: Path):
    file = writing.convert("llama", tmp_path / "x.gguf")
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit, match="exists"):
        convert.main([str(file), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="neither a folder"):
        convert.main([str(tmp_path / "no.bin"), str(tmp_path / "out2")])


def test_weights_can_be_stored_in_half(tmp_path: Path):
    file = writing.convert("llama", tmp_path / "x.gguf")
    convert.main([str(file), str(tmp_path / "half"), "--dtype", "bfloat16"])
    assert load(tmp_path / "half").dtype == "bfloat16"
