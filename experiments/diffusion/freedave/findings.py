"""FreeDave's claims, and how what was measured is held to them; intervals are over questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments.diffusion.canvas_ground import times
from experiments.diffusion.freedave.setting import Config
from experiments.harness.judging.claim import Claim, above, below
from experiments.harness.statistics import Estimate, bootstrap, points

PAPER = 3.78
"""Times the throughput of static decoding, in the paper's second version. A pass of drafts takes
no less time than a pass, so that as many times fewer passes are the least that this needs."""
LOST = 2
"""Points by which two may differ and still count as equally good."""


@dataclass(frozen=True)
class Findings:
    """Everything measured, or what a record kept of it.

    Attributes:
      found: what each method came to, by name.
      seconds: of a batch, round by round, for those that were timed.
    """

    config: Config
    found: Mapping[str, Mapping[str, Any]]
    seconds: Mapping[str, list[float]]

    @property
    def evidence(self) -> dict[str, Any]:
        """What the claims are judged by, question by question."""
        kept = ("right", "passes", "tokens")
        return {
            "found": {
                name: {key: np.asarray(one[key]).astype(int).tolist() for key in kept}
                | {"same": self.same(name)}
                for name, one in self.found.items()
            },
            "seconds": self.seconds,
        }

    def reference(self, name: str) -> str:
        """The method whose steps this one makes, or stands beside."""
        if name.startswith("plus"):
            return name.replace("plus", "threshold")
        return "static, dual" if name.endswith("dual") else "static"

    def same(self, name: str) -> float:
        """The share of questions whose text is the reference's."""
        if "same" in self.found[name]:
            return float(self.found[name]["same"])
        mine, other = (self.found[n]["texts"] for n in (name, self.reference(name)))
        return float(np.mean([a == b for a, b in zip(mine, other, strict=True)]))

    def fewer(self, name: str, what: str = "passes") -> Estimate:
        """How many times fewer of something than the reference."""
        return times(self.found[self.reference(name)][what], self.found[name][what])

    def gained(self, name: str, other: str) -> Estimate:
        """Right answers above another's, in points."""
        return points(self.found[name]["right"], self.found[other]["right"])

    @property
    def exact(self) -> list[str]:
        """Methods that claim to be lossless."""
        return [*(f"drafts {count}" for count in self.config.drafts), "drafts, dual"]

    @property
    def fastest(self) -> str:
        """The number of drafts with the fewest passes."""
        names = [f"drafts {count}" for count in self.config.drafts]
        return min(names, key=lambda name: np.mean(self.found[name]["passes"]))


def claims(config: Config, evidence: Mapping[str, Any]) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring, from what a record keeps."""
    found = Findings(config, evidence["found"], evidence["seconds"])
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
    """Another text in as few passes is none of it."""
    same = found.same(found.fastest)
    claim = Claim.tested(
        f"static decoding's text in {PAPER} times fewer passes, which the throughput needs",
        f"up to {PAPER}x (throughput, abstract of v2); 2.83x in v3",
        above(found.fewer(found.fastest), f"{PAPER}x"),
        measured=f"texts equal {same:.3f}, {found.fastest}",
        headline=True,
    )
    return claim if same == 1 else replace(claim, holds=False, interval=None, mark=None)


def _lossless(found: Findings) -> Claim:
    shares = {name: found.same(name) for name in found.exact}
    return Claim(
        "every text is static decoding's, with a cache that of the same cached decoding",
        "lossless",
        ", ".join(f"{name} {share:.3f}" for name, share in shares.items()),
        min(shares.values()) == 1,
        sanity=True,
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
    fixed = [name for name in found.found if name.startswith("fixed")]
    if not fixed:
        return []

    def speed(name: str) -> float:
        return found.fewer(name).value

    near = min(fixed, key=lambda name: abs(speed(name) - speed(found.fastest)))
    return [
        Claim.tested(
            f"deciding a fixed number a pass ({near}) answers less",
            "fixed k > 1 loses accuracy (tables)",
            above(found.gained(found.fastest, near), "0 points"),
            measured=f"{found.fastest} beyond it",
        )
    ]


def _plus(found: Findings) -> list[Claim]:
    stated = []
    for name in [n for n in found.found if n.startswith("plus")]:
        base = found.reference(name)
        stated.append(
            Claim.tested(
                f"FreeDave++ needs fewer passes than the {base} it wraps, within {LOST} points",
                "LLaDA: 2.6-3.3 tokens a pass become 4.4-5.3, accuracy within noise",
                above(found.fewer(name), "1x"),
                above(found.gained(name, base), f"-{LOST} points"),
                measured=f"texts equal {found.same(name):.2f}; times fewer, and points",
            )
        )
    return stated


def _tokens(found: Findings) -> Claim:
    static, own = (found.found[name]["tokens"] for name in ("static", found.fastest))
    return Claim.tested(
        "the drafts are free: no more tokens are run than by static decoding",
        "free where the accelerator is not busy; batched drafts cost their width",
        below(times(own, static), "1x"),
        measured=f"{found.fastest}, times as many",
    )


def _seconds(found: Findings) -> list[Claim]:
    """Rounds are the units, in each of which both were timed."""
    if not found.seconds:
        return []
    names = (f"drafts {found.config.drafts[0]}", "drafts, dual")
    gains = [
        bootstrap(
            lambda slow, fast: float(np.median(slow / fast)),
            found.seconds[found.reference(name)],
            found.seconds[name],
            unit="x",
        )
        for name in names
    ]
    return [
        Claim.tested(
            "it is faster by the clock, too",
            "75.8 s against 107.2 s (an early version, slower); throughput 3.78x in v2",
            *(above(gain, "1x") for gain in gains),
            measured=", ".join(names),
        )
    ]
