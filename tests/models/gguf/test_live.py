"""The same file read by `transformers` and by llama.cpp. Run by `make parity`."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from jaxdecode.prompt import Prompt
from models.checkpoints import load
from models.tokenizer_files import load_tokenizer
from tests.models.generate import greedy, ragged
from tests.models.gguf.llama_cpp import Server
from tests.models.gguf.writing import FIXTURES, KINDS, convert

pytestmark = pytest.mark.parity
# `transformers` reads the tensors of these, and of the settings too few: it is given the config.
# It has no reader for Gemma 1, Mixtral and OLMoE, and refuses the older spelling of Phi-3's config.
UNREAD = ("gemma", "mixtral", "olmoe", "phi3_longrope")
READ = [name for name in KINDS if name not in UNREAD]
NEAR = 1e-3  # logits nearer than this may be told apart differently


@pytest.mark.skipif(find_spec("accelerate") is None, reason="transformers reads GGUF by it")
@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_logits_are_those_of_transformers(name: str, kind: str, tmp_path: Path):
    import torch
    import transformers

    path = convert(name, tmp_path / "x.gguf", lambda tensor: kind if wide(tensor) else "F32")
    config = transformers.AutoConfig.from_pretrained(FIXTURES / name)
    if name.startswith("gemma"):
        config.query_pre_attn_scalar = config.head_dim
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path,
        gguf_file="x.gguf",
        config=config,
        dtype=torch.float32,
        attn_implementation="eager",
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
    # Phi-3's window is not implemented there, nor OLMoE with keys that heads share.
    change = {"phi3.attention.sliding_window": None}
    path = convert(name, tmp_path / "x.gguf", change=change, ungrouped=name == "olmoe")
    model, end = load(path), load_tokenizer(path).eos
    rng, new = np.random.default_rng(4), 24
    with Server(path) as server:
        for _ in range(3):
            prompt = rng.integers(3, 101, 20).tolist()
            want = ended(server.greedy(prompt, new), end)
            got = ended(np.asarray(greedy(model, Prompt.of([prompt]), new))[0].tolist(), end)
            if got != want:
                same = sum(itertools.takewhile(bool, map(int.__eq__, got, want)))
                row = np.array([prompt + got[:same]])
                logits = np.sort(ragged(model, row, (row.shape[1],))[0, -1])
                assert logits[-1] - logits[-2] < NEAR, (same, got, want)


def test_tokens_are_those_of_llama_cpp(tmp_path: Path):
    importlib.import_module("xllamacpp")
    path = convert("llama", tmp_path / "x.gguf")
    ours = load_tokenizer(path)
    with Server(path) as server:
        for text in ("the cat and the hat", " on  an anther", "cat<s>then</s> at", "CATcat"):
            assert ours.encode(text) == server.tokenize(text), text


def ended(tokens: list[int], end: Sequence[int]) -> list[int]:
    return list(itertools.takewhile(lambda token: token not in end, tokens))


def wide(tensor: str) -> bool:
    """Whether a matrix has rows of whole blocks of 32: all but the second of the MLP."""
    return "ffn_down" not in tensor and "position" not in tensor


@pytest.mark.real
def test_the_real_file_writes_what_llama_cpp_writes():
    """There blocks are multiplied as they are stored, which rounds every activation: of its greedy
    text each token is our likeliest, or within 0.3 of it on logits that reach 30."""
    from experiments.zoo import real

    if "smollm2" not in real.names():
        pytest.skip("the real model's package is not installed; `make real` does that")
    path = real.path("smollm2")
    model, codec = load(path), load_tokenizer(path)
    turn = "<|im_start|>user\nName a river.<|im_end|>\n<|im_start|>assistant\n"
    texts = ("It's 12345 o'clock\n\n  yes\t\tno .", "été 你好 🙂\r\n", "def f(x):\n    return x")
    with Server(path, context=256, threads=2) as server:
        for text in texts:
            assert codec.encode(text) == server.tokenize(text), text
        for prompt in map(codec.encode, ("Once upon a time", turn)):
            tokens = server.greedy(prompt, 48)
            row = np.array([prompt + tokens])
            logits = ragged(model, row, (row.shape[1],))[0, len(prompt) - 1 : -1]
            chosen = np.take_along_axis(logits, np.array(tokens)[:, None], 1)[:, 0]
            assert (logits.max(1) - chosen).max() < 0.3
            assert (logits.argmax(1) == tokens).mean() > 0.85
