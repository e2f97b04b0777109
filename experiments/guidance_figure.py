"""The figure of the experiment on value guidance."""

from __future__ import annotations

from pathlib import Path

from experiments.figures import figure
from experiments.guidance_measures import Frontier

PANELS = (
    ("base", "best-of-N", "ARGS", "CD, FUDGE", "CD, CD-Q", "CD--", "TQ*"),
    ("aligned (DPO)", "ARGS, aligned", "CD--", "TQ*", "TQ*, base tilted"),
    ("CD--", "direct TQ*, wrong policy", "indirect TQ*", "TQ*"),
)
TITLES = ("against baselines", "whose law, whose values", "a policy for another reward")


def draw(path: Path, found: dict[str, Frontier]) -> None:
    """Reward against KL, three comparisons."""
    with figure(path, columns=3) as axes:
        for panel, names, title in zip(axes, PANELS, TITLES, strict=True):
            for name in filter(found.__contains__, names):
                one = found[name]
                panel.plot(one.levels, one.rewards, label=name)
            panel.set(xlabel="KL to the base, nats", ylabel="mean reward", title=title)
