"""What an experiment found, and how it is kept; what the module of an experiment imports."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import tyro

from experiments.harness.figures import figure
from experiments.harness.files import compact, plain, read_json, write_atomically
from experiments.harness.judging.claim import Claim
from experiments.harness.resumption import Resumption
from experiments.harness.tables import markdown, shown

__all__ = ["Claim", "Out", "Report", "Resumption", "Seed", "figure"]

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
