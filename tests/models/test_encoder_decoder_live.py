"""The same comparison with live T5s of other seeds, and the library's buckets. Run by
`make parity`."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from models.encoder_decoder.attention import bucket
from models.encoder_decoder.files import load_encoder_decoder
from tests.models.t5_reference import (
    ANSWERED,
    LENGTHS,
    TOLERANCE,
    VARIANTS,
    build,
    expect,
    sources,
    store,
)
from tests.models.test_encoder_decoder import answered

pytestmark = pytest.mark.parity
SEED = 100


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_checkpoint_of_the_library(variant: str, tmp_path: Path) -> None:
    reference = build(variant, SEED)
    store(variant, reference, tmp_path / "stored")
    expected = expect(reference, SEED)
    model = load_encoder_decoder(tmp_path / "stored", dtype="float32")
    prompt, room = model.asked(sources(SEED)), max(LENGTHS) + 1 + ANSWERED
    logits = answered(model, prompt, jnp.asarray(expected["answers"]), room)
    np.testing.assert_allclose(logits, expected["logits"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (8, 20), (64, 1000)])
def test_the_librarys_buckets(buckets: int, farthest: int) -> None:
    import torch
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = np.arange(-2 * farthest, 2 * farthest)
    for both_ways in (False, True):
        theirs = T5Attention._relative_position_bucket(
            torch.tensor(distance), both_ways, buckets, farthest
        )
        ours = bucket(jnp.asarray(distance), buckets, farthest, both_ways)
        np.testing.assert_array_equal(ours, theirs.numpy())
