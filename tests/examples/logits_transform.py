"""A logits transform: the token that was emitted last is less likely to come again."""

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM


@struct.dataclass
class NoEcho:
    """Takes `penalty` off the logit of the newest token; a leaf, so a new one compiles nothing."""

    penalty: float = 2.0

    def init(self, prompt):
        """State leads with the rows: the newest token of each."""
        return jnp.take_along_axis(prompt.tokens, prompt.length[:, None] - 1, axis=1)[:, 0]

    def apply(self, state, logits):
        newest = jnp.arange(logits.shape[1]) == state[:, None]
        return jnp.where(newest, logits - self.penalty, logits)

    def observe(self, state, token, active):
        return jnp.where(active, token, state)


def run(penalty=2.0):
    model = EnumerableLM.random(0, vocab=5)
    generator = Generator(model, NoEcho(penalty), Categorical(), Stop.of(0), max_tokens=12)
    return decode(Autoregressive(generator), key=0, prompt=Prompt.of([[1, 2], [3]]))
