"""Verdicts from records alone, and what a record must hold to be one."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.harness.entries import Entry, entries
from experiments.harness.judging.claim import Claim
from experiments.harness.report import Report
from experiments.harness.running import settings


def judges(module: Any) -> Callable[[Any, Any], Sequence[Claim]] | None:
    """The module's `claims(config, evidence)`; None where its claims need more than that."""
    claims = getattr(module, "claims", None)
    if claims is None or len(inspect.signature(claims).parameters) != 2:
        return None
    return claims


def rejudged(report: Report, known: Mapping[str, Entry]) -> Report | str:
    """A record with its verdicts as its evidence and the rules of today give them, or why not.

    Args:
      known: name -> what can be run, from `entries`.
    """
    if report.evidence is None:
        return "recorded without its rows"
    entry = known.get(report.experiment)
    if entry is None:
        return "there is no such experiment any more"
    module = importlib.import_module(entry.module)
    claims = judges(module)
    if claims is None:
        return f"{entry.module} has no claims(config, evidence)"
    config = module.PRESETS.get(report.preset)
    if config is None:
        return f"preset {report.preset} is no more"
    if settings(config) != report.settings:
        return f"preset {report.preset} has changed since"
    config = dataclasses.replace(config, seed=report.seed)
    return dataclasses.replace(report, claims=list(claims(config, report.evidence)))


def differences(stored: Report, now: Report) -> list[str]:
    """Where a stored verdict, or what it says was measured, is not what the rules give."""
    before = {claim.claim: claim for claim in stored.claims}
    after = {claim.claim: claim for claim in now.claims}
    found = [f"{name!r} is not stored" for name in after if name not in before]
    for name, claim in before.items():
        other = after.get(name)
        if other is None:
            found.append(f"{name!r} is stored as {claim.verdict!r}, and no rule states it")
        elif other.verdict != claim.verdict:
            found.append(f"{name!r} is stored as {claim.verdict!r}, and is {other.verdict!r}")
        elif other != claim:
            found.append(f"{name!r} is stored with {claim.measured!r}, and is {other.measured!r}")
    return found


def refuse_unfit(report: Report, paper: bool) -> None:
    """Refuse a run as a record of its experiment.

    Raises:
      ValueError: it was made from a tree with changes or from no commit, with other settings
        than its preset's, or its headline claim holds without an interval.
    """
    name, environment = report.experiment, report.environment
    commit = str(environment.get("commit") or "")
    if not commit:
        raise ValueError(f"{name}: made from no commit; run it in a checkout of the repository")
    if commit.endswith("+"):
        changed = ", ".join(environment.get("changed") or ()) or "files that it does not name"
        raise ValueError(
            f"{name}: made from {commit[:-1]} with changes in {changed}; commit them, then run "
            "it again"
        )
    claim = report.headline if paper else None
    if claim is not None and claim.verdict == "holds" and claim.interval is None:
        raise ValueError(
            f"{name}: the headline claim {claim.claim!r} holds and has no interval; judge it over "
            "independent units, or let another claim stand for the paper"
        )
    entry = entries().get(name)
    presets = importlib.import_module(entry.module).PRESETS if entry else {}
    if report.preset in presets and settings(presets[report.preset]) != report.settings:
        raise ValueError(
            f"{name}: run with other settings than those of preset {report.preset}; run "
            f"`python -m experiments {name} --preset {report.preset}`"
        )
