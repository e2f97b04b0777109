"""What an encoder-decoder of the T5 family is, and the table of its weights.

Raffel et al. 2020, arXiv:1910.10683. The first release has MLPs with a ReLU and an output head
that is the embedding table, whose inputs are scaled; version 1.1 has gated MLPs with a GELU and a
head of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.config import Activation, TransformerConfig
from models.families.fields import ACTIVATIONS, Fields
from models.parameters import Parameter, parameters
from models.safetensors import brief

CROSSING = ("cross_q", "cross_k", "cross_v", "cross_o")
DISTANCES = 2**16  # the farthest that a bias may tell apart


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """One encoder-decoder.

    Attributes:
      encoder, decoder: the stacks; of one width, and of one vocabulary.
      buckets: of distances, each with a bias for every head.
      farthest: tokens; what lies as far or farther is one bucket.
      start: the token that every answer is begun by; it is in no source.
      tied: the embedding table is the output head.
      scaled: hidden states are divided by the root of their width before the head.
    """

    encoder: TransformerConfig
    decoder: TransformerConfig
    buckets: int
    farthest: int
    start: int
    tied: bool
    scaled: bool

    def __post_init__(self):
        if not 4 <= self.buckets <= 4096 or self.buckets % 4:
            raise ValueError(
                f"relative_attention_num_buckets={self.buckets}: a multiple of 4 up to 4096 was "
                "expected, half of whose halves are single distances"
            )
        if not self.buckets // 2 < self.farthest <= DISTANCES:
            raise ValueError(
                f"relative_attention_max_distance={self.farthest} must lie above half of the "
                f"{self.buckets} buckets, and be at most {DISTANCES}"
            )
        if not 0 <= self.start < self.decoder.vocab_size:
            raise ValueError(
                f"decoder_start_token_id={self.start} is no token of the {self.decoder.vocab_size}"
            )


def read(fields: Fields) -> EncoderDecoderConfig:
    """From the contents of a config.json.

    Raises:
      ValueError: naming the field that is missing, out of range or not built.
    """
    kind = fields.data.get("model_type")
    if kind != "t5":
        raise ValueError(
            f"{fields.where}: model_type={brief(kind)} is no encoder-decoder that is built; t5 is, "
            "and models.checkpoints opens causal models"
        )
    gate, dash, name = fields.text("feed_forward_proj", "relu").rpartition("-")
    gated = (gate, dash) == ("gated", "-")
    if not (gated or not dash) or name not in ACTIVATIONS:
        raise ValueError(
            f"{fields.where}: feed_forward_proj={brief(fields.data['feed_forward_proj'])} must be "
            f"one of {', '.join(ACTIVATIONS)}, or such a name behind 'gated-'"
        )
    # By its published name this one is the approximation by a hyperbolic tangent.
    activation: Activation = "gelu_tanh" if (gated and name == "gelu") else ACTIVATIONS[name]
    fields.refuse("is_encoder_decoder", True)
    rows = fields.size("vocab_size", "rows")
    layers = fields.size("num_layers", "layers")
    heads = fields.size("num_heads", "heads")
    # The first release says nothing, and ties.
    tied = fields.flag("tie_word_embeddings", True)

    def stack(count: int) -> TransformerConfig:
        return TransformerConfig(
            vocab_size=rows,
            hidden=fields.size("d_model", "hidden"),
            mlp=fields.size("d_ff", "mlp"),
            layers=count,
            heads=heads,
            kv_heads=heads,
            head_dim=fields.size("d_kv", "head_dim"),
            norm="rms",
            norm_eps=fields.above("layer_norm_epsilon", 0.0, 1e-6),
            activation=activation,
            gated=gated,
            query_scale=1.0,
            tied=True,
        )

    return EncoderDecoderConfig(
        encoder=stack(layers),
        decoder=stack(fields.size("num_decoder_layers", "layers", layers)),
        buckets=fields.integer("relative_attention_num_buckets", 32),
        farthest=fields.integer("relative_attention_max_distance", 128),
        start=fields.integer("decoder_start_token_id", fields.integer("pad_token_id", 0)),
        tied=tied,
        scaled=tied,
    )


def table(config: EncoderDecoderConfig) -> dict[str, Parameter]:
    """Path -> weight. Those of a stack are "encoder/..." and "decoder/...", layers in front."""
    c = config.decoder
    found = {"embedding": Parameter((c.rows, c.hidden), ("vocab", "embed"), 0.02)}
    for name in ("encoder", "decoder"):
        for path, weight in parameters(getattr(config, name)).items():
            if path.startswith("layers/") or path == "norm":
                found[f"{name}/{path.removeprefix('layers/')}"] = weight
        found[f"{name}/bias"] = Parameter((config.buckets, c.heads), (None, "heads"), 0.02)
    for path in CROSSING:
        found[f"decoder/{path}"] = found[f"decoder/{path[-1]}"]
    found["decoder/cross_norm"] = found["decoder/attention_norm"]
    if not config.tied:
        found["head"] = Parameter((c.hidden, c.rows), ("embed", "vocab"), 0.02)
    return found
