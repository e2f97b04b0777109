"""Finished responses are scored as they were when they were drawn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.selection.best_of_n import BestOfN
from jaxdecode.decoder import decode
from jaxdecode.responses import as_rows, judge
from jaxdecode.scoring import RewardScorer
from jaxdecode.testing.enumerable import EnumerableLM
from tests import samples
from tests.jaxdecode.test_scoring import Judge


def test_responses_are_judged_as_they_were_drawn() -> None:
    """By a reward model with a cache of its own; prompts and responses are ragged."""
    scorer = RewardScorer(Judge(EnumerableLM.random(8, 6, sharpness=2.0)))
    prompt = samples.prompts()
    pool = jax.device_get(decode(BestOfN(samples.generator(), scorer, 4), 0, prompt)).trace
    found = judge(scorer, prompt, pool.tokens, pool.length)
    np.testing.assert_allclose(found, pool.score, rtol=1e-5)
    assert len(set(pool.length.ravel().tolist())) > 3


def test_an_empty_response_ends_where_its_prompt_does() -> None:
    prompt = samples.prompts()
    tokens = jnp.full((6, 2), 5, jnp.int32)
    rows = as_rows(prompt, tokens, jnp.array([0, 2] * 3))
    last = [samples.PROMPTS[row][-1] for row in range(3)]
    np.testing.assert_array_equal(rows.root, np.ravel([[token, 5] for token in last]))
    np.testing.assert_array_equal(rows.prompt_length, np.repeat([2, 1, 4], 2))
