"""What the TPU's own compiler makes of a plan: its cycles of a step, its memory, its collectives.

The layers are scanned, so that all of them compile as quickly as a few. Where all are refused for
want of memory, two and four are compiled and what they cost is taken to grow linearly. The cache
does not grow in this program: it has its full length from the start. Kernels of this project
carry no estimate; what they read is charged at the bandwidth of the memory.
"""

from __future__ import annotations

from typing import Any

import jax

from experiments.commands.ahead.compiled import facts
from experiments.commands.ahead.libtpu import available
from experiments.commands.ahead.program import Program
from experiments.commands.plan.chips import GIB
from experiments.commands.plan.decode import Decoding
from experiments.commands.plan.fit import Fit
from experiments.commands.plan.topology import Topology
from jaxdecode.autoregress import Generator
from jaxdecode.plain import Autoregressive

FEW = (2, 4)  # layers that stand for all


def check(topology: Topology) -> None:
    """Refuse to compile for what cannot be compiled for here.

    Raises:
      ValueError: saying what to install, or to leave out.
    """
    if topology.chip.platform != "tpu":
        raise ValueError(
            f"--compile: {topology.name} are GPUs, whose compiler gives no times; leave it out"
        )
    if not available():
        raise ValueError(
            "--compile needs libtpu, which the `tpu` extra brings on 64-bit x86 Linux: "
            "pip install '.[experiments,tpu]' flatbuffers; or leave it out"
        )


def estimated(
    job: Decoding, best: Fit, topology: Topology, batch: int
) -> tuple[dict[str, Any] | None, list[str]]:
    """What the compiler says of a mesh, and how it was asked; None where it could not be."""
    layers = job.config.layers
    try:
        found, notes = _compiled(job, best, topology, batch, layers), []
    except jax.errors.JaxRuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        few = [n for n in FEW if n < layers]
        if len(few) < len(FEW):
            return None, [f"The compiler refused, and arithmetic is all there is: {reason}"]
        try:
            two, four = (_compiled(job, best, topology, batch, n) for n in few)
        except jax.errors.JaxRuntimeError:
            return None, [f"The compiler refused, and arithmetic is all there is: {reason}"]
        found = _extended(two, four, layers)
        notes = [
            f"The compiler refused all {layers} layers ({reason}); {few[0]} and {few[1]} were "
            "compiled, and what they cost is taken to grow linearly."
        ]
    return _told(job, best, topology, batch, found), notes


def _compiled(job: Decoding, best: Fit, topology: Topology, batch: int, layers: int) -> Any:
    """Facts of the program with so many layers."""

    def decoder(drawn: Generator, greedy: Generator) -> Autoregressive:
        return Autoregressive(drawn if job.decoder == "sample" else greedy)

    program = Program(
        decoder,
        job.config,
        layers,
        topology.name,
        best.split.data,
        best.split.model,
        batch,
        job.prompt,
        job.new,
    ).compile()
    memory = program.memory_analysis()
    return facts(program) | {
        "layers": layers,
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }


def _extended(two: dict[str, Any], four: dict[str, Any], layers: int) -> dict[str, Any]:
    """Facts of more layers, from those of two and of four."""
    more = (layers - four["layers"]) / (four["layers"] - two["layers"])
    grown = {name: four[name] + more * (four[name] - two[name])
             for name in ("arguments", "temporaries")}  # fmt: skip
    return four | grown | {"layers": layers}


def _told(job: Decoding, best: Fit, topology: Topology, batch: int, found: Any) -> dict[str, Any]:
    """Facts as a reader wants them."""
    layers, chip = found["layers"], topology.chip
    cycles = found["step_cycles"] + layers * found["layer_cycles"]
    share, context = job.share(best.split), job.prompt + (job.new - 1) / 2
    read = job.rows(best.split, batch) * share.seen(context) * share.pair
    streamed = read if found["kernels"] else 0
    collectives = {
        kind: found["step_collectives"].get(kind, 0)
        + layers * found["layer_collectives"].get(kind, 0)
        for kind in sorted({*found["step_collectives"], *found["layer_collectives"]})
    }
    told: dict[str, Any] = {
        "cycles a step": round(cycles),
        "kernels a layer": found["kernels"],
        "loops made of scatters": found["loops_made"],
        "collectives a step": ", ".join(f"{n} {kind}" for kind, n in collectives.items()) or "none",
        "arguments, GiB": round(found["arguments"] / GIB, 3),
        "temporaries with the cache, GiB": round(found["temporaries"] / GIB, 3),
    }
    if chip.clock is not None:
        seconds = cycles / chip.clock + streamed / chip.bandwidth
        told |= {
            "step, ms": round(seconds * 1e3, 3),
            "of it in kernels, ms": round(streamed / chip.bandwidth * 1e3, 3),
            "tokens/s": round(best.step.tokens / seconds, 1),
            "share of the limit reached": round(best.step.seconds(chip) / seconds, 3),
        }
    return told
