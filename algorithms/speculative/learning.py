"""Speculative decoding whose drafter's memory is handed back, for the next run to start from."""

from __future__ import annotations

from jaxdecode import autoregress, struct
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.rows import check_start
from jaxdecode.speculate import Speculator
from jaxdecode.types import Array, Key


@struct.dataclass
class Learning:
    """Decodes every prompt once; the trace is the final state of the drafter."""

    generator: Speculator

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        rows = autoregress.generate(self.generator, key, prompt)
        return autoregress.finish(self.generator, rows, trace=rows.speculation[0])
