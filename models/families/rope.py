"""Rotary settings of a config.json, in the older spelling and the newer one.

Older files have top-level `rope_theta` and `rope_scaling` {"rope_type" or "type", ...}; newer
ones have `rope_parameters`, one object or one per kind of layer. Files are written with both.
"""

from __future__ import annotations

import math
from typing import Any

from models.families.fields import Fields
from models.rope import Kind, Rope

KINDS: dict[str, Kind] = {
    kind: kind for kind in ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
}


def read_rope(fields: Fields, head_dim: int, context: int, theta: float = 1e4) -> Rope:
    """The one rotary table of a config; `theta` is the family's default base."""
    if fields.has("rope_parameters"):
        table = fields.table("rope_parameters")
        theta = _base(table, _base(fields, theta))
    else:
        table, theta = fields.table("rope_scaling"), _base(fields, theta)
    return rope_from(fields, table, theta, head_dim, context)


def rope_from(fields: Fields, table: Fields, theta: float, head_dim: int, context: int) -> Rope:
    """A table's scaling; top-level fields may name the partial width and trained context."""
    kind = table.text("rope_type", table.text("type", "default"))
    if kind in ("su", "yarn") and table.has("short_factor"):
        kind = "longrope"  # its names in the first releases
    if kind not in KINDS:
        raise ValueError(f"{table.where}: rope_type={kind!r}; supported are {', '.join(KINDS)}")
    table.refuse("mrope_section")
    table.refuse("truncate", True)
    partial = table.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0))
    if not 0 < partial <= 1:
        raise ValueError(f"{fields.where}: partial_rotary_factor={partial} must lie in (0, 1]")
    width = int(head_dim * partial)
    trained = fields.size(
        "original_max_position_embeddings",
        "max_positions",
        table.size("original_max_position_embeddings", "max_positions", context),
    )
    match KINDS[kind]:
        case "default":
            return Rope(width, theta)
        case "linear":
            return Rope(width, theta, "linear", table.at_least("factor", 1))
        case "dynamic":
            if width < 4:  # the base grows by a power of width / (width - 2)
                raise ValueError(f"{table.where}: dynamic scaling rotates 4 dimensions or more")
            return Rope(width, theta, "dynamic", table.at_least("factor", 1), context)
        case "llama3":
            low = table.above("low_freq_factor", 0)
            high = table.above("high_freq_factor", low)
            factor = table.at_least("factor", 1)
            return Rope(width, theta, "llama3", factor, trained, low=low, high=high)
        case "yarn":
            factor = table.at_least("factor", 1, context / trained)
            slow = table.above("beta_slow", 0, 1.0)
            return Rope(
                width,
                theta,
                "yarn",
                factor,
                trained,
                fast=table.above("beta_fast", slow, 32.0),
                slow=slow,
                amplitude=table.above("attention_factor", 0, _yarn_amplitude(table, factor)),
            )
        case "longrope":
            factor = table.above("factor", 0, context / trained)
            natural = 1.0
            if factor > 1 and trained > 1:
                natural = math.sqrt(1 + math.log(factor) / math.log(trained))
            return Rope(
                width,
                theta,
                "longrope",
                factor,
                trained,
                amplitude=table.above("attention_factor", 0, natural),
                short=table.numbers("short_factor"),
                long=table.numbers("long_factor"),
            )


def _base(fields: Fields, default: float) -> float:
    """Above 1, for frequencies fall by its powers; logarithms of it divide."""
    return fields.above("rope_theta", 1, default)


def _yarn_amplitude(table: Fields, factor: float) -> float:
    def amplitude(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    if table.has("mscale") and table.has("mscale_all_dim"):
        both = (table.above(name, 0) for name in ("mscale", "mscale_all_dim"))
        ours, all_ = map(amplitude, both)
        return ours / all_
    return amplitude(1.0)


def rope_parameters(rope: Rope, head_dim: int) -> dict[str, Any]:
    """The newer spelling of one table."""
    out: dict[str, Any] = {"rope_type": rope.kind, "rope_theta": rope.theta}
    if rope.width != head_dim:
        out["partial_rotary_factor"] = rope.width / head_dim
    if rope.kind != "default":
        out["factor"] = rope.factor
    if rope.kind in ("llama3", "yarn", "longrope"):
        out["original_max_position_embeddings"] = rope.original
    if rope.kind == "llama3":
        out |= {"low_freq_factor": rope.low, "high_freq_factor": rope.high}
    if rope.kind == "yarn":
        out |= {"beta_fast": rope.fast, "beta_slow": rope.slow}
    if rope.kind == "longrope":
        out |= {"short_factor": list(rope.short), "long_factor": list(rope.long)}
    if rope.kind in ("yarn", "longrope"):
        out["attention_factor"] = rope.amplitude
    return out


def write_rope(rope: Rope, head_dim: int) -> dict[str, Any]:
    """Both spellings of a config with one table."""
    new = rope_parameters(rope, head_dim)
    old = {name: value for name, value in new.items() if name != "rope_theta"}
    partial = old.pop("partial_rotary_factor", None)
    fields = {
        "rope_parameters": new,
        "rope_theta": rope.theta,
        "rope_scaling": None if rope.kind == "default" else old | {"type": rope.kind},
    }
    return fields if partial is None else fields | {"partial_rotary_factor": partial}
