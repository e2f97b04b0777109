"""The report of an experiment, and the command line that all experiments share.

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
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import tyro

from experiments.harness.entries import name_of
from experiments.harness.environment import environment, keep_compiled
from experiments.harness.figures import figure
from experiments.harness.files import compact, plain, read_json, write_atomically
from experiments.harness.judging.claim import Claim
from experiments.harness.resumption import Resumption
from experiments.harness.timing import load
from jaxdecode.distributed import initialize, primary
from jaxdecode.ranges import HIGHEST, integers

__all__ = ["Claim", "Out", "Report", "Resumption", "Seed", "figure", "run_main", "stopping"]

# Set by --seed and --out; not offered a second time under --config.
Seed = Annotated[int, tyro.conf.Suppress]
Out = Annotated[Path | None, tyro.conf.Suppress]


@dataclasses.dataclass(frozen=True)
class Report:
    """What an experiment found. `run` gives claims and rows; `run_main` adds the rest.

    Attributes:
      claims: the paper's, each with its verdict.
      rows: the measurements; keys are columns, the first row's first.
      evidence: what the claims were computed from, and nothing else: JSON, by independent units
        where it can be; None where they were computed from more than is kept.
      seconds: wall time; `run` gives what an interrupted run had spent before.
      settings: the configuration, as JSON.
      load: processes that wanted each core in the run's last minute.
    """

    claims: Sequence[Claim]
    rows: Sequence[dict[str, Any]]
    evidence: Any = None
    experiment: str = ""
    preset: str = ""
    seed: int = 0
    seconds: float = 0.0
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    load: float | None = None
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        claims: Callable[[Any, Any], Sequence[Claim]],
        config: Any,
        evidence: Any,
        rows: Sequence[dict[str, Any]] | None = None,
        seconds: float = 0.0,
    ) -> Report:
        """A report whose claims can be judged again from its record.

        Args:
          claims: (config, evidence) -> claims; the experiment's module has it by this name.
          evidence: any JSON. It is rounded as it is recorded before it is judged.
          rows: the table that is shown; the evidence itself where that is one.
        """
        kept = compact(evidence)
        return cls(claims(config, kept), kept if rows is None else rows, kept, seconds=seconds)

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return all(claim.verdict in ("holds", "sanity") for claim in self.claims)

    @property
    def headline(self) -> Claim:
        """The claim that stands for the paper."""
        return next((claim for claim in self.claims if claim.headline), self.claims[0])

    def table(self) -> str:
        """Claims and rows in Markdown."""
        claims = [
            {
                "claim": claim.claim,
                "paper": claim.paper,
                "measured": claim.measured,
                "verdict": claim.verdict,
            }
            for claim in self.claims
        ]
        title = f"# {self.experiment}, preset {self.preset}, seed {self.seed}"
        return "\n\n".join([title, markdown(claims), markdown(shown(self.rows))]) + "\n"

    def write(self, out: Path) -> None:
        """Store `result.json` and `table.md` in `out`, each atomically."""
        write_atomically(out / "table.md", self.table())
        write_atomically(out / "result.json", self.stored())

    def stored(self) -> str:
        """As JSON; of the evidence a line for each part."""
        first = ("experiment", "preset", "seed", "seconds", "load", "environment", "settings")
        fields = plain(vars(self) | {"claims": [claim.fields() for claim in self.claims]})
        text = json.dumps({name: fields[name] for name in (*first, "claims", "rows")}, indent=1)
        return f'{text[:-2]},\n "evidence": {_lines(fields["evidence"])}\n}}\n'

    @classmethod
    def read(cls, path: Path) -> Report:
        """From a `result.json`.

        Raises:
          ValueError: if the file is half written or something else, naming what is wrong.
        """
        stored = read_json(path)
        names = {field.name for field in dataclasses.fields(cls)}
        stored = _LATER | stored
        if set(stored) != names:
            raise ValueError(
                f"{path} is no result of an experiment: missing {sorted(names - set(stored))}, "
                f"unknown {sorted(set(stored) - names)}; delete it or run the experiment again"
            )
        for name, kind in _KINDS.items():
            if not isinstance(stored[name], kind) or isinstance(stored[name], bool):
                raise ValueError(f"{path}: {name} is {repr(stored[name])[:80]}; run it again")
        for row in stored["rows"]:
            if not isinstance(row, dict):
                raise ValueError(f"{path}: a row is {repr(row)[:80]}, not an object; run it again")
        try:
            claims = [
                Claim(**cast("dict[str, Any]", claim | _interval(claim)))
                for claim in stored["claims"]
            ]
        except TypeError as error:
            raise ValueError(f"{path}: a claim is malformed ({error})") from error
        for claim in claims:
            texts = (claim.claim, claim.paper, claim.measured)
            if not all(isinstance(text, str) for text in texts) or type(claim.holds) not in (
                bool,
                type(None),
            ):
                raise ValueError(f"{path}: a claim is malformed ({repr(claim)[:200]})")
        return cls(**cast("dict[str, Any]", stored | {"claims": claims}))


def _interval(claim: dict[str, Any]) -> dict[str, Any]:
    """An interval as it was before JSON made it a list."""
    found = claim.get("interval") if isinstance(claim, dict) else None
    return {"interval": tuple(found)} if found else {}


def _lines(evidence: Any) -> str:
    """JSON with a line for each part of a list or an object."""

    def one(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    match evidence:
        case dict() if evidence:
            parts = [f"{one(key)}:{one(value)}" for key, value in evidence.items()]
            return "{\n  " + ",\n  ".join(parts) + "\n }"
        case list() if evidence:
            return "[\n  " + ",\n  ".join(map(one, evidence)) + "\n ]"
    return one(evidence)


_LATER: dict[str, Any] = {"evidence": None, "settings": {}, "load": None}
"""What the oldest records lack."""

_KINDS = {
    "settings": dict,
    "claims": list,
    "rows": list,
    "experiment": str,
    "preset": str,
    "seed": int,
    "seconds": (int, float),
    "environment": dict,
}


def shown(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what is measured unit by unit."""
    return [
        {key: value for key, value in row.items() if not isinstance(value, list | tuple | dict)}
        for row in rows
    ]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table; its columns are the keys in order of first use."""
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def line(cells: Sequence[str]) -> str:
        return (
            "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in cells) + " |"
        )

    body = [line([cell(row.get(column)) for column in columns]) for row in rows]
    return "\n".join([line(columns), line(["---"] * len(columns)), *body]) if columns else ""


def cell(value: Any) -> str:
    """A value in a table: four digits that count, yes or no, nothing for nothing."""
    match plain(value):
        case bool(flag):
            return "yes" if flag else "no"
        case float(number):
            return f"{number:.0f}" if 1e4 <= abs(number) < 1e9 else f"{number:.4g}"
        case None:
            return ""
        case other:
            return str(other)


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
    """A configuration as a record keeps it: the place of the results and the seed left out."""
    fields = dataclasses.asdict(config)
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
