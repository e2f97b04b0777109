"""Sorted fine-tuning: one model, of which prefixes of the layers are models too.

    L = mean over sub-models n of cross-entropy(W N(h_n))

with h_n the residual stream after n layers, and one last norm N and output matrix W for all
(Valipour et al. 2024, arXiv:2309.08968; Kavehzadeh et al. 2024, arXiv:2407.01955). Every step
trains all of them in one forward pass, with equal weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxdecode.train.frozen import Target, whole
from jaxdecode.types import Array, Bool, Float, Int


@dataclass(frozen=True)
class Sorted:
    """A loss for `jaxdecode.train.fit`, of the batches of `next_token`.

    Attributes:
      exits: the sub-models by their number of layers, ascending. The last alone is the loss
        of plain fine-tuning.
    """

    exits: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.exits or list(self.exits) != sorted(set(self.exits)) or self.exits[0] < 0:
            raise ValueError(f"exits={self.exits}: numbers of layers, each more than the last")

    def __call__(
        self,
        model: Target,
        tokens: Int[Array, "B T"],
        loss_mask: Bool[Array, "B T"],
        length: Int[Array, "B"],
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The mean loss, and each sub-model's as `loss_n`, and the tokens' number, `weight`."""
        valid = jnp.arange(tokens.shape[1] - 1) < length[:, None]
        view, label = whole(valid), tokens[:, 1:, None]
        weight = loss_mask[:, 1:].astype(jnp.float32)
        total = jnp.maximum(weight.sum(), 1.0)
        hidden, done, losses = model.embed(tokens[:, :-1], view.position), 0, {}
        for layers in self.exits:
            hidden, _ = model.run_layers(hidden, None, view, done, layers)
            logp = jax.nn.log_softmax(model.unembed(model.final(hidden)))
            chosen = jnp.take_along_axis(logp, label, axis=2)[..., 0]
            losses[f"loss_{layers}"], done = -jnp.sum(chosen * weight) / total, layers
        loss = sum(losses.values(), jnp.zeros(())) / len(losses)
        return loss, losses | {"weight": weight.sum()}
