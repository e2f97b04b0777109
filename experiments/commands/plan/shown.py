"""A plan on the terminal, as JSON, and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.commands.plan.chips import GIB
from experiments.commands.plan.fit import Fit
from experiments.commands.plan.plan import Plan
from experiments.commands.terminal import visible
from experiments.harness import page
from experiments.harness.files import plain, write_atomically
from experiments.harness.tables import cell
from models.parameters import count


def title(plan: Plan) -> str:
    """What is planned, in a line."""
    o = plan.options
    what = o.decoder if o.recipe is None else f"training by {o.recipe}"
    return f"{o.model}, {what}, {o.dtype}, batch {o.batch}, on {plan.topology.name}"


def facts(plan: Plan) -> dict[str, Any]:
    """What was assumed."""
    chip = plan.topology.chip
    return {
        "parameters": count(plan.config),
        "chips": plan.topology.chips,
        "memory of a chip, GiB": round(chip.memory / GIB, 2),
        "of it for programs": 1 - plan.options.spare,
        "bandwidth, GB/s": chip.bandwidth / 1e9,
        "arithmetic, TFLOP/s": chip.flops / 1e12,
        "links, GB/s": chip.link / 1e9,
        "batch": plan.options.batch,
        **plan.job.told,
    }


def held(one: Fit, best: Fit | None) -> dict[str, Any]:
    """What a chip holds on a mesh, in GiB."""
    return {
        "mesh": one.split.name + ("*" if one is best else ""),
        "fits": one.fits,
        **{name: round(size / GIB, 2) for name, size in one.memory.items()},
        "left": round((one.room - one.needed) / GIB, 2),
    }


def speed(one: Fit, best: Fit | None) -> dict[str, Any]:
    """How fast a mesh is at most."""
    return {
        "mesh": one.split.name + ("*" if one is best else ""),
        "step, ms": one.step.seconds(one.chip) * 1e3,
        "waits for": one.bound,
        "tokens/s": round(one.rate, 1),
        "batch, s": one.seconds,
        "largest batch": one.largest,
        "tokens/s there": round(one.rate_largest, 1),
    }


def parts(one: Fit) -> list[dict[str, Any]]:
    """The phases of a step on a mesh, with the three limits of each."""
    return [
        {
            "phase": name,
            **{f"{limit}, ms": value * 1e3 for limit, value in cost.limits(one.chip).items()},
            "read, GB": cost.bytes / 1e9,
            "sent, MB": cost.sent / 1e6,
            "collectives": round(cost.collectives),
        }
        for name, cost in one.step.phases.items()
    ]


def record(plan: Plan) -> dict[str, Any]:
    """All of it."""
    meshes = [
        {
            "data": one.split.data,
            "model": one.split.model,
            "fits": one.fits,
            "memory_bytes": one.memory,
            "room_bytes": one.room,
            "step_seconds": one.step.seconds(one.chip),
            "tokens_a_step": one.step.tokens,
            "bound": one.bound,
            "tokens_a_second": one.rate,
            "batch_seconds": one.seconds,
            "largest_batch": one.largest,
            "tokens_a_second_at_largest": one.rate_largest,
            "phases": {
                name: vars(cost) | {"seconds": cost.limits(one.chip)}
                for name, cost in one.step.phases.items()
            },
        }
        for one in plan.fits
    ]
    return {
        "plan": title(plan),
        "options": {name: value for name, value in vars(plan.options).items()},
        "topology": plan.topology.name,
        "assumed": facts(plan),
        "meshes": meshes,
        "best": None if plan.best is None else plan.best.split.name,
        "refused": plan.refused,
        "compiled": plan.compiled,
        "notes": plan.notes,
    }


def _sections(plan: Plan) -> list[tuple[str, list[dict[str, Any]]]]:
    """Tables with their headings."""
    near = plan.best or min(plan.fits, key=lambda one: one.needed)
    found = [
        ("Memory of a chip by mesh (data x model), GiB", [held(f, plan.best) for f in plan.fits]),
        ("Speed at most (* the fastest that fits)", [speed(f, plan.best) for f in plan.fits]),
        (f"A step on {near.split.name}, at least", parts(near)),
    ]
    if plan.compiled is not None:
        rows = [{"": name, "value": value} for name, value in plan.compiled.items()]
        found.append((f"What the compiler makes of {near.split.name}", rows))
    return found


def on_terminal(plan: Plan) -> None:
    """Print it."""
    console = Console()
    said = ", ".join(f"{name} {cell(value)}" for name, value in facts(plan).items())
    console.print(f"[bold]{escape(visible(title(plan)))}[/bold]\n{escape(said)}")
    for heading, rows in _sections(plan):
        table = Table(*rows[0], box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(escape(cell(value)) for value in row.values()))
        console.print(f"\n{escape(heading)}")
        console.print(table)
    for note in plan.notes:
        console.print(f"\n{escape(note)}")


def as_json(plan: Plan, path: Path) -> None:
    """Store it for programs."""
    write_atomically(path, json.dumps(plain(record(plan)), indent=1) + "\n")


def as_page(plan: Plan, path: Path) -> None:
    """Store it as a page that needs no other file."""
    told = [] if plan.refused is None else [page.paragraph(plan.refused, "bad")]
    for heading, rows in _sections(plan):
        told += [page.heading(heading), page.table(rows)]
    told += [page.paragraph(note) for note in plan.notes]
    assumed = [{"": name, "value": value} for name, value in facts(plan).items()]
    page.write(path, title(plan), *told, page.folded("assumed", page.table(assumed)))
