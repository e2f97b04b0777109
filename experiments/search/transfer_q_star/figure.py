"""The figure of the experiment on value guidance."""

from __future__ import annotations

from pathlib import Path

from experiments.harness.figures import MARKERS, PALETTE, figure
from experiments.search.transfer_q_star.measures import Frontier

PANELS = (
    ("base", "best-of-N", "ARGS", "CD, FUDGE", "CD, CD-Q", "CD--", "TQ*"),
    ("aligned (DPO)", "ARGS, aligned", "CD--", "TQ*", "TQ*, base tilted"),
    ("CD--", "direct TQ*, wrong policy", "indirect TQ*", "TQ*"),
    ("CD, CD-Q", "CD, blocks", "TQ*", "TQ*, by width", "TQ*, by horizon"),
)
TITLES = (
    "against baselines",
    "whose law, whose values",
    "a policy for another reward",
    "blocks, candidates and rollouts",
)
# A method looks the same in all panels; those that share no panel share a place.
PLACES = {name: place for place, name in enumerate(PANELS[0])} | {
    "aligned (DPO)": 0,
    "ARGS, aligned": 1,
    "TQ*, base tilted": 2,
    "direct TQ*, wrong policy": 1,
    "indirect TQ*": 2,
    "CD, blocks": 0,
    "TQ*, by width": 1,
    "TQ*, by horizon": 2,
}


def draw(path: Path, found: dict[str, Frontier]) -> None:
    """Reward against KL, four comparisons."""
    with figure(path, columns=2, rows=2, height=4.0) as axes:
        for panel, names, title in zip(axes, PANELS, TITLES, strict=True):
            for name in filter(found.__contains__, names):
                one, place = found[name], PLACES[name]
                (line,) = panel.plot(one.levels, one.rewards, label=name)
                line.set(color=PALETTE[place], marker=MARKERS[place])
            panel.set(xlabel="KL to the base, nats", ylabel="mean reward", title=title)
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)
