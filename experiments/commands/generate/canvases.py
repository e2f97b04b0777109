"""Decoders of masked diffusion models from the options of a command line.

A canvas of --max-tokens places is filled block by block. Guesses are the likeliest tokens; with
--temperature, for rules that choose places without looking at thresholds, they are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from algorithms.diffusion import oracle
from algorithms.diffusion.choosers import EntropyBounded, Factor, Threshold
from algorithms.diffusion.filter import Filter, fingerprint, train
from algorithms.diffusion.freedave import freedave
from algorithms.diffusion.learn2pd import learn2pd
from experiments.commands.decoding.rules import Rules
from experiments.commands.decoding.uses import Name, check
from experiments.inputs import prompts
from experiments.inputs.sources import Source
from jaxdecode.choose import Even, Fixed, Top
from jaxdecode.decoder import Decoder
from jaxdecode.guess import Chooser
from jaxdecode.logits import Identity, Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Expander
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.unmask import Unmasker

WIDEST = 32  # places of a block that nobody asked for


@dataclass(frozen=True)
class Filling:
    """A denoiser, when its text ends, and the options."""

    source: Source
    stop: Stop
    rules: Rules

    @property
    def block(self) -> int:
        """As given, or the largest divisor of the canvas that is no wider than usual."""
        if self.rules.block is not None:
            return self.rules.block
        grid = self.source.model.causal_blocks
        sizes = range(1, min(WIDEST, self.rules.max_tokens) + 1)
        return grid or max(size for size in sizes if self.rules.max_tokens % size == 0)

    @property
    def options(self) -> dict[str, Any]:
        return {"block": self.block, "cache": self.rules.cache or "none"}

    @property
    def blocks(self) -> int:
        return -(-self.rules.max_tokens // self.block)

    def by(self, chooser: Chooser) -> Unmasker:
        """Places chosen so."""
        warm = self.rules.temperature
        return Unmasker(
            self.source.model,
            chooser,
            Greedy() if warm is None else Categorical(),
            self.stop,
            self.rules.max_tokens,
            transform=Identity() if warm is None else Temperature(warm),
            **self.options,
        )

    def above(self, default: float) -> float:
        given = self.rules.threshold
        return default if given is None else float(given)

    def even(self, order: Any) -> Unmasker:
        """All places in so many passes, as many in every block."""
        steps, blocks = self.rules.steps, self.blocks
        if steps is None:
            return self.by(Top(Fixed(1), order))
        if steps % blocks:
            raise ValueError(
                f"--steps {steps}: the {blocks} blocks of {self.block} places take equally many "
                f"passes; give a multiple of {blocks}, or another --block"
            )
        return self.by(Top(Even(steps // blocks), order))


def _freedave(filling: Filling) -> Expander:
    """Static decoding of k places a pass, verified ahead."""
    places, steps = filling.rules.max_tokens, filling.rules.steps or filling.rules.max_tokens
    if places % steps:
        raise ValueError(
            f"--steps {steps}: FreeDave is exact where every pass fills as many places; give a "
            f"divisor of --max-tokens {places}"
        )
    return freedave(filling.by(Top(Fixed(places // steps))), filling.rules.drafts or 4)


def _learned(filling: Filling) -> Expander:
    """A filter is trained on how this denoiser fills the canvases of the lessons, then used."""
    codec, denoiser = filling.source.codec, filling.source.model
    requests = prompts.read(Path(str(filling.rules.lessons)))
    asked = Prompt.of([codec.prompt(request.prompt) for request in requests])
    lesson = oracle.lesson(filling.by(Top()), jax.random.key(0), asked)
    start = Filter.random(0, filling.block, model=fingerprint(denoiser))
    filter, _ = train(start, lesson)
    places, threshold = filling.rules.max_tokens, filling.above(0.96)
    return learn2pd(denoiser, filter, filling.stop, places, threshold, **filling.options)


MAKERS: dict[Name, Callable[[Filling], Expander]] = {
    "fast-dllm": lambda it: it.by(Threshold(it.above(0.9))),
    "factor": lambda it: it.by(Factor(it.above(1.0))),
    "entropy-bounded": lambda it: it.by(EntropyBounded(it.above(0.1))),
    "fixed-k": lambda it: it.even("confidence"),
    "left-to-right": lambda it: it.even("left"),
    "learn2pd": _learned,
    "freedave": _freedave,
}


def build(name: Name, rules: Rules, source: Source, stop: Stop) -> Decoder:
    """The decoder of that name over a denoiser.

    Raises:
      ValueError: for options out of range, or that this decoder does not use.
    """
    check(name, rules)
    return Autoregressive(MAKERS[name](Filling(source, stop, rules)))
