"""A search: the best step so far is always gone on from, `children` at a time."""

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.arena import Choice, Search, finish
from jaxdecode.result import Status


@struct.dataclass
class BestFirst:
    """The strategy. It needs no note of its own: the arena has every node's reward."""

    lanes: int = struct.field(pytree_node=False)

    def init(self, arena):
        return ()

    def select(self, key, arena, note, step):
        made = jnp.arange(arena.depth.shape[1]) < arena.nodes[:, None]
        open_ = made & (arena.status == Status.RUNNING) & ~arena.grown
        best = jnp.argmax(jnp.where(open_, arena.reward, -jnp.inf), axis=1)
        parents = jnp.repeat(best[:, None], self.lanes, axis=1)
        done = ~jnp.any(open_, axis=1)
        return Choice(parents, jnp.zeros_like(done), done), note

    def backup(self, arena, note, fresh, child):
        return note


def run(steps, evaluator, key, prompt, children=2, rounds=6):
    nodes = 1 + children * rounds
    strategy = BestFirst(children)
    search = Search(steps, evaluator, strategy, rounds, nodes, children * rounds * steps.width)
    arena, _, _ = search.run(key, prompt)
    ended = arena.status == Status.EOS
    return finish(steps.model, arena, jnp.argmax(jnp.where(ended, arena.reward, -1), axis=1), None)
