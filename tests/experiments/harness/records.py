"""Records of experiments, judged again from what was written of them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.harness.judging.rejudging import differences, judges
from experiments.harness.report import Report


def same_again(report: Report, module: ModuleType, config: Any) -> Report:
    """The report as `result.json` has it; its evidence alone gives every claim once more."""
    folder = Path(config.out)
    report.write(folder)
    stored = Report.read(folder / "result.json")
    claims = judges(module)
    assert claims is not None and stored.evidence is not None
    now = Report(list(claims(config, stored.evidence)), [])
    assert differences(stored, now) == [] and list(stored.claims) == list(report.claims)
    return stored
