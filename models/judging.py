"""Judges of text for methods that choose: a reward model's folder, or a function of text.

A function runs on the host, once for every response that is scored, while the compiled program
waits for it. What it returns is never trusted to be a number: anything else is no score (the
response counts as invalid), and so is an exception, which is told once by a warning.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.scoring import FunctionScorer, RewardScorer
from jaxdecode.types import Array, Float, Int
from models.reward_checkpoints import load_reward
from models.text import Tokenizer, check_same_tokenizer
from models.tokenizer_files import load_tokenizer

Judging = Callable[[str, str], float]
"""(prompt, response) -> what the response is worth; higher is better."""


def function_judge(function: Judging, tokenizer: Tokenizer) -> FunctionScorer:
    """A scorer from a Python function of prompt and response, both as text.

    Special tokens are shown in the prompt and left out of the response. Keep what is returned: a
    decoder with another one compiles again.
    """

    def score(
        prompt: np.ndarray, prompt_length: np.ndarray, tokens: np.ndarray, length: np.ndarray
    ) -> np.ndarray:
        prompts = tokenizer.decode_rows(prompt, prompt_length, skip_special=False)
        rows = zip(prompt, prompt_length, tokens, length, strict=True)
        texts = [tokenizer.decode(row[:n], after=given[:p]) for given, p, row, n in rows]
        pairs = zip(prompts, texts, strict=True)
        return np.array([_number(function, *pair) for pair in pairs], np.float32)

    def scores(
        prompt: Int[Array, "R P"],
        prompt_length: Int[Array, "R"],
        tokens: Int[Array, "R L"],
        length: Int[Array, "R"],
    ) -> Float[Array, "R"]:
        shape = jax.ShapeDtypeStruct(length.shape, jnp.float32)
        given = (prompt, prompt_length, tokens, length)
        return jax.pure_callback(score, shape, *given, vmap_method="sequential")

    return FunctionScorer(scores)


def _number(function: Judging, prompt: str, text: str) -> float:
    try:
        return float(function(prompt, text))
    except Exception as error:  # whatever a user's function does, the others' scores stand
        warnings.warn(
            f"the judge failed on {text[:60]!r} ({type(error).__name__}: {error}); the response "
            "counts as invalid",
            stacklevel=2,
        )
        return float("nan")


def reward_judge(folder: str | os.PathLike, tokenizer: Tokenizer) -> RewardScorer:
    """A scorer from a published reward model that shares the generator's vocabulary.

    Raises:
      ValueError: it cannot be opened, or means other text by the same tokens.
    """
    published, theirs = load_reward(folder), load_tokenizer(folder)
    check_same_tokenizer(tokenizer, theirs)
    # Where padding and end are one token, the model was trained to be read before it.
    unread = [published.pad] if published.pad in theirs.eos else []
    return RewardScorer(published.model, unread=jnp.asarray(unread, jnp.int32))
