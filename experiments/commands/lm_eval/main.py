"""Run lm-evaluation-harness tasks on any model, with any decoder that gives one answer.

    python -m experiments lm_eval --model NAME_OR_FOLDER --tasks TASK [TASK ...] [--include DIR]

Needs the `eval` extra. Without --decoder every task is decoded as it asks, greedily or by
sampling; with it, all answers come from that decoder. Results go to OUT/results.json. Task
files of your own (YAML) are found in --include. Tasks that run programs written by a model are
refused unless --confirm-run-unsafe-code is given.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.commands.decoding import decoders
from experiments.commands.lm_eval.evaluation import Evaluator
from experiments.commands.terminal import INVALID
from experiments.harness.environment import environment, keep_compiled
from experiments.harness.files import write_atomically
from experiments.inputs import sources


@dataclass(frozen=True)
class Options:
    """Evaluate a model on tasks of lm-evaluation-harness."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|DIR")]
    """A zoo name, or the folder of a published checkpoint."""
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK ...")]
    """Names of tasks, or task files."""
    include: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where to look for more task files."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/lm_eval")
    """Where results.json goes."""
    limit: int | None = None
    """The first so many examples of each task."""
    num_fewshot: int | None = None
    """Examples shown before each question; each task's own number if not given."""
    chat: tyro.conf.FlagCreatePairsOff[bool] = False
    """Put questions into the model's chat template."""
    decoder: decoders.Name | None = None
    """How answers are found; as each task asks if not given."""
    rules: tyro.conf.OmitArgPrefixes[decoders.Rules] = dataclasses.field(
        default_factory=decoders.Rules
    )
    batch: int = 8
    """Texts or prompts read together."""
    seed: int = 0
    """Of every random draw."""
    confirm_run_unsafe_code: tyro.conf.FlagCreatePairsOff[bool] = False
    """Let tasks run programs that the model wrote."""


def run(options: Options) -> dict[str, Any]:
    """Evaluate, store and return the harness's results.

    Raises:
      ValueError: if the extra is missing, or for models and options that cannot be meant.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise ValueError("lm-eval is not installed; pip install '.[eval]' brings it")
    evaluator = Evaluator(
        source=sources.open_model(options.model, "auto"),
        decoder=options.decoder,
        rules=options.rules,
        batch=options.batch,
        seed=options.seed,
    )
    harness = importlib.import_module("experiments.commands.lm_eval.adapter")
    lm_eval = importlib.import_module("lm_eval")
    tasks = importlib.import_module("lm_eval.tasks")
    manager = tasks.TaskManager(include_path=options.include and str(options.include))
    check_tasks(options.tasks, manager)
    results = lm_eval.simple_evaluate(
        model=harness.HarnessModel(evaluator),
        tasks=list(options.tasks),
        task_manager=manager,
        num_fewshot=options.num_fewshot,
        limit=options.limit,
        apply_chat_template=options.chat,
        confirm_run_unsafe_code=options.confirm_run_unsafe_code,
        bootstrap_iters=1000,
    )
    stored = {
        "model": options.model,
        "settings": decoders.settings(options.decoder, options.rules)
        if options.decoder
        else "as each task asks",
        "truncated": evaluator.truncated,
        "invalid": evaluator.invalid,
        "environment": environment(),
        **{key: results[key] for key in ("results", "n-samples", "versions", "samples")},
    }
    text = json.dumps(stored, indent=1, default=str)
    write_atomically(options.out / "results.json", text + "\n")
    print(importlib.import_module("lm_eval.utils").make_table(results))
    if evaluator.invalid:
        print(f"warning: {evaluator.invalid} answers or scores are INVALID", file=sys.stderr)
        raise SystemExit(INVALID)
    return stored


def check_tasks(names: Sequence[str], manager: Any) -> None:
    """Refuse a task that the harness does not know, before anything is computed."""
    for name in names:
        if not Path(name).is_file() and not manager.match_tasks([name]):
            near = difflib.get_close_matches(name, manager.all_tasks, n=3)
            raise ValueError(
                f"tasks: the harness knows no {name!r}"
                f"{'; did you mean ' + ', '.join(near) if near else ''}; --include DIR adds files"
            )


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(
        Options, prog="python -m experiments lm_eval", description=__doc__, args=arguments
    )
    keep_compiled()
    try:
        run(options)
    except ValueError as error:
        sys.exit(f"error: {error}")
