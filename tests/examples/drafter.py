"""A drafter: whatever was said last is said again."""

import jax.numpy as jnp

from algorithms.speculative.verifiers.match import Match
from jaxdecode import struct
from jaxdecode.decoder import decode
from jaxdecode.draft import Draft, Shape, Spent
from jaxdecode.plain import Autoregressive
from jaxdecode.speculate import Speculator


@struct.dataclass
class Echo:
    """A chain of `nodes` copies of the newest token."""

    nodes: int = struct.field(pytree_node=False, default=3)

    drawn = False  # chosen, not drawn from a law
    vocab_size = None  # it has no tables

    @property
    def depth(self):
        return self.nodes

    def init(self, target, prompt, hidden, room, capacity):
        return ()

    def propose(self, target, state, now):
        rows = now.root.shape[0]
        tokens = jnp.broadcast_to(now.root[:, None], (rows, self.nodes))
        there = jnp.broadcast_to(now.active[:, None], tokens.shape)
        return Draft(tokens, Shape.line(rows, self.nodes), there, Spent.nothing(rows)), state

    def commit(self, target, state, draft, outcome):
        return state


def run(generator, prompt):
    return decode(Autoregressive(Speculator(generator, Echo(), Match())), key=0, prompt=prompt)
