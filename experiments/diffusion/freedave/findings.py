"""FreeDave's claims, and how what was measured is held to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.diffusion.canvas_ground import ratio
from experiments.harness.report import Claim
from experiments.harness.statistics import paired

PAPER = 3.78
"""Times the throughput of static decoding, in the paper's second version. A pass of drafts takes
no less time than a pass, so that as many times fewer passes are the least that this needs."""


@dataclass(frozen=True)
class Findings:
    """Everything measured.

    Attributes:
      blocks: of a canvas.
      drafts: numbers of drafts.
      found: what each method came to, by name.
      seconds: of a batch, for those that were timed.
    """

    blocks: int
    drafts: Sequence[int]
    found: Mapping[str, Mapping[str, Any]]
    seconds: Mapping[str, float]

    def reference(self, name: str) -> str:
        """The method whose steps this one makes, or stands beside."""
        if name.startswith("plus"):
            return name.replace("plus", "threshold")
        return "static, dual" if name.endswith("dual") else "static"

    def same(self, name: str) -> float:
        """The share of questions whose text is the reference's."""
        mine, other = (self.found[n]["texts"] for n in (name, self.reference(name)))
        return float(np.mean([a == b for a, b in zip(mine, other, strict=True)]))

    def fewer(self, name: str, what: str = "passes") -> tuple[float, ...]:
        """How many times fewer of something than the reference, with an interval."""
        return ratio(self.found[self.reference(name)][what], self.found[name][what])

    @property
    def exact(self) -> list[str]:
        """Methods that claim to be lossless."""
        return [*(f"drafts {count}" for count in self.drafts), "drafts, dual"]

    @property
    def fastest(self) -> str:
        """The number of drafts with the fewest passes."""
        names = [f"drafts {count}" for count in self.drafts]
        return min(names, key=lambda name: np.mean(self.found[name]["passes"]))


def claims(found: Findings) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring."""
    return [
        _speed(found),
        _lossless(found),
        _never_more(found),
        *_unverified(found),
        *_plus(found),
        _tokens(found),
        *_seconds(found),
    ]


def _speed(found: Findings) -> Claim:
    fewer, low, high = found.fewer(found.fastest)
    return Claim(
        f"static decoding's text in {PAPER} times fewer passes, which the throughput needs",
        f"up to {PAPER}x (throughput, abstract of v2); 2.83x in v3",
        f"{found.fastest}: {fewer:.2f} ({low:.2f}..{high:.2f}), "
        f"texts equal {found.same(found.fastest):.3f}",
        fewer >= PAPER and found.same(found.fastest) == 1,
        interval=(low, high),
        mark=PAPER,
        headline=True,
    )


def _lossless(found: Findings) -> Claim:
    shares = {name: found.same(name) for name in found.exact}
    return Claim(
        "every text is static decoding's, with a cache that of the same cached decoding",
        "lossless",
        ", ".join(f"{name} {share:.3f}" for name, share in shares.items()),
        min(shares.values()) == 1,
    )


def _never_more(found: Findings) -> Claim:
    passes = {name: np.asarray(one["passes"]) for name, one in found.found.items()}
    worst = [int((passes[name] - passes[found.reference(name)]).max()) for name in found.exact]
    return Claim(
        "no question takes more passes than by static decoding",
        "never more forwards",
        f"the most that a question takes beyond it: {max(worst):+d}",
        max(worst) <= 0,
        sanity=True,
    )


def _unverified(found: Findings) -> list[Claim]:
    """At as many places a pass, deciding them unverified changes the text."""
    speed = np.mean(found.found["static"]["passes"]) / np.mean(found.found[found.fastest]["passes"])
    fixed = [name for name in found.found if name.startswith("fixed")]
    if not fixed:
        return []
    near = min(
        fixed,
        key=lambda name: abs(
            np.mean(found.found["static"]["passes"]) / np.mean(found.found[name]["passes"]) - speed
        ),
    )
    mean, low, high = paired(
        np.asarray(found.found[found.fastest]["right"], float),
        np.asarray(found.found[near]["right"], float),
    )
    return [
        Claim(
            f"deciding a fixed number a pass ({near}) answers less",
            "fixed k > 1 loses accuracy (tables)",
            f"{mean:+.1f} points ({low:+.1f}..{high:+.1f}) for {found.fastest}",
            low > 0,
            interval=(low, high),
            mark=0.0,
        )
    ]


def _plus(found: Findings) -> list[Claim]:
    stated = []
    for name in [n for n in found.found if n.startswith("plus")]:
        fewer, low, high = found.fewer(name)
        base = found.reference(name)
        mean, worst, best = paired(
            np.asarray(found.found[name]["right"], float),
            np.asarray(found.found[base]["right"], float),
        )
        stated.append(
            Claim(
                f"FreeDave++ needs fewer passes than the {base} it wraps, within 2 points",
                "LLaDA: 2.6-3.3 tokens a pass become 4.4-5.3, accuracy within noise",
                f"{fewer:.2f} times fewer ({low:.2f}..{high:.2f}); {mean:+.1f} points "
                f"({worst:+.1f}..{best:+.1f}); texts equal {found.same(name):.2f}",
                low > 1 and worst >= -2,
                interval=(low, high),
                mark=1.0,
            )
        )
    return stated


def _tokens(found: Findings) -> Claim:
    more, low, high = (1 / value for value in found.fewer(found.fastest, "tokens"))
    return Claim(
        "the drafts are free: no more tokens are run than by static decoding",
        "free where the accelerator is not busy; batched drafts cost their width",
        f"{found.fastest} runs {more:.2f} times as many ({high:.2f}..{low:.2f})",
        more <= 1,
        interval=(high, low),
        mark=1.0,
    )


def _seconds(found: Findings) -> list[Claim]:
    if not found.seconds:
        return []
    first = f"drafts {found.drafts[0]}"
    gains = {
        name: found.seconds[found.reference(name)] / found.seconds[name]
        for name in (first, "drafts, dual")
    }
    return [
        Claim(
            "it is faster by the clock, too",
            "75.8 s against 107.2 s (an early version, slower); throughput 3.78x in v2",
            ", ".join(f"{name} {gain:.2f} times" for name, gain in gains.items()),
            min(gains.values()) > 1,
        )
    ]
