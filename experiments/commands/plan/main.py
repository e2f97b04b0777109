"""Whether a model fits on accelerators, and how fast it can be at most, before they are rented.

    python -m experiments plan --model llama-3.1-8b --topology v5e:4x4 --batch 64
    python -m experiments plan --model qwen3-4b --topology h200 --decoder best-of-n --samples 16
    python -m experiments plan --model llama-3.1-70b --topology h100x8 --draft llama-3.2-1b \
        --acceptance 0.8
    python -m experiments plan --model qwen3-1.7b --topology v5p:2x2x1 --recipe ctrl --batch 8

Models are shapes: nothing is allocated, and a plan takes seconds on any machine. For every mesh
that divides heads and batch it tells what a chip must hold, what a step cannot take less than, and
the largest batch that fits. The limits are those of memory, arithmetic and links alone; a program
reaches a share of them. With --compile the TPU's own compiler is asked what it makes of the best
mesh. If the batch fits on no mesh, the last line says what is missing and the exit status is 1.
"""

from __future__ import annotations

import sys

import tyro

from experiments.commands.ahead.libtpu import setting
from experiments.commands.plan.options import Options, check


def run(options: Options) -> None:
    """Plan, show, and write.

    Raises:
      ValueError: saying what is wrong with which option, or that nothing fits and what would.
    """
    check(options)
    if options.compile:
        setting()
    # Deferred: help and a mistyped option should not wait for JAX.
    from experiments.commands.plan import shown
    from experiments.commands.plan.plan import planned

    plan = planned(options)
    shown.on_terminal(plan)
    if options.json is not None:
        shown.as_json(plan, options.json)
    if options.page is not None:
        shown.as_page(plan, options.page)
    if plan.refused is not None:
        raise ValueError(plan.refused)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(
        Options, prog="python -m experiments plan", description=__doc__, args=arguments
    )
    try:
        run(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
