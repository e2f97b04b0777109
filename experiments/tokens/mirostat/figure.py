"""The figure of the experiment on Mirostat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from algorithms.tokens import zipf
from experiments.harness.figures import figure
from experiments.tokens.mirostat.findings import SENTENCE, Findings
from experiments.tokens.mirostat.repetition import curves


def draw(path: Path, found: Findings, vocab: int, s: float) -> None:
    """Surprise against k, p and target; against length; repetition against surprise; spread.

    Args:
      vocab, s: how many tokens the model's laws have, and their Zipf exponent.
    """
    with figure(path, columns=3, rows=2) as (by_k, by_p, by_target, length, repeats, spread):
        _curve(by_k, found, "top-k", "k")
        ranks = np.unique(np.geomspace(1, max(found.config.ks), 40).astype(int))
        theory = [zipf.top_k_cross_entropy(int(k), vocab, s) for k in ranks]
        by_k.plot(ranks, theory, "--", marker="", color="C6", label=f"Zipf law, s = {s:.2f}")
        by_k.set_ylim(0, 1.45 * max(*theory, *bits_of(found, "top-k")))
        by_k.set_xscale("log", base=2)
        _curve(by_p, found, "top-p", "p")
        shares = np.linspace(0.05, 1, 40)
        theory = [zipf.top_p_cross_entropy(float(p), vocab, s) for p in shares]
        by_p.plot(shares, theory, "--", marker="", color="C6", label=f"Zipf law, s = {s:.2f}")
        by_p.set_ylim(0, 1.45 * max(*theory, *bits_of(found, "top-p")))
        _targets(by_target, found)
        _length(length, found)
        _repeats(repeats, found)
        _spread(spread, found)


def bits_of(found: Findings, family: str) -> list[float]:
    """The mean surprise at every setting."""
    return [found.mean(family, x) for x in found.rows[family]]


def _curve(axes: Axes, found: Findings, family: str, name: str) -> None:
    settings = list(found.rows[family])
    means = np.array(bits_of(found, family))
    spreads = [np.std(found.values(family, x)) for x in settings]
    axes.errorbar(settings, means, spreads, capsize=2, label=f"{family}, ± std over texts")
    axes.set(xlabel=name, ylabel="bits a token")


def _targets(axes: Axes, found: Findings) -> None:
    targets = np.array(found.config.targets)
    axes.plot(targets, targets, "-", marker="", color="#999999", linewidth=1)
    for index, family in enumerate(("mirostat", "mirostat 1", "slow", "llama.cpp")):
        means = [found.mean(family, t) for t in targets]
        label = {"mirostat": "version 2", "mirostat 1": "version 1"}.get(family, family)
        label = f"rate {found.config.slow:g}" if family == "slow" else label
        axes.plot(targets, means, color=f"C{index}", label=label)
    for level, name in ((found.floor, "greedy"), (found.ceiling, "sampling")):
        axes.axhline(level, color="#555555", linestyle=":", linewidth=1.2)
        axes.text(targets[-1], level, name, ha="right", va="bottom", fontsize=8)
    axes.set(xlabel="target, bits a token", ylabel="bits a token", ylim=(0, None))


def _length(axes: Axes, found: Findings) -> None:
    parts = (np.arange(8) + 0.5) * found.config.tokens / 8
    config = found.config
    shown = [("top-p", config.ps[0]), ("top-p", config.ps[-1])]
    shown += [("top-k", found.outer("top-k")[0])]
    shown += [("mirostat", t) for t in found.within[:: max(1, len(found.within) // 2)]]
    for family, setting in shown:
        rows = np.asarray(found.rows[family][setting]["eighths"], np.float64)
        error = 1.96 * rows.std(axis=0) / np.sqrt(len(rows))
        axes.errorbar(parts, rows.mean(axis=0), error, capsize=2, label=f"{family} {setting:g}")
    top = axes.get_ylim()[1]
    axes.set(xlabel="token", ylabel="bits a token, 95 % intervals", ylim=(0, 1.45 * top))
    axes.legend(fontsize=7, ncols=2, loc="upper left")


def _repeats(axes: Axes, found: Findings) -> None:
    for family, (bits, share) in curves(found).items():
        axes.plot(bits, share, label=family)
    axes.set(xlabel="bits a token", ylabel=f"{SENTENCE}-grams repeated, %", ylim=(0, None))


def _spread(axes: Axes, found: Findings) -> None:
    for family in ("top-k", "top-p", "mirostat", "mirostat 1", "slow"):
        points = sorted(
            (found.mean(family, x), float(np.std(found.values(family, x))))
            for x in found.rows[family]
        )
        label = f"mirostat, rate {found.config.slow:g}" if family == "slow" else family
        axes.plot(*np.array(points).T, label=label)
    axes.set(xlabel="bits a token", ylabel="std over texts, bits", ylim=(0, None))
    top = axes.get_ylim()[1]
    axes.set_ylim(0, 1.3 * top)
    axes.legend(fontsize=7, ncols=2, loc="upper left")
