"""A reward model: a transformer whose hidden states a small head turns into a reward.

It satisfies `jaxdecode.scoring.RewardModel`, so `RewardScorer` runs it with a cache of its
own, and `jaxdecode.train.losses.bradley_terry` trains it. The readout says what the head's C
outputs mean:

    "score"    outputs[0], any real number: Bradley-Terry models, trained on differences
    "sigmoid"  sigmoid(outputs[0]): the probability that a step is right
    "softmax"  softmax(outputs)[good]: the same from one output per class

A process reward model is the same thing read at several tokens; see `models.process_rewards`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import jax
from flax import nnx

from jaxdecode.cache import Cache
from jaxdecode.lm import ModelCost, ModelOutput, View
from jaxdecode.types import Array, Bool, Float, Int
from models.config import TransformerConfig
from models.parameters import matmul_count
from models.reward_heads import Head, LinearHead, MlpHead
from models.transformer import Transformer, arrays_of

Readout = Literal["score", "sigmoid", "softmax"]


class RewardModel(nnx.Module):
    """A headless backbone, a head, and how the head's outputs are read.

    Attributes:
      backbone: a transformer without an output matrix of its own (`config.tied`). Its logits
        are never used, and a compiled program leaves them out.
      head: [D] -> [C]; see `models.reward_heads`.
      readout: static.
      good: static, the class whose probability is the reward, for "softmax".
    """

    def __init__(
        self, backbone: Transformer, head: Head, readout: Readout = "score", good: int = 0
    ):
        if backbone.head is not None:
            raise ValueError(
                "backbone: it has an output matrix that a reward model never uses; pass "
                "headless(backbone)"
            )
        if head.width != backbone.config.embed_width:
            raise ValueError(
                f"head reads {head.width} features, but the backbone gives "
                f"{backbone.config.embed_width}"
            )
        if readout not in get_args(Readout):
            raise ValueError(f"readout={readout!r}: use one of {', '.join(get_args(Readout))}")
        if readout != "softmax" and head.labels != 1:
            raise ValueError(
                f"readout={readout!r} reads one output, but the head has {head.labels}; use "
                "'softmax' and name the good class"
            )
        if readout == "softmax" and (head.labels < 2 or not 0 <= good < head.labels):
            raise ValueError(
                f"good={good}: 'softmax' needs two classes or more and one of them as the good "
                f"one; the head has {head.labels}"
            )
        self.backbone = backbone
        self.head = head
        self.readout: Readout = readout
        self.good = good

    @classmethod
    def create(
        cls,
        config: TransformerConfig,
        labels: int = 1,
        *,
        rngs: nnx.Rngs,
        readout: Readout | None = None,
        good: int | None = None,
        deep: bool = False,
    ) -> RewardModel:
        """A model of random weights.

        Args:
          config: of the backbone; `tied` is set, since there is no output matrix.
          labels: C.
          readout: default "score" for one label, else "softmax".
          good: default the last label.
          deep: a Linear-ReLU-Linear head in place of a linear one.
        """
        if labels < 1:
            raise ValueError(f"labels={labels}: a head needs at least one output")
        head = MlpHead if deep else LinearHead
        return cls(
            Transformer(dataclasses.replace(config, tied=True), rngs=rngs),
            head.create(config.embed_width, labels, rngs, config.dtype),
            readout or ("score" if labels == 1 else "softmax"),
            labels - 1 if good is None else good,
        )

    @classmethod
    def of_language_model(cls, model: Transformer, ids: Sequence[int], good: int) -> RewardModel:
        """A language model that judges by the probability of one of a few tokens.

        Only the columns of those tokens are ever multiplied. Source: the process reward
        models of Wang et al. 2023 (arXiv:2312.08935) and those trained after them.

        Args:
          ids: two tokens or more among which the probability is shared out.
          good: the one of `ids` that means yes.
        """
        if good not in ids or len(set(ids)) != len(ids):
            raise ValueError(f"good={good} must be one of ids={tuple(ids)}, which must differ")
        head = LinearHead.of_vocabulary(model, ids)
        return cls(headless(model), head, "softmax", list(ids).index(good))

    @property
    def config(self) -> TransformerConfig:
        """The shape of its backbone."""
        return self.backbone.config

    @property
    def vocab_size(self) -> int:
        return self.backbone.vocab_size

    @property
    def cost(self) -> ModelCost:
        """That of the backbone, with this head in place of its output matrix."""
        unused = self.backbone.embedding[...].size
        parameters = matmul_count(self.config) - unused + self.head.matmul_count
        return dataclasses.replace(self.backbone.cost, parameters=parameters)

    def init_cache(self, batch: int, capacity: int) -> Cache:
        return self.backbone.init_cache(batch, capacity)

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        output = self.backbone(tokens, cache, view)
        return dataclasses.replace(output, logits=self._outputs(output.hidden))

    def forward(
        self, tokens: Int[Array, "B T"], valid: Bool[Array, "B T"] | None = None
    ) -> tuple[Float[Array, "B T C"], Float[Array, "B T D"]]:
        """Head outputs and hidden states of whole sequences, without a cache."""
        _, hidden = self.backbone.forward(tokens, valid)
        return self._outputs(hidden), hidden

    def _outputs(self, hidden: Float[Array, "... D"]) -> Float[Array, "... C"]:
        """A head stands where an output matrix would: behind the map to a narrower table."""
        narrow = self.backbone.project_out
        return self.head(hidden if narrow is None else hidden @ narrow[...])

    def reward(self, outputs: Float[Array, "... C"]) -> Float[Array, "..."]:
        """The reward of what has been read so far, from the outputs at its last token."""
        match self.readout:
            case "score":
                return outputs[..., 0]
            case "sigmoid":
                return jax.nn.sigmoid(outputs[..., 0])
            case "softmax":
                return jax.nn.softmax(outputs, axis=-1)[..., self.good]


def headless(model: Transformer) -> Transformer:
    """The same weights without an output matrix."""
    if model.head is None:
        return model
    arrays = arrays_of(model)
    del arrays["head"]
    return Transformer(dataclasses.replace(model.config, tied=True), arrays=arrays)
