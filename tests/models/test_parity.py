"""Stored `transformers` models give the same logits and greedy tokens here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxdecode.prompt import Prompt
from models.checkpoints import load
from tests.models.generate import greedy, ragged
from tests.models.variants import LENGTHS, NEW, PROMPTS, TOLERANCE, VARIANTS, Variant

FIXTURES = Path(__file__).parent / "fixtures"
BY_NAME = [pytest.param(variant, id=variant.name) for variant in VARIANTS]


@pytest.mark.parametrize("variant", BY_NAME)
def test_logits_and_greedy_tokens_of_the_library(variant: Variant):
    folder = FIXTURES / variant.name
    expected = np.load(folder / "expected.npz")
    model = load(folder, dtype="float32", check_finite=True)
    rows = expected["tokens"]
    logits = ragged(model, rows, LENGTHS)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(
            logits[row, :length], expected["logits"][row, :length], atol=TOLERANCE, rtol=0
        )
    prompt = Prompt.of([rows[row, :length].tolist() for row, length in enumerate(PROMPTS)])
    np.testing.assert_array_equal(greedy(model, prompt, NEW), expected["greedy"])


def test_the_fixtures_are_those_of_the_table():
    assert {path.name for path in FIXTURES.iterdir()} == {variant.name for variant in VARIANTS}
