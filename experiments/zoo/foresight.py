"""What a head that foresees acceptance learns from: a target's responses and a draft's draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax

from algorithms.speculative.specdec_pp import label
from experiments.tasks.batches import WindowBatches
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.sampling import Categorical
from jaxdecode.stop import Stop
from models.transformer import Transformer

PROMPT, RESPONSE = 64, 128


def foreseen(
    windows: WindowBatches,
    target: Callable[[], Transformer],
    draft: Callable[[], Transformer],
    pool: int,
) -> Callable[[int], dict[str, Any]]:
    """Batches of `jaxdecode.train.foresight.acceptance`, at temperature 1.

    Prompts are the windows' first tokens. The target answers `pool` batches of them, once each
    and when first asked for; the draft's draws along an answer are new at every step.
    """
    seed = windows.seed

    @cache
    def models() -> tuple[Generator, Transformer]:
        stop = Stop.of((windows.codec.eos_id,))
        return Generator(target(), Temperature(1.0), Categorical(), stop, RESPONSE), draft()

    @cache
    def answered(index: int) -> tuple[Prompt, Result]:
        prompt = Prompt.of(windows(index).tokens[:, :PROMPT].tolist(), width=PROMPT)
        key = jax.random.fold_in(jax.random.key(seed), index)
        return prompt, decode(Autoregressive(models()[0]), key, prompt)

    labelled = jax.jit(label)

    def batch(step: int) -> dict[str, Any]:
        key = jax.random.fold_in(jax.random.key(seed + 1), step)
        lesson = labelled(*models(), key, *answered(step % pool))
        return {"hidden": lesson.hidden, "label": lesson.label, "counted": lesson.counted}

    return batch
