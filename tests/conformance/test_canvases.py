"""Every decoder of canvases keeps what every decoder must."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.diffusion.choosers import Factor, Threshold
from algorithms.diffusion.fast_dllm import fast_dllm
from algorithms.diffusion.filter import Filter
from algorithms.diffusion.freedave import freedave
from algorithms.diffusion.learn2pd import learn2pd
from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.self_certainty import SelfCertainty
from algorithms.selection.speculative_rejection import SpeculativeRejection
from jaxdecode.choose import Top
from jaxdecode.denoiser import Denoiser
from jaxdecode.logits import Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import FunctionScorer
from jaxdecode.stop import Stop
from jaxdecode.testing.conformance import CHECKS, Subject
from jaxdecode.testing.enumerable import EnumerableLM
from jaxdecode.testing.hashed import Hashed, hashed_logits
from jaxdecode.unmask import Unmasker
from tests.references import unmasking

MASK, NEW, BLOCK = 5, 6, 3
MODEL: Any = Hashed.of(5, seed=4, sharpness=2.0).model
CAUSAL = EnumerableLM.random(3, 6)
CAUSAL = replace(CAUSAL, bias=CAUSAL.bias.at[MASK].set(-jnp.inf))


def double(tokens):
    pairs = list(enumerate(tokens))
    return np.stack([hashed_logits(MODEL, pairs, i) for i in range(len(tokens))])


def by_threshold(prompt, output) -> float:
    start = [*prompt, *[MASK] * NEW]
    run = unmasking.fill(double, start, MASK, len(prompt), BLOCK, unmasking.threshold(0.7))
    return sum(run.logprob[len(prompt) + i] for i in range(len(output)))


def by_factor(prompt, output) -> float:
    start = [*prompt, *[MASK] * NEW]
    run = unmasking.fill(double, start, MASK, len(prompt), BLOCK, unmasking.factor(1.0))
    return sum(run.logprob[len(prompt) + i] for i in range(len(output)))


def by_confidence(prompt, output) -> float:
    start = [*prompt, *[MASK] * NEW]
    run = unmasking.fill(double, start, MASK, len(prompt), BLOCK, unmasking.fixed(1))
    return sum(run.logprob[len(prompt) + i] for i in range(len(output)))


def from_left(prompt, output) -> float:
    return unmasking.left_to_right(double, prompt, output, MASK, NEW)


def canvas(model: Any, stop: Stop, max_tokens: int, **options: Any) -> Unmasker:
    """One place a pass, from the left, sampled: the chain rule."""
    options = {"chooser": Top(order="left"), "sampler": Categorical(), "block": BLOCK} | options
    return Unmasker(Denoiser(model, MASK), stop=stop, max_tokens=max_tokens, **options)


def threshold(model, stop, max_tokens):
    options = {"chooser": Threshold(0.7), "sampler": Greedy()}
    return Autoregressive(canvas(model, stop, max_tokens, **options))


def factored(model, stop, max_tokens):
    options = {"chooser": Factor(1.0), "sampler": Greedy()}
    return Autoregressive(canvas(model, stop, max_tokens, **options))


def cached(model, stop, max_tokens):
    denoiser = Denoiser(model, MASK)
    return Autoregressive(fast_dllm(denoiser, stop, max_tokens, 0.7, block=BLOCK))


def causal(model, stop, max_tokens):
    denoiser = Denoiser(model, MASK, shift=True, causal_blocks=1)
    return Autoregressive(
        Unmasker(denoiser, Top(), Categorical(), stop, max_tokens, 1, transform=Temperature(0.9))
    )


def drafted(model, stop, max_tokens):
    static = canvas(model, stop, max_tokens, chooser=Top(), sampler=Greedy())
    return Autoregressive(freedave(static, 3))


FILTER = Filter.threshold(BLOCK, 0.7)


def filtered(model, stop, max_tokens):
    return Autoregressive(learn2pd(Denoiser(model, MASK), FILTER, stop, max_tokens, 0.5))


def by_filter(prompt, output) -> float:
    """Ends of both results that are checked: none, or 0 and 2."""
    for eos in ((), (0, 2)):
        run = unmasking.learned(double, prompt, MASK, NEW, BLOCK, lambda c: c > 0.7, eos)
        if run.tokens[: len(output)] == list(output):
            places = range(len(prompt), len(prompt) + len(output))
            return sum(run.logprob.get(i, 0.0) for i in places)
    raise AssertionError(f"{output} after {prompt} is what neither run gives")


def worth(prompt, prompt_length, tokens, length):
    inside = jnp.arange(tokens.shape[1]) < length[:, None]
    return jnp.sum(jnp.where(inside, (7 * tokens + 3) % 5, 0), axis=1) + 0.01 * prompt_length


def best_of_n(model, stop, max_tokens):
    return BestOfN(canvas(model, stop, max_tokens), FunctionScorer(worth), samples=3)


def self_certainty(model, stop, max_tokens):
    return SelfCertainty(canvas(model, stop, max_tokens), samples=3)


ROWS: dict[str, dict[str, Any]] = {
    "unmask, threshold": {"make": threshold, "logprob": by_threshold},
    "parallelbench, factor": {"make": factored, "logprob": by_factor},
    "fast_dllm": {"make": cached, "logprob": by_threshold},
    "unmask, a causal model": {"make": causal, "model": CAUSAL},
    "freedave": {"make": drafted, "logprob": by_confidence, "prefills": False},
    "learn2pd": {"make": filtered, "logprob": by_filter},
    "best_of_n": {"make": best_of_n, "logprob": from_left, "pooled": True},
    "self_certainty": {"make": self_certainty, "logprob": from_left, "pooled": True},
}


@pytest.mark.parametrize("name", ROWS)
def test_conformance(name) -> None:
    subject = Subject(**({"model": MODEL, "max_tokens": NEW} | ROWS[name]))
    for check in CHECKS:
        check(subject)


def test_speculative_rejection_is_refused() -> None:
    """It trades memory that grows with the text, and a canvas has all of its own at once."""
    with pytest.raises(ValueError, match="has all its places from the start"):
        SpeculativeRejection(canvas(MODEL, Stop.of(), NEW), FunctionScorer(worth), 40, 6)
