"""Hyperfitting: training on a few texts until nothing is left to learn from them.

    theta <- Adam on -log p(x_t | x_<t), the same N texts every epoch, until the loss is near 0

Source: Carlsson, Liu, Ward, Kurfali and Nivre 2025, arXiv 2412.04318. Validation loss explodes,
while greedy text no longer loops. All weights train, at a constant rate, without weight decay,
warm-up, clipping or dropout, and it is the last step's weights that count. `NoCitation` of
`jaxdecode.logits` is the paper's control for texts that are learned by heart.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

from jaxdecode.paper import Paper
from jaxdecode.train.fit import Batches, Checkpoints, Visitor, Watcher, fit
from jaxdecode.train.losses import next_token

PAPER = Paper(
    slug="hyperfitting",
    title="The Hyperfitting Phenomenon: Sharpening and Stabilizing LLMs for Open-Ended Text "
    "Generation",
    authors=(
        "Fredrik Carlsson",
        "Fangyu Liu",
        "Daniel Ward",
        "Murathan Kurfali",
        "Joakim Nivre",
    ),
    year=2025,
    arxiv="2412.04318",
    venue="ICLR",
    claim="Trained on 2,000 texts until the loss is near zero, models write greedy text that is "
    "diverse and that people prefer to the original's, greedy or by nucleus sampling.",
    losslessness="not-applicable",
)
Model = TypeVar("Model", bound=nnx.Module)


@functools.lru_cache(maxsize=8)
def _adam(rate: float) -> optax.GradientTransformation:
    """Adam without decay; one object a rate, so that runs share a compiled step."""
    return optax.adam(rate)


@dataclass(frozen=True)
class Hyperfitting:
    """The recipe; the defaults are the paper's.

    Attributes:
      rate: of Adam, constant; for models of 1 to 70 billion parameters. A small model hardly
        moves at it.
      updates: of the weights. 20 epochs over 2,000 texts; with fewer texts there are more
        epochs, not fewer updates.
      batch: texts a step.
      unpredicted: tokens at a text's beginning that are not predicted: the first, and where a
        begin token stands before a text cut anywhere the one after it too.
      seed: of the order of the texts.
    """

    rate: float = 1e-6
    updates: int = 5000
    batch: int = 8
    unpredicted: int = 1
    seed: int = 0

    def epochs(self, texts: int) -> float:
        """How often each of so many texts is seen."""
        return self.updates / (texts // self.batch)

    def batches(self, texts: NDArray[np.int32]) -> Batches:
        """Step -> the arguments of `next_token`: the texts i32[N, T] in a new order every epoch.

        What is left over of an epoch, if N is no multiple of the batch, is left out of it.

        Raises:
          ValueError: for fewer texts than a batch, or texts without a token to predict.
        """
        if len(texts) < self.batch:
            raise ValueError(
                f"texts={len(texts)} do not fill a batch={self.batch}; give more or lower batch"
            )
        if not 0 < self.unpredicted < texts.shape[1]:
            raise ValueError(
                f"unpredicted={self.unpredicted}: of texts of {texts.shape[1]} tokens at least "
                "the first and not all can go unpredicted"
            )
        steps = len(texts) // self.batch
        loss_mask = np.broadcast_to(
            np.arange(texts.shape[1]) >= self.unpredicted, (self.batch, texts.shape[1])
        )
        length = np.full(self.batch, texts.shape[1], np.int32)

        def batch(step: int) -> Mapping[str, Any]:
            epoch, place = divmod(step, steps)
            order = np.random.default_rng((self.seed, epoch)).permutation(len(texts))
            rows = order[place * self.batch : (place + 1) * self.batch]
            return {"tokens": texts[rows], "loss_mask": loss_mask, "length": length}

        return batch

    def __call__(
        self,
        model: Model,
        batches: Batches,
        checkpoints: Checkpoints | None = None,
        watch: Watcher | None = None,
        watch_every: int = 250,
        visit: Visitor | None = None,
    ) -> Model:
        """The model after all updates, on the batches of `batches`; see `fit`.

        As many texts as there are updates and rows are a single epoch: the control that is
        fine-tuned by the same recipe and overfits nothing.

        Raises:
          ValueError: for weights of less than single precision, in which steps of this size
            are lost to rounding.
        """
        for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.state(model)):
            if jnp.finfo(leaf.dtype).bits < 32:
                raise ValueError(
                    f"model: {jax.tree_util.keystr(path)} is {leaf.dtype}, in which steps of "
                    f"rate={self.rate:g} are lost to rounding; load the weights as float32"
                )
        parts = (next_token, batches, _adam(self.rate), self.updates)
        parts += (checkpoints, watch, watch_every)
        return fit(model, *parts, visit=visit)
