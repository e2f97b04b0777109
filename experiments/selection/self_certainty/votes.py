"""Every measure and every vote on one pool of responses, with their table and figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from matplotlib.axes import Axes

from experiments.harness.figures import figure
from experiments.harness.response_pool import ResponsePool
from experiments.harness.statistics import Floats, correlation, separation
from jaxdecode import voting

# What is shown of the measures: two of them order responses as another does.
NAMES = {
    "kl": "self-certainty",
    "neg_entropy": "entropy",
    "gini": "Gini",
    "neg_distributional_perplexity": "distributional perplexity",
    "neg_perplexity": "perplexity",
}
VARIANTS = {"shifted": "self-certainty, one position late", "empirical": "KL(token counts || p)"}


def borda(power: float) -> Partial:
    return Partial(voting.borda, power=jnp.float32(power))


def advised(size: int) -> float:
    """The power of the Borda vote that the paper advises for N."""
    return 0.3 if size <= 16 else 1.2


@dataclass(frozen=True)
class Plan:
    """What pools are judged on.

    Attributes:
      sizes: N, rising, up to the responses of a pool.
      powers: of the Borda vote.
      repetitions: subsets for each N.
    """

    sizes: Sequence[int]
    powers: Sequence[float]
    repetitions: int
    seed: int

    def judge(self, pool: ResponsePool, rule: Partial | list[Partial], score: str) -> list[Floats]:
        """Accuracy of a rule, or of one for each N, on each question, for each N."""
        rules = rule if isinstance(rule, list) else [rule] * len(self.sizes)
        pairs = zip(rules, self.subsets(pool), strict=True)
        return [pool.accuracy(one, pool.scores[score], subsets) for one, subsets in pairs]

    def subsets(self, pool: ResponsePool) -> list[np.ndarray]:
        return [pool.subsets(size, self.repetitions, self.seed) for size in self.sizes]


@dataclass(frozen=True)
class Findings:
    """What every method makes of a pool.

    Attributes:
      accuracy: method -> one f64[Q] for each N.
      chosen: for each N the power that was best on another pool.
    """

    plan: Plan
    pool: ResponsePool
    accuracy: dict[str, list[Floats]]
    chosen: list[float]

    @classmethod
    def of(cls, plan: Plan, validation: ResponsePool, test: ResponsePool) -> Findings:
        """Every method on `test`.

        "Borda" votes with the advised powers, "Borda, tuned" with those that were best on
        `validation`, the smallest of equals.
        """
        best_of = Partial(voting.best_of)
        methods: dict[str, tuple[Partial | list[Partial], str]] = {
            name: (best_of, key) for key, name in (NAMES | VARIANTS).items()
        }
        methods |= {
            "first answer": (Partial(voting.first_answer), "kl"),
            "majority": (Partial(voting.majority), "kl"),
            "sum": (Partial(voting.weighted_sum), "kl"),
            "average": (Partial(voting.average), "kl"),
            "normalised weighted sum": (Partial(voting.normalised_weighted_sum), "avg_logprob"),
        }
        methods |= {f"Borda, p={power:g}": (borda(power), "kl") for power in plan.powers}
        tuned = [[a.mean() for a in plan.judge(validation, borda(p), "kl")] for p in plan.powers]
        chosen = [plan.powers[at] for at in np.argmax(tuned, axis=0)]
        methods["Borda, tuned"] = [borda(power) for power in chosen], "kl"
        votes = [borda(advised(size)) for size in plan.sizes]
        methods["Borda"] = votes, "kl"
        methods |= {f"Borda by {name}": (votes, key) for key, name in NAMES.items() if key != "kl"}
        accuracy = {name: plan.judge(test, *method) for name, method in methods.items()}
        accuracy["oracle"] = [test.oracle(subsets) for subsets in plan.subsets(test)]
        accuracy["greedy"] = [test.greedy.astype(float)] * len(plan.sizes)
        return cls(plan, test, accuracy, chosen)

    def at(self, method: str, place: int = -1) -> Floats:
        """Accuracy on each question with the N at `place`."""
        return self.accuracy[method][place]

    def curve(self, method: str) -> list[float]:
        """Accuracy in percent for each N."""
        return [100 * float(values.mean()) for values in self.accuracy[method]]

    def table(self) -> list[dict[str, Any]]:
        """One row a method: accuracy in percent, and for measures what they go along with."""
        pool, keys = self.pool, {name: key for key, name in (NAMES | VARIANTS).items()}
        rows = []
        for method in self.accuracy:
            row: dict[str, Any] = {"method": method}
            sizes = [f"N={n}" for n in self.plan.sizes]
            row |= dict(zip(sizes, self.curve(method), strict=True))
            if method in keys:
                score = pool.scores[keys[method]]
                row |= {
                    "correlation with length": correlation(score, pool.length),
                    "within a question": correlation(centred(score), centred(pool.length)),
                    "AUC of right answers": separation(score, pool.right),
                }
            if method == "Borda, tuned":
                row["power by N"] = ", ".join(f"{power:g}" for power in self.chosen)
            rows.append(row)
        return rows


def centred(values: np.ndarray) -> np.ndarray:
    """Without each question's mean."""
    return values - np.nanmean(values, axis=1, keepdims=True)


def by_level(pool: ResponsePool) -> tuple[list[int], list[float]]:
    """Difficulties, and the mean self-certainty of the responses at each."""
    levels = np.unique(pool.level).tolist()
    score = pool.scores["kl"]
    return levels, [float(np.nanmean(score[pool.level == level])) for level in levels]


def draw(path: Path, found: Findings) -> None:
    """Accuracy against N, the sweep over powers, and what self-certainty goes along with."""
    with figure(path, columns=3, rows=2, height=3.6) as (
        single,
        votes,
        sweep,
        scatter,
        bars,
        levels,
    ):
        methods = ("first answer", "majority", "sum", "average", "self-certainty", "Borda")
        for axes, shown, flat in (
            (single, tuple(NAMES.values()), "greedy"),
            (votes, methods, "oracle"),
        ):
            for method in shown:
                best = "best by " if method in NAMES.values() else ""
                axes.plot(found.plan.sizes, found.curve(method), label=best + method)
            axes.plot(found.plan.sizes, found.curve(flat), "k--", marker="", label=flat)
            axes.set_xscale("log", base=2)
            axes.set_xticks(found.plan.sizes, [str(n) for n in found.plan.sizes])
            axes.set(xlabel="N", ylabel="accuracy, %")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=7)
        _sweep(sweep, found)
        _scatter(scatter, found.pool)
        _histogram(bars, found.pool)
        at, means = by_level(found.pool)
        levels.plot(at, means)
        levels.set_xticks(at)
        levels.set(xlabel="difficulty", ylabel="mean self-certainty")


def _sweep(axes: Axes, found: Findings) -> None:
    """Accuracy over that of the majority, by power and N."""
    plan = found.plan
    curves = np.array([found.curve(f"Borda, p={power:g}") for power in plan.powers])
    gain = curves - np.array(found.curve("majority"))
    bound = max(0.1, float(np.abs(gain).max()))
    shown = axes.imshow(gain, aspect="auto", origin="lower", cmap="PuOr", vmin=-bound, vmax=bound)
    axes.figure.colorbar(shown, ax=axes, label="points over the majority")
    axes.grid(False)
    axes.set(xlabel="N", ylabel="power of the Borda vote")
    axes.set_xticks(range(len(plan.sizes)), [str(n) for n in plan.sizes])
    axes.set_yticks(range(len(plan.powers)), [f"{power:g}" for power in plan.powers])


def _scatter(axes: Axes, pool: ResponsePool) -> None:
    """Self-certainty against length."""
    score, rng = pool.scores["kl"], np.random.default_rng(0)
    for label, mask in (("right", pool.right), ("wrong", ~pool.right)):
        some = np.flatnonzero(mask & np.isfinite(score))
        some = rng.permutation(some)[:1200]
        jitter = rng.uniform(-0.4, 0.4, len(some))
        at = pool.length.ravel()[some] + jitter
        axes.plot(at, score.ravel()[some], ".", markersize=2, alpha=0.6, label=label)
    axes.legend(markerscale=5)
    axes.set(xlabel="tokens of a response", ylabel="self-certainty")


def _histogram(axes: Axes, pool: ResponsePool) -> None:
    """Self-certainty of right, wrong and missing answers."""
    score, none = pool.scores["kl"], pool.answers < 0
    edges = np.histogram_bin_edges(score[np.isfinite(score)], 40).tolist()
    share = 100 / np.isfinite(score).sum()
    kinds = (("right", pool.right), ("wrong", ~pool.right & ~none), ("no answer", none))
    for label, mask in kinds:
        values = score[mask & np.isfinite(score)]
        if len(values):
            weights = np.full(len(values), share)
            axes.hist(values, edges, weights=weights, histtype="step", lw=1.6, label=label)
    axes.set(xlabel="self-certainty", ylabel="% of the responses")
