"""Speculative decoding as a decoder: any drafter, policy and verifier that fit."""

from __future__ import annotations

from jaxdecode import autoregress, struct
from jaxdecode.prompt import Prompt, check_prompt
from jaxdecode.result import Result
from jaxdecode.speculate import Speculator
from jaxdecode.types import Array, Key


@struct.dataclass
class Speculative:
    """Decodes every prompt once; the trace is the generator's meter.

    The speculator is also what best-of-N, speculative rejection and whatever else takes a
    generator run on.
    """

    speculator: Speculator

    def check(self, prompt: Prompt) -> None:
        check_prompt(prompt, self.speculator.model.vocab_size)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        rows = autoregress.generate(self.speculator, key, prompt)
        return autoregress.finish(self.speculator, rows, trace=rows.meter)
