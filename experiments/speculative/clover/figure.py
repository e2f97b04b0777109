"""The figure of the experiment on Clover."""

from __future__ import annotations

from typing import Any

from experiments.harness.report import figure
from experiments.speculative.clover.findings import of
from experiments.speculative.clover.setting import Config


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Accuracy by head, extra tokens by size, modelled speed-up by batch."""
    path = config.out and config.out / "figure.png"
    columns = 3 if config.kinds else 2
    with figure(path, columns=columns, width=3.8) as axes:
        if config.kinds:
            for kind in config.kinds:
                found = of(rows, "accuracy", kind=kind)
                label = {"none": "none (Medusa)"}.get(kind, kind.replace("_", " "))
                axes[0].plot(
                    [row["head"] for row in found], [row["top5"] for row in found], label=label
                )
            axes[0].set(xlabel="head", ylabel="top-5 accuracy", title="heads")
            axes[0].set_xticks(range(1, config.heads + 1))
            axes[0].set_ylim(0)  # room for the legend
            axes[0].legend(ncols=2, loc="lower center")
            axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
        for kind, label in (("none", "Medusa"), ("clover", "Clover")):
            found = of(rows, "size", kind=kind)
            axes[-2].plot(
                [row["size"] for row in found], [row["extra"] for row in found], label=label
            )
            found = of(rows, "batch", kind=kind)
            at, values = [row["batch"] for row in found], [row["speed_up"] for row in found]
            axes[-1].plot(at, values, label=label)
        axes[-2].set_xscale("log", base=2)
        axes[-2].set(xlabel="most tokens of a tree", ylabel="extra tokens a step", title="trees")
        axes[-1].set_xscale("log", base=2)
        axes[-1].axhline(1.0, color="black", linewidth=0.8)
        axes[-1].set(xlabel="batch", ylabel="times plain decoding", title="modelled speed-up")
