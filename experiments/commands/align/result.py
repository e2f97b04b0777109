"""What a run leaves behind: the page, result.json, and lines on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

from algorithms.alignment.course import Aligned
from experiments.commands.align import page
from experiments.commands.align.evaluation import Worth
from experiments.commands.align.given import Given
from experiments.commands.align.rewards import Rewards
from experiments.commands.terminal import visible
from experiments.harness.environment import environment
from experiments.harness.files import plain, write_atomically


def report(
    out: Path, given: Given, rewards: Rewards, found: Aligned, worth: Worth, seconds: float
) -> None:
    """Write, and say what was won."""
    page.write(out, given, rewards, found, worth, seconds)
    stored = {
        "settings": given.options.settings,
        "kl": {"aim": given.options.kl, "training": found.kl, "held out": float(worth.kl.mean())},
        "reached": found.reached,
        "beta": found.beta,
        "looks": [{"steps": look.steps, "kl": look.kl, "line": look.line} for look in found.looks],
        "accuracy": rewards.accuracy,
        "worth": worth.means(rewards.independent),
        "wins": worth.wins(rewards.independent),
        "seconds": round(seconds, 1),
        "environment": environment(),
    }
    write_atomically(out / "result.json", json.dumps(plain(stored), indent=1) + "\n")
    print(page.reached(found, given.options.kl))
    for row in stored["wins"]:
        by = [f"{row[name]} {name}" for name in ("by the judge", "by the reward") if name in row]
        print(f"{row['win rate of']}: {', '.join(by)}")
    print(f"\n{out / 'policy'} is the policy; open {out / 'index.html'} in a browser; then:\n")
    print(visible(page.commands(given, out / "policy")))
