"""Plain decoding: one response to a prompt, by whatever generator makes the tokens."""

from __future__ import annotations

from jaxdecode import autoregress, struct
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.rows import Expander, Rows, check_start
from jaxdecode.types import Array, Key


@struct.dataclass
class Autoregressive:
    """Decodes every prompt once; the trace is the generator's meter.

    A `Generator` makes a token at a time, a `Speculator` the tokens of a draft that its target
    accepts; either is also what best-of-N and whatever else takes a generator run on.
    """

    generator: Expander

    @property
    def expander(self) -> Expander:
        return self.generator

    def finish(self, rows: Rows) -> Result:
        """See `jaxdecode.refill.Refillable`."""
        return autoregress.finish(self.generator, rows, trace=rows.meter)

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        return self.finish(autoregress.generate(self.generator, key, prompt))
