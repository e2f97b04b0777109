"""What a family of published checkpoints is: a config translation and a table of names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from models.config import TransformerConfig
from models.families.fields import Fields


@dataclass(frozen=True)
class Source:
    """Where one of our weights lives in a checkpoint.

    Our matrices are [in, out]. The stored tensor may be transposed, and may hold several of
    ours side by side along `out`.

    Attributes:
      name: the tensor's name, `{i}` standing for the layer of a stacked weight, and `{e}` for the
        expert.
      transpose: stored as [out, in].
      offset, total: our first column of the fused tensor, and how many it has (0: not fused).
    """

    name: str
    transpose: bool = False
    offset: int = 0
    total: int = 0

    @property
    def stacked(self) -> int:
        """Leading axes of our weight, each place in which is a tensor of its own."""
        return ("{i}" in self.name) + ("{e}" in self.name)

    def named(self, ours: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str]]:
        """Places in the leading axes of our weight, of that shape, and the tensor at each."""
        for place in np.ndindex(*ours[: self.stacked]):
            yield place, self.at(place)

    def at(self, place: tuple[int, ...]) -> str:
        """The name of the tensor at a place in the leading axes: layer, then expert."""
        name = self.name
        for mark, index in zip(("{i}", "{e}"), place, strict=False):
            name = name.replace(mark, str(index))
        return name

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a stored tensor, given that of our weight."""
        ours = ours[self.stacked :]
        shape = (*ours[:-1], self.total) if self.total else ours
        return shape[::-1] if self.transpose else shape


class Canvas(NamedTuple):
    """How the canvas of a denoiser is read: the fields of `jaxdecode.denoiser.Denoiser`."""

    mask_id: int
    shift: bool = False
    causal_blocks: int | None = None
    longest: int | None = None


@dataclass(frozen=True)
class Family:
    """One `model_type`.

    Attributes:
      model_type, architecture: the names that config.json gives.
      read: config.json -> TransformerConfig, raising ValueError for what is not supported.
      write: the other direction. It need not check that the family can express the config:
        the exporter reads back what was written and compares.
      names: our path -> Source.
      prefix: of the names of all backbone tensors; `aliases` are other prefixes in use.
      ignored: patterns of further tensors that carry no weights of the language model.
      canvas: config.json -> how a denoiser's canvas is read; None for a causal model.
      reads: switches that change the forward pass, and that are refused of families without them.
    """

    model_type: str
    architecture: str
    read: Callable[[Fields], TransformerConfig]
    write: Callable[[TransformerConfig], dict[str, Any]]
    names: Callable[[TransformerConfig], Mapping[str, Source]]
    prefix: str = "model."
    aliases: tuple[str, ...] = ("",)
    ignored: tuple[str, ...] = (r"rotary_emb\.inv_freq$",)
    canvas: Callable[[Fields], Canvas] | None = None
    reads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "read", _named(self.read))


def _named(
    read: Callable[[Fields], TransformerConfig],
) -> Callable[[Fields], TransformerConfig]:
    """`read`, whose every complaint names the file that it is about."""

    def reading(fields: Fields) -> TransformerConfig:
        try:
            return read(fields)
        except ValueError as error:
            if str(error).startswith(fields.where):
                raise
            raise ValueError(f"{fields.where}: {error}") from error

    return reading


def matrix(name: str) -> Source:
    """A linear layer's weight, stored [out, in]."""
    return Source(name + ".weight", transpose=True)


def vector(name: str, kind: str = "weight") -> Source:
    """A parameter of one axis."""
    return Source(f"{name}.{kind}")


def linears(table: dict[str, Source], config: TransformerConfig, names: dict[str, str]) -> None:
    """Add linear layers, with their biases where the config has them."""
    biased = {"q": config.qkv_bias, "k": config.qkv_bias, "v": config.qkv_bias}
    biased |= {"o": config.out_bias}
    for ours, theirs in names.items():
        table[f"layers/{ours}"] = matrix(theirs)
        if biased.get(ours, config.mlp_bias):
            table[f"layers/{ours}_bias"] = vector(theirs, "bias")
