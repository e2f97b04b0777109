"""What stands on a transformer in place of its output matrix.

A head maps the features [..., D] that an output matrix would read to C outputs in float32.
There are two: one linear map, with or without bias, and Linear-ReLU-Linear. A head over a few
vocabulary entries is the first of them: its columns are those of the output matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.types import Array, Float
from models.layers import soft_cap
from models.transformer import Transformer


class LinearHead(nnx.Module):
    """cap * tanh((x W + b) / cap), or x W + b without a cap.

    Attributes:
      kernel: [D, C].
      bias: [C] or None.
      cap: static, the soft cap of a language model whose columns these are; 0 for none.
    """

    def __init__(self, kernel: Array, bias: Array | None = None, cap: float = 0.0) -> None:
        _check("kernel", kernel, bias)
        self.kernel = nnx.Param(kernel)
        self.bias = None if bias is None else nnx.Param(bias)
        self.cap = cap

    def __call__(self, hidden: Float[Array, "... D"]) -> Float[Array, "... C"]:
        bias = None if self.bias is None else self.bias[...]
        return soft_cap(_affine(hidden, self.kernel[...], bias), self.cap)

    @property
    def width(self) -> int:
        """D of the features it reads."""
        return self.kernel[...].shape[0]

    @property
    def labels(self) -> int:
        """C."""
        return self.kernel[...].shape[1]

    @property
    def matmul_count(self) -> int:
        """Parameters that multiply every token."""
        return self.kernel[...].size

    @classmethod
    def create(cls, width: int, labels: int, rngs: nnx.Rngs, dtype="float32") -> LinearHead:
        """Random weights, no bias: the head a Bradley-Terry model is trained with."""
        return cls(_normal(rngs, (width, labels), dtype))

    @classmethod
    def of_vocabulary(cls, model: Transformer, ids: Sequence[int]) -> LinearHead:
        """The columns of `ids` of a language model's output matrix, copied."""
        for token in ids:
            if not 0 <= token < model.vocab_size:
                raise ValueError(
                    f"ids={tuple(ids)}: {token} is outside the vocabulary 0.."
                    f"{model.vocab_size - 1}; look the labels up in the model's tokenizer"
                )
        chosen = jnp.asarray(ids, jnp.int32)
        return cls(model.output_rows(chosen).T, cap=model.config.logit_cap)


class MlpHead(nnx.Module):
    """relu(x W1 + b1) W2 + b2.

    Attributes:
      inner, inner_bias: [D, H] and [H].
      kernel, bias: [H, C] and [C].
    """

    def __init__(self, inner: Array, inner_bias: Array, kernel: Array, bias: Array) -> None:
        _check("inner", inner, inner_bias)
        _check("kernel", kernel, bias)
        if inner.shape[1] != kernel.shape[0]:
            raise ValueError(
                f"kernel has shape {kernel.shape}, but the inner layer has {inner.shape[1]} outputs"
            )
        self.inner = nnx.Param(inner)
        self.inner_bias = nnx.Param(inner_bias)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)

    def __call__(self, hidden: Float[Array, "... D"]) -> Float[Array, "... C"]:
        inner = jax.nn.relu(_affine(hidden, self.inner[...], self.inner_bias[...]))
        return _affine(inner, self.kernel[...], self.bias[...])

    @property
    def width(self) -> int:
        return self.inner[...].shape[0]

    @property
    def labels(self) -> int:
        return self.kernel[...].shape[1]

    @property
    def matmul_count(self) -> int:
        return self.inner[...].size + self.kernel[...].size

    @classmethod
    def create(cls, width: int, labels: int, rngs: nnx.Rngs, dtype="float32") -> MlpHead:
        """Random weights and zero biases; the inner layer is as wide as the features."""
        return cls(
            _normal(rngs, (width, width), dtype),
            jnp.zeros((width,), dtype),
            _normal(rngs, (width, labels), dtype),
            jnp.zeros((labels,), dtype),
        )


Head = LinearHead | MlpHead


def _affine(x: Array, kernel: Array, bias: Array | None) -> Array:
    y = jnp.einsum("...d,dc->...c", x, kernel, preferred_element_type=jnp.float32)
    return y if bias is None else y + bias.astype(jnp.float32)


def _normal(rngs: nnx.Rngs, shape: tuple[int, int], dtype) -> Array:
    """Spread so that unit inputs give unit outputs."""
    noise = jax.random.normal(rngs.params(), shape, jnp.float32)
    return (noise * shape[0] ** -0.5).astype(dtype)


def _check(name: str, kernel: Array, bias: Array | None) -> None:
    if kernel.ndim != 2:
        raise ValueError(f"{name} has shape {kernel.shape}; a matrix [in, out] is needed")
    if bias is not None and bias.shape != kernel.shape[1:]:
        raise ValueError(
            f"{name}: its bias has shape {bias.shape}, not the {kernel.shape[1:]} of its outputs"
        )
