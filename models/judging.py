"""Judges of text for methods that choose: a reward model's folder, or a function of text."""

from __future__ import annotations

import os
from collections.abc import Callable

import jax.numpy as jnp

from jaxdecode.host import HostJudge, HostScorer
from jaxdecode.scoring import RewardScorer
from models.reward_checkpoints import load_reward
from models.text import Tokenizer, check_same_tokenizer
from models.tokenizer_files import load_tokenizer

Judging = Callable[..., float]
"""(prompt, response) -> what the response is worth; higher is better. See `HostJudge.of`."""


def function_judge(function: Judging, tokenizer: Tokenizer) -> HostScorer:
    """A scorer from a Python function of prompt and response, both as text.

    Special tokens are shown in the prompt and left out of the response. Keep what is returned: a
    decoder with another one compiles again. What went wrong is in its `judge.log`.

    Raises:
      ValueError: it takes other arguments; see `jaxdecode.host.HostJudge`.
    """
    return HostJudge.of(function, tokenizer).scorer


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
