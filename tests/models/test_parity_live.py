"""The same comparison with live models of other seeds, and the way back: what we write,
`transformers` opens. Run by `make parity`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jaxdecode.prompt import Prompt
from models.checkpoints import load
from models.export import save
from tests.models.generate import greedy, ragged
from tests.models.reference import build, expect, store, tokens
from tests.models.variants import LENGTHS, NEW, PROMPTS, TOLERANCE, VARIANTS, Variant

pytestmark = pytest.mark.parity
BY_NAME = [pytest.param(variant, id=variant.name) for variant in VARIANTS]
SEED = 100


@pytest.mark.parametrize("variant", BY_NAME)
def test_a_sharded_checkpoint_of_the_library(variant: Variant, tmp_path: Path):
    variant = dataclasses.replace(variant, shard="20KB")
    reference = build(variant, SEED)
    store(variant, reference, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    rows = tokens(SEED)
    expected = expect(reference, rows)
    model = load(tmp_path, dtype="float32")
    logits = ragged(model, rows, LENGTHS)
    for row, length in enumerate(LENGTHS):
        error = np.abs(logits[row, :length] - expected["logits"][row, :length]).max()
        assert error < TOLERANCE, (row, error)
    prompt = Prompt.of([rows[row, :length].tolist() for row, length in enumerate(PROMPTS)])
    same = np.asarray(greedy(model, prompt, NEW)) == expected["greedy"]
    assert same.all() or expected["margin"] < 1e-4


@pytest.mark.parametrize("variant", BY_NAME)
def test_the_library_opens_what_is_written(variant: Variant, tmp_path: Path):
    import torch
    import transformers

    reference = build(variant, SEED + 1)
    store(variant, reference, tmp_path / "theirs")
    model = load(tmp_path / "theirs", dtype="float32")
    save(model, tmp_path / "ours", max_shard_bytes=20_000)
    opened = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    rows = tokens(SEED + 1)
    ids = torch.tensor(rows, dtype=torch.long)
    with torch.no_grad():
        theirs = opened(ids).logits.numpy()
    ours = ragged(model, rows, (rows.shape[1],) * len(rows))
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)
    again = load(tmp_path / "ours")
    assert again.config == model.config
