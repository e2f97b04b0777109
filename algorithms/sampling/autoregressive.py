"""Plain decoding: sampling or greedy search, whatever the generator's sampler does."""

from __future__ import annotations

from jaxdecode import autoregress, struct
from jaxdecode.autoregress import Generator
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.rows import check_start
from jaxdecode.types import Array, Key


@struct.dataclass
class Autoregressive:
    """Decodes every prompt once, token by token; the trace is the generator's meter."""

    generator: Generator

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        rows = autoregress.generate(self.generator, key, prompt)
        return autoregress.finish(self.generator, rows, trace=rows.meter)
