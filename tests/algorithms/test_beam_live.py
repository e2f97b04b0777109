"""Beam search against `transformers` on a checkpoint of its own. Run by `make parity`.

Group beam search has left the library (since version 5); its semantics are checked against
worked lists and a plain reference in `test_beam_search`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algorithms.search.beam_search import BeamSearch
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.extension import Stopping
from jaxdecode.finished import LengthPenalty
from jaxdecode.logits import BanSequences, Identity, LogitsTransform, NoRepeatNgram
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from models.checkpoints import load
from tests.models.reference import build, store
from tests.models.variants import VARIANTS

pytestmark = pytest.mark.parity
BEAMS, NEW, SEED = 4, 12, 7
ROWS = ([5, 9, 31, 4, 77, 12, 60], [8, 45], [90, 3, 3, 17, 22])
FREE = Identity()
CASES: dict[str, tuple[dict[str, Any], Stopping, float, LogitsTransform]] = {
    "the pool is full": ({"early_stopping": True, "length_penalty": 0.4}, "first", 0.4, FREE),
    "as they stand": ({"early_stopping": False, "length_penalty": 0.5}, "heuristic", 0.5, FREE),
    "exact": ({"early_stopping": "never", "length_penalty": 0.3}, "exact", 0.3, FREE),
    "no penalty": ({"early_stopping": "never", "length_penalty": 0.0}, "exact", 0.0, FREE),
    "no pair twice": (
        {"early_stopping": True, "length_penalty": 0.4, "no_repeat_ngram_size": 2},
        "first",
        0.4,
        NoRepeatNgram(2, NEW),
    ),
    "no token twice": (
        {"early_stopping": True, "length_penalty": 0.4, "no_repeat_ngram_size": 1},
        "first",
        0.4,
        NoRepeatNgram(1, NEW),
    ),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Any, Any]:
    """Their model and ours, of the same weights."""
    folder: Path = tmp_path_factory.mktemp("beams")
    reference = build(VARIANTS[0], SEED)
    store(VARIANTS[0], reference, folder)
    return reference, load(folder, dtype="float32")


@pytest.fixture(scope="module")
def ends(pair) -> list[int]:
    """Tokens that beams without an end hold, so that hypotheses end at several lengths."""
    generator = Generator(pair[1], Identity(), Greedy(), Stop.of(()), NEW)
    found = decode(BeamSearch(generator, BEAMS), 0, Prompt.of(ROWS)).trace.tokens
    return [int(found[0, 0, 4]), int(found[1, 1, 7])]


@pytest.mark.parametrize("case", CASES)
def test_the_same_hypotheses_with_the_same_scores(case, pair, ends) -> None:
    options, stopping, alpha, transform = CASES[case]
    assert_same(pair, ends, options, stopping, alpha, transform)


def test_banned_sequences_are_those_of_the_library(pair, ends) -> None:
    """Sequences that unconstrained beams hold, one of a single token, one begun in a prompt."""
    generator = Generator(pair[1], Identity(), Greedy(), Stop.of(ends), NEW)
    found = decode(BeamSearch(generator, BEAMS), 0, Prompt.of(ROWS)).trace.tokens
    first, second = found[0, 0].tolist(), found[2, 1].tolist()
    banned = [first[1:3], second[2:5], [second[6]], [ROWS[1][-1], int(found[1, 0, 0])]]
    options = {"early_stopping": True, "length_penalty": 0.4, "bad_words_ids": banned}
    assert_same(pair, ends, options, "first", 0.4, BanSequences.of(banned))


def assert_same(
    pair: tuple[Any, Any],
    ends: list[int],
    options: dict[str, Any],
    stopping: Stopping,
    alpha: float,
    transform: LogitsTransform,
) -> None:
    """Lists of every row, in order, with scores that agree."""
    import torch

    theirs, ours = pair
    generator = Generator(ours, transform, Greedy(), Stop.of(ends), NEW)
    decoder = BeamSearch(generator, BEAMS, LengthPenalty(alpha), stopping, leading=True)
    found = decode(decoder, 0, Prompt.of(ROWS)).trace
    lengths: set[int] = set()
    for row, tokens in enumerate(ROWS):
        prompt = torch.tensor([tokens])
        with torch.no_grad():
            expected = theirs.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                num_beams=BEAMS,
                num_return_sequences=BEAMS,
                do_sample=False,
                max_new_tokens=NEW,
                eos_token_id=ends,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_scores=True,
                **options,
            )
        scores = expected.sequences_scores.numpy()
        np.testing.assert_allclose(found.rank[row], scores, atol=1e-4)
        for k, sequence in enumerate(expected.sequences[:, len(tokens) :].tolist()):
            length = int(found.length[row, k])
            assert found.tokens[row, k, :length].tolist() == sequence[:length]
            assert set(sequence[length:]) <= {ends[0]}  # what the library fills up with
            lengths.add(length)
    assert len(lengths) > 1  # some end by themselves
