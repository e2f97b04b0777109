"""Reading a compiled TPU program: loops with the compiler's cycles, collectives, kernels.

The text of a program carries `estimated_cycles` for every fusion, copy and collective start.
They are a model's, good for ratios between programs compiled alike; a Pallas kernel has none, and
what a compiler fetches ahead of its use costs nothing in them. A loop without an operation of
that name in the source is one that the compiler made, as it does for a scatter: row after row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
WHILE = re.compile(r" while\(.*?condition=%?([\w.\-]+), body=%?([\w.\-]+)")
TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
ORIGIN = re.compile(r'op_name="([^"]+)"')
KERNEL = re.compile(r'custom_call_target="tpu_custom_call"')
HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")


@dataclass
class Loop:
    """One loop of a program, or the program itself.

    Attributes:
      origin: the operation of the source that it comes from.
      trips: how often it turns, where the compiler knows.
      cycles: of one turn, without the loops within.
      collectives: kind -> how many there are in one turn, its condition included.
      kernels: Pallas kernels in one turn.
      loops: those within.
    """

    origin: str
    trips: int | None
    cycles: int
    collectives: Counter[str]
    kernels: int
    loops: list[Loop] = field(default_factory=list)

    def walk(self) -> Iterator[Loop]:
        """This loop and all within."""
        yield self
        for loop in self.loops:
            yield from loop.walk()

    @property
    def made(self) -> bool:
        """Whether no loop of the source is behind it."""
        return self.origin != "" and self.origin.rsplit("/", 1)[-1] not in ("while", "body", "scan")


def parse(text: str) -> Loop:
    """The loops of a compiled program's text."""
    bodies: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        head = HEAD.match(line)
        if head:
            lines = bodies.setdefault(head.group(2), [])
            entry = head.group(2) if head.group(1) else entry
        else:
            lines.append(line)

    def loop(body: str, condition: str | None, origin: str, trips: int | None) -> Loop:
        own = bodies.get(body, [])
        test = bodies.get(condition or "", [])
        inner = []
        for line in own:
            found = WHILE.search(line)
            if found:
                named, known = ORIGIN.search(line), TRIPS.search(line)
                inner.append(
                    loop(
                        found.group(2),
                        found.group(1),
                        named.group(1) if named else "",
                        int(known.group(1)) if known else None,
                    )
                )
        return Loop(
            origin=origin,
            trips=trips,
            cycles=sum(int(n) for line in own for n in CYCLES.findall(line)),
            collectives=Counter(COLLECTIVE.findall("\n".join([*own, *test]))),
            kernels=sum(len(KERNEL.findall(line)) for line in own),
            loops=inner,
        )

    return loop(entry, None, "", None)


def facts(compiled: Any) -> dict[str, Any]:
    """What a budget is set on.

    The step is the last loop of the program, decoding; the layers are the heaviest loop of the
    source within it, or the step itself where they are written out.
    """
    program = parse(compiled.as_text())
    step = max(program.loops, key=lambda loop: (bool(loop.loops), program.loops.index(loop)))
    own = [loop for loop in step.loops if not loop.made]
    layers = max(own, key=lambda loop: loop.cycles, default=None)
    memory = compiled.memory_analysis()
    return {
        "step_cycles": step.cycles,
        "layer_cycles": layers.cycles if layers else 0,
        "step_collectives": dict(sorted(step.collectives.items())),
        "layer_collectives": dict(sorted(layers.collectives.items())) if layers else {},
        "kernels": step.kernels + (layers.kernels if layers else 0),
        "loops_made": sum(loop.made for loop in program.walk()),
        "temporary_mb": round(memory.temp_size_in_bytes / 1e6, 1),
    }
