"""The canvas engine on models that know a law exactly: closed forms, and its divergence."""

from __future__ import annotations

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from algorithms.diffusion.choosers import Factor, Threshold
from algorithms.diffusion.parallelbench import (
    factor_accuracy,
    law,
    sampled_accuracy,
    threshold_accuracy,
)
from jaxdecode.choose import Fixed, Top
from jaxdecode.decoder import decode
from jaxdecode.denoiser import Denoiser
from jaxdecode.guess import Chooser
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.law_model import LawModel
from jaxdecode.unmask import Unmasker

ROWS, N = 3000, 4


def texts(operation, chooser: Chooser, sampler, rows: int) -> tuple[list[tuple[int, ...]], float]:
    """What the engine makes of an exact law, and its mean passes."""
    right = law(operation, N)
    model = LawModel.of(right, N + 2, N + 1, first=2)
    places = right.length
    un = Unmasker(Denoiser(model, N + 1), chooser, sampler, Stop.of(), places, places)
    prompt = Prompt.of([[0, 1]] * rows)
    result = jax.device_get(decode(Autoregressive(un), jax.random.key(3), prompt))
    made = [tuple(text) for text in result.tokens[:, :places].tolist()]
    return made, float(np.mean(result.usage.target_passes))


@pytest.mark.parametrize("operation", ["shuffle", "replace_random"])
def test_drawn_k_places_a_step(operation) -> None:
    """As often right as the closed form says; the next k's form is rejected."""
    known = {tuple(text) for text in law(operation, N).support.tolist()}
    for k, other in ((1, 2), (2, 4), (4, 2)):
        made, passes = texts(operation, Top(Fixed(jnp.int32(k)), "random"), Categorical(), ROWS)
        assert passes == -(-N // k)
        hits = sum(text in known for text in made)
        expected = sampled_accuracy(operation, N, k)
        assert binomtest(hits, ROWS, expected).pvalue > 1e-3
        assert binomtest(hits, ROWS, sampled_accuracy(operation, N, other)).pvalue < 1e-6
        if k == 1:  # one at a time the law itself is drawn
            counts = Counter(made)
            assert set(counts) == known
            assert chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize("sets", [[[1, 3], [0, 2, 4]], [[0, 1], [2, 3, 4]]])
def test_filling_is_what_the_engine_would_draw(sets) -> None:
    """Insertion in two steps: interleaved sets cost 0.42 bits, neighbours more."""
    right = law("insert_random", N)
    bits = right.bound(sets)
    assert (abs(bits - 0.4200) < 5e-5) == (sets[0] == [1, 3])
    assert right.divergence(sets) == pytest.approx(bits)


def test_greedy_rules_on_replacing() -> None:
    """Confidence (n-1)/n is met exactly at 0.75: the rule is >=, and fills all at once."""
    known = {tuple(text) for text in law("replace_random", N).support.tolist()}
    for threshold in (0.7, 0.75, 0.76):
        made, passes = texts("replace_random", Threshold(jnp.float32(threshold)), Greedy(), 2)
        expected = threshold_accuracy("replace_random", N, threshold, strict=False)
        assert np.mean([text in known for text in made]) == expected
        assert passes == (N if expected else 1)
    for quirk in (False, True):
        made, passes = texts("replace_random", Factor(jnp.float32(1.0), quirk), Greedy(), 2)
        right = np.mean([text in known for text in made])
        # The published loop commits the last place too, where it is the first to fail.
        assert (passes, right) == ((1, 0.0) if quirk else factor_accuracy(N))


def test_laws_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="mask_id=2"):
        LawModel.of(law("shuffle", 3), 4, 2)
    with pytest.raises(ValueError, match="tokens=3"):
        LawModel.of(law("shuffle", 4), 3, 2)
