"""Rotary position encoding in its published scalings.

Su et al. 2021 (arXiv:2104.09864). A head's first `width` dimensions are rotated in pairs
(i, i + width/2) by the angle position * f_i, f_i = theta ** (-2i / width); the rest passes
through. The scalings stretch f to contexts longer than those trained on:

    linear    f / s                                        (Chen et al. 2023, arXiv:2306.15595)
    dynamic   theta grows with the row's current length    (NTK-aware scaling)
    llama3    long wavelengths divided by s, short ones kept, a ramp between
    yarn      ramp over the dimension index, cos and sin scaled (Peng et al. 2023, arXiv:2309.00071)
    longrope  one factor per frequency, a short and a long set (Ding et al. 2024, arXiv:2402.13753)

`dynamic` and `longrope` depend on the length of the text that a token is rotated for: a text
read whole has one, and the published library reads a text anew at each of its tokens. So what
comes after a token depends on its own position p alone, by the text of p + 1 tokens that ends in
it, never on what else a call runs. A cache can keep that promise for `longrope`, which has two
sets (`models.transformer.Transformer` keeps keys of both), and not for `dynamic`, each of whose
lengths beyond `original` would have other keys. Frequencies are computed on the host in double
precision, angles on the device in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np

from jaxdecode.types import Array, Float, Int

Kind = Literal["default", "linear", "dynamic", "llama3", "yarn", "longrope"]


@dataclass(frozen=True)
class Rope:
    """One rotary table.

    Attributes:
      width: rotated dimensions of a head, even.
      theta: base of the frequencies.
      kind: the scaling.
      factor: its s.
      original: context length L the model was trained with (dynamic, llama3, yarn, longrope).
      low, high: llama3's bounds on L / wavelength.
      fast, slow: yarn's bounds on rotations over L.
      amplitude: multiplies cos and sin.
      short, long: longrope's factor per frequency, up to and beyond `original`.
    """

    width: int
    theta: float = 10000.0
    kind: Kind = "default"
    factor: float = 1.0
    original: int = 0
    low: float = 1.0
    high: float = 4.0
    fast: float = 32.0
    slow: float = 1.0
    amplitude: float = 1.0
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2:
            raise ValueError(f"rope width={self.width}: rotated dimensions come in pairs")
        if not self.theta > 0 or not self.factor > 0:
            raise ValueError(f"rope theta={self.theta}, factor={self.factor}: must be positive")
        if self.kind not in ("default", "linear") and self.original < 1:
            raise ValueError(
                f"rope original={self.original}: {self.kind} scaling needs the context length "
                "the model was trained with (original_max_position_embeddings)"
            )
        if self.kind == "longrope" and not len(self.short) == len(self.long) == self.width // 2:
            raise ValueError(
                f"rope short and long have {len(self.short)} and {len(self.long)} factors; "
                f"longrope needs width / 2 = {self.width // 2} of each"
            )

    @property
    def bound(self) -> int | None:
        """The longest text that can be decoded with a cache; None where there is no end."""
        return self.original if self.kind == "dynamic" else None

    @property
    def crossing(self) -> int:
        """The first position from which on every token of a text is rotated otherwise; 0: none."""
        return self.original if self.kind == "longrope" and self.short != self.long else 0


def frequencies(rope: Rope, theta: float | None = None) -> np.ndarray:
    """f64[width / 2], radians per position; of longrope the short set."""
    index = np.arange(rope.width // 2)
    f = (rope.theta if theta is None else theta) ** (-2.0 * index / rope.width)
    if rope.kind == "linear":
        return f / rope.factor
    if rope.kind == "llama3":
        turns = rope.original * f / (2 * math.pi)
        kept = np.clip((turns - rope.low) / (rope.high - rope.low), 0.0, 1.0)
        return f * ((1 - kept) / rope.factor + kept)
    if rope.kind == "yarn":
        low = max(math.floor(_dimension(rope, rope.fast)), 0)
        high = min(math.ceil(_dimension(rope, rope.slow)), rope.width - 1)
        ramp = np.clip((index - low) / max(high - low, 0.001), 0.0, 1.0)
        return f * (ramp / rope.factor + 1 - ramp)
    if rope.kind == "longrope":
        return f / np.asarray(rope.short)
    return f


def _dimension(rope: Rope, rotations: float) -> float:
    """The index whose frequency turns `rotations` times over the original context."""
    per = rope.original / (2 * math.pi * rotations)
    return rope.width * math.log(per) / (2 * math.log(rope.theta))


def rotation(
    rope: Rope, position: Int[Array, "B T"], length: Int[Array, "B L"]
) -> tuple[Float[Array, "B T W"], Float[Array, "B T W"]]:
    """Cosines and sines of the angles, f32[B, T, width / 2], scaled by the amplitude.

    Args:
      length: of the text for which each token is rotated, or one for all of a row (L = 1).
    """
    f = jnp.asarray(frequencies(rope), jnp.float32)
    if rope.kind in ("dynamic", "longrope"):
        length = length[:, :, None]
        if rope.kind == "longrope":
            ratio = np.asarray(rope.short) / np.asarray(rope.long)
            f = jnp.where(length > rope.original, f * jnp.asarray(ratio, jnp.float32), f)
        else:
            excess = jnp.maximum(length, rope.original) * (rope.factor / rope.original)
            stretch = (excess - (rope.factor - 1)) ** (rope.width / (rope.width - 2))
            index = np.arange(rope.width // 2)
            f = f * stretch ** (-2.0 * index / rope.width)
    angle = position[..., None].astype(jnp.float32) * f
    return rope.amplitude * jnp.cos(angle), rope.amplitude * jnp.sin(angle)


def rotate(
    x: Float[Array, "B T H hd"], cos: Float[Array, "B T W"], sin: Float[Array, "B T W"]
) -> Float[Array, "B T H hd"]:
    """Turn the first 2 W dimensions of every head."""
    half = cos.shape[-1]
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]
    wide = x.astype(jnp.float32)
    a, b, rest = wide[..., :half], wide[..., half : 2 * half], wide[..., 2 * half :]
    turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)
    return turned.astype(x.dtype)
