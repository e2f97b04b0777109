"""The figure of the experiment on RASD."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.report import figure
from experiments.speculative.rasd.findings import table
from experiments.speculative.rasd.setting import Config


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Tokens a pass of every method, a panel for each task."""
    path = config.out and config.out / "figure.png"
    found = table(rows)
    names = list(next(iter(found.values())))
    with figure(path, columns=len(config.tasks), width=4.6) as axes:
        for axis, task in zip(axes, config.tasks, strict=True):
            at = np.arange(len(names))
            share = 0.8 / len(config.heads)
            for i, domain in enumerate(config.heads):
                values = [found[task, domain][name]["MAT"] for name in names]
                axis.barh(at + i * share, values, share, label=f"drafter {domain}")
            axis.set_yticks(at + share * (len(config.heads) - 1) / 2, names)
            axis.invert_yaxis()
            axis.set(xlabel="tokens for each pass of the target", title=task)
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
