"""What the target says at the nodes of a draft, as the generator would use it.

A generator edits logits by a transform that remembers what was emitted, and draws with a
sampler. A judge carries both into a tree: whoever walks from the root outwards observes the
accepted tokens and asks for the law, or for the draw, at the node where it stands. Nothing is
computed at nodes that are not visited.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.draft import at
from jaxdecode.logits import LogitsTransform, noted
from jaxdecode.sampling import Sampler, step_keys
from jaxdecode.types import Array, Bool, Float, Int, Key


@struct.dataclass
class Judge:
    """The target at the root (index 0) and at N nodes (index node + 1) of B rows.

    Attributes:
      logits: f32[B, N + 1, V], raw.
      transform, sampler: the generator's.
      state: the transform's state at the root.
      key: the rows' own keys, those of plain decoding.
      step: i32[B], tokens emitted before this round.
      active: bool[B], rows that take part.
    """

    logits: Float[Array, "B Np1 V"]
    transform: LogitsTransform
    sampler: Sampler
    state: Any
    key: Key[Array, "B"]
    step: Int[Array, "B"]
    active: Bool[Array, "B"]

    def edited(self, state: Any, node: Int[Array, "B"]) -> Float[Array, "B V"]:
        """Transformed logits of the token after `node`; `state` has seen the path to it."""
        return self.transform.apply(state, at(self.logits, node + 1))

    def law(self, state: Any, node: Int[Array, "B"]) -> Float[Array, "B V"]:
        """The probabilities that the token after `node` has; all 0 on an unusable row."""
        return self.sampler.distribution(self.edited(state, node))

    def draw(self, state: Any, node: Int[Array, "B"], count: Int[Array, "B"]) -> Int[Array, "B"]:
        """The token that plain decoding with this key would emit after `node`, which is
        `count` tokens below the root; -1 on an unusable row."""
        return self.sampler(step_keys(self.key, self.step + count), self.edited(state, node))

    def draws(self, depth: Int[Array, "B Np1"]) -> Int[Array, "B Np1"]:
        """`draw` at the root and at all nodes, for a transform that remembers nothing; `depth`
        is how far each lies below the root."""
        rows = jax.tree.map(lambda x: jnp.repeat(x, depth.shape[1], axis=0), self.key)
        edited = self.transform.apply(self.state, self.logits.reshape(depth.size, -1))
        steps = (self.step[:, None] + depth).reshape(-1)
        return self.sampler(step_keys(rows, steps), edited).reshape(depth.shape)

    def observe(
        self,
        state: Any,
        node: Int[Array, "B"],
        token: Int[Array, "B"],
        accepted: Bool[Array, "B"],
    ) -> Any:
        """The transform's state after `token` followed `node`, on the rows that accepted it."""
        return noted(self.transform, state, at(self.logits, node + 1), token, accepted)


def stream(keys: Key[Array, "B"], purpose: int) -> Key[Array, "B"]:
    """Independent keys for another purpose within a round."""
    return jax.vmap(lambda key: jax.random.fold_in(key, purpose))(keys)
