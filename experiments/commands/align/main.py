"""Align a policy to preferences or a reward, for the decoder it will be deployed with.

python -m experiments align --model NAME_OR_PATH --preferences pairs.jsonl
python -m experiments align --model NAME_OR_PATH --prompts prompts.jsonl --reward NAME_OR_PATH
python -m experiments align --model NAME_OR_PATH --prompts prompts.jsonl --reward judge.py:function

Opens the base, learns a reward and an independent judge where none is named, calibrates, trains to
the KL that is asked for, judges before and after, and writes to --out: policy/, a published folder;
index.html, with what was reached and won; result.json. Killed, the same command goes on from there.

The same from Python, on what is open already: `algorithms.alignment.align.align`.
"""

from __future__ import annotations

import sys
import time

from experiments.commands.align.options import Options, check, parsed


def run(options: Options) -> None:
    """The stages, in their order.

    Raises:
      ValueError: saying what is wrong with which option, file and line.
    """
    # Deferred: help and a mistyped option should not wait for JAX.
    from experiments.commands.align import training
    from experiments.commands.align.evaluation import evaluate
    from experiments.commands.align.given import open_given
    from experiments.commands.align.result import report
    from experiments.commands.align.rewards import rewards
    from experiments.commands.align.stages import Stages, claim
    from experiments.harness.running import stopping
    from experiments.inputs.publishing import publish

    check(options)
    given, out, start = open_given(options), options.out, time.perf_counter()
    claim(out, options.settings)
    kept = f"What is finished is kept in {out}; the same command goes on from there."
    with stopping(kept), Stages() as stages:
        judges = rewards(given, stages, out)
        found = training.train(given, judges, stages, out)
        worth = evaluate(given, judges, found.policy, stages, out)
        publish(found.policy, options.model, out / "policy")
    report(out, given, judges, found, worth, time.perf_counter() - start)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    options = parsed(arguments, __doc__ or "")
    from experiments.harness.environment import keep_compiled

    keep_compiled()
    try:
        run(options)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
