"""The command line that all experiments share.

    python -m experiments SLUG [--preset smoke|cpu|paper] [--out DIR] [--seed N] [--strict]
                                 [--config.FIELD VALUE ...]

writes `result.json`, `table.md` and whatever the experiment draws into DIR. Where the environment
names a coordinator (see `jaxdecode.distributed`), the processes that were started with the same
command run as one: all take part, and process 0 writes. An experiment is
a module with a frozen dataclass `Config` that has the fields `seed: Seed` and `out: Out`, a
function `run(config) -> Report` that fills in `claims` and `rows`, and `PRESETS`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from experiments.harness.entries import name_of
from experiments.harness.environment import ROOT, environment, keep_compiled
from experiments.harness.files import plain
from experiments.harness.measuring.timing import load
from experiments.harness.report import Report
from jaxdecode.distributed import initialize, primary
from jaxdecode.ranges import HIGHEST, integers


@contextlib.contextmanager
def stopping(kept: str) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a quiet exit that says what is kept and how to go on."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        print(f"\nstopped. {kept}", file=sys.stderr)
        raise SystemExit(128 + number) from None
    finally:
        signal.signal(signal.SIGTERM, before)


Config = TypeVar("Config")


def run_main(
    run: Callable[[Config], Report],
    presets: dict[str, Config],
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse the command line, join the other processes, run, store, print.

    With --strict, exit 1 for a failed claim.
    """
    module = sys.modules[run.__module__]
    name = module.__spec__.name if module.__spec__ else run.__module__
    slug = name_of(name)
    options = parse(slug, module.__doc__ or "", presets, arguments)
    integers("--seed", [options.seed], 0, HIGHEST)
    initialize()
    out = options.out or Path("out") / slug / options.preset
    config = dataclasses.replace(options.config, seed=options.seed, out=out if primary() else None)

    keep_compiled()
    start = time.perf_counter()
    with stopping(f"What is finished is kept in {out}; the same command goes on from there."):
        report = run(config)
    report = dataclasses.replace(
        report,
        experiment=slug,
        preset=options.preset,
        seed=options.seed,
        seconds=round(report.seconds + time.perf_counter() - start, 1),
        settings=settings(config),
        load=load(),
        environment=environment(),
    )
    if primary():
        report.write(out)
        for claim in report.claims:
            print(f"{claim.verdict}: {claim.claim}")
            print(f"       paper: {claim.paper}; here: {claim.measured}")
        print(f"{slug}: {report.seconds:.0f} s, written to {out}")
    if options.strict and not report.holds:
        raise SystemExit(1)


def settings(config: Any) -> dict[str, Any]:
    """A configuration as a record keeps it: the place of the results and the seed left out, and
    the project's own files by their paths in it."""
    fields = dataclasses.asdict(config)
    for name, value in fields.items():
        if isinstance(value, Path) and value.is_relative_to(ROOT):
            fields[name] = value.relative_to(ROOT).as_posix()
    return plain({name: value for name, value in fields.items() if name not in ("out", "seed")})


def parse(slug: str, description: str, presets: dict[str, Any], arguments: Any) -> Any:
    """The options of an experiment; the preset chosen gives the configuration's defaults."""
    prog = f"python -m experiments {slug}"
    first = argparse.ArgumentParser(prog, add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=list(presets), default=next(iter(presets)))
    chosen = first.parse_known_args(arguments)[0].preset
    config = presets[chosen]

    def option(name: str, kind: Any, default: Any, **shown: Any) -> tuple[str, Any, Any]:
        kind = Annotated[kind, tyro.conf.arg(**shown)]
        return name, kind, dataclasses.field(default=default)

    options = dataclasses.make_dataclass(
        "Options",
        [
            option("preset", str, chosen, metavar="|".join(presets), help="size of the run"),
            option("out", Path | None, None, metavar="DIR", help="default: out/NAME/PRESET"),
            option("seed", int, config.seed, help="of every random draw"),
            option(
                "strict", tyro.conf.FlagCreatePairsOff[bool], False, help="exit 1 on a failed claim"
            ),
            option("config", type(config), config, help="what the preset sets, one by one"),
        ],
    )
    return tyro.cli(options, prog=prog, description=description, args=arguments)
