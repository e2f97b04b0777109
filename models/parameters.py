"""The table of a model's weights, by its config.

`parameters(config)` names every weight with its shape and logical axes; initialisation,
sharding, loading, export and cost are all derived from it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from models.config import TransformerConfig

LAYERED = ("q", "k", "v", "o", "router", "gate", "up", "down")
MATRICES = (*(f"layers/{name}" for name in LAYERED), "project_in", "project_out", "head")
"""Paths of the weights that multiply tokens."""


@dataclass(frozen=True)
class Parameter:
    """One weight: its shape, logical axes, and the spread of its initial values.

    Matrices are stored [in, out]; layers are stacked in front, then experts. `spread` is the
    standard deviation, with 0 for a constant `fill`.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    spread: float = 0.0
    fill: float = 0.0

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


def parameters(config: TransformerConfig) -> dict[str, Parameter]:
    """Path -> weight, in order. Paths are those of the module's state, joined by "/"."""
    c, spread = config, 0.02
    out_spread = spread / math.sqrt(2 * c.layers)
    one = 0.0 if c.norm == "rms_plus_one" else 1.0
    table: dict[str, Parameter] = {}

    def norm(path: str, width: int, *lead: int) -> None:
        axes = ("layers",) * len(lead) + (None,)
        table[path] = Parameter((*lead, width), axes, fill=one)
        if c.norm == "layer":
            table[path + "_bias"] = Parameter((*lead, width), axes)

    def linear(name: str, sizes: tuple[int, int], axes, bias, std, each=()) -> None:
        path, lead = "layers/" + name, ("layers", *("experts" for _ in each))
        table[path] = Parameter((c.layers, *each, *sizes), (*lead, *axes), std)
        if bias:
            table[path + "_bias"] = Parameter((c.layers, sizes[1]), ("layers", axes[1]))

    table["embedding"] = Parameter((c.rows, c.embed_width), ("vocab", "embed"), spread)
    if c.rope is None:
        shape = (c.max_positions + c.position_offset, c.hidden)
        table["position"] = Parameter(shape, (None, "embed"), spread)
    if c.embed_width != c.hidden:
        table["project_in"] = Parameter((c.embed_width, c.hidden), (None, "embed"), spread)
        table["project_out"] = Parameter((c.hidden, c.embed_width), ("embed", None), spread)
    if c.input_norms:
        norm("layers/attention_norm", c.hidden, c.layers)
    linear("q", (c.hidden, c.q_width), ("embed", "heads"), c.qkv_bias, spread)
    linear("k", (c.hidden, c.kv_width), ("embed", "kv_heads"), c.qkv_bias, spread)
    linear("v", (c.hidden, c.kv_width), ("embed", "kv_heads"), c.qkv_bias, spread)
    linear("o", (c.q_width, c.hidden), ("heads", "embed"), c.out_bias, out_spread)
    if c.qk_norm:
        norm("layers/q_norm", c.q_width if c.whole_qk_norm else c.head_dim, c.layers)
        norm("layers/k_norm", c.kv_width if c.whole_qk_norm else c.head_dim, c.layers)
    if c.input_norms:
        norm("layers/mlp_norm", c.hidden, c.layers)
    each = (c.experts,) if c.experts else ()
    if c.experts:
        linear("router", (c.hidden, c.experts), ("embed", None), False, spread)
    if c.gated:
        linear("gate", (c.hidden, c.mlp), ("embed", "mlp"), c.mlp_bias, spread, each)
    linear("up", (c.hidden, c.mlp), ("embed", "mlp"), c.mlp_bias, spread, each)
    linear("down", (c.mlp, c.hidden), ("mlp", "embed"), c.mlp_bias, out_spread, each)
    if c.output_norms:
        norm("layers/attention_output_norm", c.hidden, c.layers)
        norm("layers/mlp_output_norm", c.hidden, c.layers)
    if c.pre_norm:
        norm("norm", c.hidden)
    if not c.tied:
        table["head"] = Parameter((c.embed_width, c.rows), ("embed", "vocab"), spread)
    return table


def check_arrays(arrays: Mapping[str, Any], table: Mapping[str, Parameter]) -> None:
    """Raise ValueError unless there is an array for every path of `table`, and of its shape."""
    for path in table.keys() ^ arrays.keys():
        raise ValueError(f"arrays[{path!r}] is {'missing' if path in table else 'unknown'}")
    for path, want in table.items():
        if arrays[path].shape != want.shape:
            raise ValueError(
                f"arrays[{path!r}] has shape {arrays[path].shape}, not the {want.shape} of the "
                "config"
            )


def count(config: TransformerConfig) -> int:
    """Number of parameters."""
    return sum(parameter.size for parameter in parameters(config).values())


def matmul_count(config: TransformerConfig, paths: Collection[str] = MATRICES) -> int:
    """Parameters that multiply every token: all matrices, and a tied table as the head.

    Of experts, as many are counted as a token has. Matrices that are not in `paths` are left out.
    """
    table = parameters(config)
    total = table["embedding"].size if config.tied and "head" in paths else 0
    for path in table.keys() & set(MATRICES) & set(paths):
        size, each = table[path].size, "experts" in table[path].axes
        total += size * config.experts_per_token // config.experts if each else size
    return total


def logical_axes(config: TransformerConfig) -> dict[str, tuple[str | None, ...]]:
    """Path -> one logical axis name per dimension, for the sharding rules.

    Names: layers, experts, embed, heads, kv_heads, mlp, vocab; None is never sharded. The rules
    split the widths of experts and not their number: every device then has the same part of
    whatever is routed, and a token's experts are read by all devices and not by those few that
    would hold them.
    """
    return {path: parameter.axes for path, parameter in parameters(config).items()}
