"""The switches of one decoder that covers the published families.

A `TransformerConfig` is frozen and hashable: it is static data of a compiled program. Which
weights it has is `models.parameters`' to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from models.rope import Rope

Norm = Literal["rms", "rms_wide", "rms_plus_one", "layer"]
Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]

# Above every published model; a config beyond is a mistake or an attack, and is refused
# before anything is allocated.
LIMITS = {
    "vocab_size": 2**21,
    "rows": 2**21,
    "hidden": 2**16,
    "mlp": 2**18,
    "layers": 1024,
    "heads": 1024,
    "kv_heads": 1024,
    "head_dim": 2048,
    "max_positions": 2**21,
    "embed_width": 2**16,
    "experts": 2**12,
}


@dataclass(frozen=True)
class TransformerConfig:
    """One decoder-only transformer.

    Attributes:
      vocab_size: valid vocabulary; logits have this many columns.
      hidden, mlp, layers: width of the residual stream, of the MLP or of each expert, and depth.
      heads, kv_heads, head_dim: query heads, key/value heads (each serves heads / kv_heads
        consecutive query heads), width of a head.
      rows: rows of the embedding table, at least vocab_size; 0 means vocab_size.
      norm: "rms" (x / rms(x) * w), "rms_wide" (the same, multiplied in float32),
        "rms_plus_one" (* (1 + w), multiplied in float32) or "layer" (with bias).
      norm_eps: added to the variance.
      pre_norm: normalise the input of each half layer; False normalises after the residual
        sum, and then there is no final norm.
      output_norms: also normalise the output of each half layer before it is added.
      input_norms: False leaves the input of each half layer as it is, where outputs are
        normalised.
      qk_norm: normalise every query and key head before rotation, weights shared by heads.
      whole_qk_norm: normalise all heads of a token together instead, with weights of their own.
      qkv_bias, out_bias, mlp_bias: biases of the projections.
      rope: rotary table, or None for learned absolute positions.
      rope_local: table of the sliding layers where it differs.
      rotated: which layers rotate; () means all of them.
      max_positions: context length; the rows of a learned position table.
      longest: the longest text that will be decoded, 0 for no bound. A model whose rotation
        changes at a length (longrope) works twice for rows that may cross it, and once where
        `longest` says that none does.
      position_offset: a learned table's row of position 0.
      window: keys seen by a sliding layer, itself included; 0 for none.
      sliding: which layers slide; () means all of them when `window` is set.
      activation, gated: MLP nonlinearity, and whether a second projection multiplies it.
      experts: MLPs of each layer, of which a router picks some for every token; 0: one MLP.
      experts_per_token: how many it picks, the likeliest by a softmax over all.
      renormalize: the shares of the picked ones are scaled to sum to 1.
      embed_scale: multiplies token embeddings.
      residual_scale: multiplies the output of each half layer before it is added.
      embed_width: width of the embedding table where it differs from `hidden` (0: equal);
        linear maps then lead in and out.
      query_scale: multiplies scores; 0 means head_dim ** -0.5.
      logit_divisor: divides the logits.
      attention_cap, logit_cap: c of the soft cap c * tanh(x / c) on scores and logits; 0: off.
      tied: the embedding table is the output head.
      dtype: of freshly initialised parameters; a model computes in its parameters' dtype.
      unroll: write out the layers instead of scanning them.
      remat: recompute each layer in the backward pass.
    """

    vocab_size: int
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rows: int = 0
    norm: Norm = "rms"
    norm_eps: float = 1e-6
    pre_norm: bool = True
    output_norms: bool = False
    input_norms: bool = True
    qk_norm: bool = False
    whole_qk_norm: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    rope: Rope | None = None
    rope_local: Rope | None = None
    rotated: tuple[bool, ...] = ()
    max_positions: int = 2048
    longest: int = 0
    position_offset: int = 0
    window: int = 0
    sliding: tuple[bool, ...] = ()
    activation: Activation = "silu"
    gated: bool = True
    experts: int = 0
    experts_per_token: int = 0
    renormalize: bool = True
    embed_scale: float = 1.0
    residual_scale: float = 1.0
    embed_width: int = 0
    query_scale: float = 0.0
    logit_divisor: float = 1.0
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    tied: bool = False
    dtype: str = "float32"
    unroll: bool = False
    remat: bool = False

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "rows", self.rows or self.vocab_size)
        set_(self, "embed_width", self.embed_width or self.hidden)
        for name, most in LIMITS.items():  # before anything is made or divided by them
            value, least = getattr(self, name), int(name != "experts")
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{name}={value!r:.60} must be an integer in {least}..{most}")
        for name in ("window", "position_offset", "longest"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 2**31:
                raise ValueError(f"{name}={value!r:.60} must be an integer in 0..2^31 - 1")
        set_(self, "query_scale", self.query_scale or self.head_dim**-0.5)
        if self.window and not self.sliding:
            set_(self, "sliding", (True,) * self.layers)
        if self.rows < self.vocab_size:
            raise ValueError(
                f"rows={self.rows} of the embedding table are fewer than vocab_size="
                f"{self.vocab_size}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}")
        if self.rope is not None and self.rope.width > self.head_dim:
            raise ValueError(f"rope width={self.rope.width} exceeds head_dim={self.head_dim}")
        if self.rope_local is not None and (
            self.rope is None or self.rope_local.width != self.rope.width
        ):
            raise ValueError("rope_local: needs a `rope` of the same width")
        ropes = [rope for rope in (self.rope, self.rope_local) if rope is not None]
        if len({rope.crossing for rope in ropes if rope.crossing}) > 1:
            raise ValueError(
                "rope and rope_local change at different lengths "
                f"({ropes[0].original}, {ropes[1].original}); one for both can be kept"
            )
        if self.sliding and (len(self.sliding) != self.layers or not self.window):
            raise ValueError(
                f"sliding: {len(self.sliding)} flags for layers={self.layers} and window="
                f"{self.window}; give one flag per layer and a window"
            )
        if not 0 < self.norm_eps < 1:
            raise ValueError(f"norm_eps={self.norm_eps} must lie in (0, 1)")
        if self.rotated and (len(self.rotated) != self.layers or self.rope is None):
            raise ValueError(f"rotated={self.rotated!r:.60}: one flag for each layer, and a rope")
        if not self.input_norms and not (self.pre_norm and self.output_norms):
            raise ValueError("input_norms=False: needs pre_norm and output_norms, or nothing is")
        if self.whole_qk_norm and not self.qk_norm:
            raise ValueError("whole_qk_norm: needs qk_norm, which it is a form of")
        picked, least = self.experts_per_token, int(self.experts > 0)
        if type(picked) is not int or not least <= picked <= self.experts:
            raise ValueError(
                f"experts_per_token={picked!r:.60} must be an integer in {least}..{self.experts}, "
                f"for experts={self.experts}"
            )
        if self.experts and (self.mlp_bias or not self.gated):
            raise ValueError("experts: need gated=True and mlp_bias=False")
        for name in ("embed_scale", "query_scale", "residual_scale", "logit_divisor"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)} must be positive and finite")
        for name in ("attention_cap", "logit_cap"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)} must be 0 (off) or positive")

    @property
    def bound(self) -> int | None:
        """The longest text that can be decoded; None where there is no end."""
        ropes = (self.rope, self.rope_local)
        bounds = [rope.bound for rope in ropes if rope is not None and rope.bound is not None]
        bounds += [self.max_positions] if self.rope is None else []
        bounds += [self.longest] if self.longest else []
        return min(bounds, default=None)

    @property
    def crossing(self) -> int:
        """The position from which on all rotations change, if a row may cross it; 0: none."""
        at = max(rope.crossing if rope is not None else 0 for rope in (self.rope, self.rope_local))
        return 0 if self.bound is not None and self.bound <= at else at

    def part(self, first: int, last: int) -> TransformerConfig:
        """Of a model of layers first..last-1 alone."""
        flags = {"sliding": self.sliding[first:last], "rotated": self.rotated[first:last]}
        return replace(self, layers=last - first, **flags)

    @property
    def q_width(self) -> int:
        """Width of all queries of a token."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all keys, or values, of a token."""
        return self.kv_heads * self.head_dim
