"""The same file read by `transformers` and by llama.cpp. Run by `make parity`."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from jaxdecode.prompt import Prompt
from models.checkpoints import load
from models.tokenizer_files import load_tokenizer
from tests.models.generate import greedy, ragged
from tests.models.gguf.llama_cpp import Server
from tests.models.gguf.writing import KINDS, convert

pytestmark = pytest.mark.parity
# What `transformers` reads of a file is less than what is in it.
UNREAD = {
    "llama_llama3": "drops the tensor of rotary factors",
    "llama_linear": "drops the scaling of the positions",
    "llama_yarn": "drops the scaling of the positions",
    "llama_biased": "drops the biases",
    "gemma": "has no reader for it",
    "gemma3_linear": "drops the scaling of the positions",
    "phi3": "drops the partial rotation",
    "phi3_longrope": "drops the tensors of rotary factors",
}
NEAR = 1e-3  # logits nearer than this may be told apart differently


@pytest.mark.parametrize("name", [name for name in KINDS if name not in UNREAD])
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_logits_are_those_of_transformers(name: str, kind: str, tmp_path: Path):
    import torch
    import transformers

    path = convert(name, tmp_path / "x.gguf", lambda tensor: kind if wide(tensor) else "F32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="x.gguf", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    rows = np.random.default_rng(3).integers(3, 101, (2, 24))
    with torch.no_grad():
        want = theirs(torch.tensor(rows)).logits.numpy()
    got = ragged(load(path), rows, (24, 24))
    assert np.abs(got - want).max() < 1e-4


@pytest.mark.parametrize("name", KINDS)
def test_texts_are_those_of_llama_cpp(name: str, tmp_path: Path):
    """Greedy, token for token, until two tokens nearly tie."""
    importlib.import_module("xllamacpp")
    path = convert(name, tmp_path / "x.gguf")
    model = load(path)
    rng, new = np.random.default_rng(4), 24
    with Server(path) as server:
        for _ in range(3):
            prompt = rng.integers(3, 101, 9).tolist()
            want = server.greedy(prompt, new)
            got = np.asarray(greedy(model, Prompt.of([prompt]), new))[0].tolist()
            same = next(
                (i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), None
            )
            if same is not None:
                row = np.array([prompt + got[:same]])
                logits = np.sort(ragged(model, row, (row.shape[1],))[0, -1])
                assert logits[-1] - logits[-2] < NEAR, (same, got, want)
            else:
                assert len(want) >= 1


def test_tokens_are_those_of_llama_cpp(tmp_path: Path):
    importlib.import_module("xllamacpp")
    path = convert("llama", tmp_path / "x.gguf")
    ours = load_tokenizer(path)
    with Server(path) as server:
        for text in ("the cat and the hat", " on  an anther", "cat<s>then</s> at", "CATcat"):
            assert ours.encode(text) == server.tokenize(text), text


def wide(tensor: str) -> bool:
    """Whether a matrix has rows of whole blocks of 32: all but the second of the MLP."""
    return "ffn_down" not in tensor and "position" not in tensor
