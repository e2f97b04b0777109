"""A verifier: follow the draft as plain decoding would, and at most `most` tokens far."""

import jax.numpy as jnp

from algorithms.speculative.drafters.prompt_lookup import PromptLookup
from jaxdecode import struct, verify
from jaxdecode.decoder import decode
from jaxdecode.plain import Autoregressive
from jaxdecode.speculate import Speculator


@struct.dataclass
class Cautious:
    """What plain decoding draws is accepted where it was drafted, up to a depth.

    Exact for any draft, since every token it emits is the draw of plain decoding.
    """

    most: int = struct.field(pytree_node=False, default=1)

    def pair(self, drafter):
        """Any drafter will do; raise a ValueError with the reason where one will not."""

    def __call__(self, keys, judge, draft, depth):
        rows = draft.tokens.shape[0]
        return verify.match(judge, draft.limited(jnp.full((rows,), self.most)), depth)


def run(generator, prompt, most=1):
    speculator = Speculator(generator, PromptLookup(length=4), Cautious(most))
    return decode(Autoregressive(speculator), key=0, prompt=prompt)
