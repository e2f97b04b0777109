"""What is measured in the experiment on AdaDec: entropies and ranks, and decoders in an exam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from algorithms.search.beam_search import BeamSearch
from algorithms.tokens import threshold
from algorithms.tokens.adadec import AdaDec
from algorithms.tokens.rules.triggers import Chance, Trigger, Uncertain
from algorithms.tokens.threshold import Threshold
from experiments.harness.statistics import correlation
from experiments.tokens.adadec import reading
from experiments.tokens.adadec.setting import Config, Subject
from jaxdecode.decoder import Decoder
from jaxdecode.stop import Stop

Row = dict[str, Any]
EDGES = (0.0, 0.05, 0.2, 0.4, 0.7, 1.0, 1.3, 1.6, 2.0, 3.0, np.inf)  # of the published table
NEAR = 0.25  # nats about a threshold
TOLD = 128  # solutions whose tokens a record keeps one by one


def read(subject: Subject) -> Row:
    """The solutions of its lessons; see `reading.read`."""
    pairs = [(example.prompt, example.target) for example in subject.lessons]
    h, rank, text = reading.read_by_text(subject.source, pairs)
    return {"entropy": h.round(5), "rank": rank, "text": text}


def learned(found: Row, seed: int) -> Threshold:
    """The threshold of what was read."""
    return threshold.learn(np.asarray(found["entropy"]), np.asarray(found["rank"]) == 1, seed)


def calibration(found: Row) -> list[tuple[float, float, int]]:
    """(mean entropy, share of first choices, tokens) between the edges of the published table."""
    h, first = np.asarray(found["entropy"]), np.asarray(found["rank"]) == 1
    place = np.digitize(h, EDGES[1:-1])
    sets = [place == index for index in range(len(EDGES) - 1)]
    return [(float(h[s].mean()), float(first[s].mean()), int(s.sum())) for s in sets if s.any()]


def about(found: Row, value: float) -> Row:
    """Of the tokens whose entropy is near a threshold: how many were first choices; and the rank
    correlation of rank and entropy over all."""
    h, rank = np.asarray(found["entropy"]), np.asarray(found["rank"])
    near = np.abs(h - value) < NEAR
    above = h >= value
    return {
        "near": int(near.sum()),
        "first": int((rank[near] == 1).sum()),
        "spearman": spearman(h, rank),
        "covered": float(np.mean(rank[above] <= 3)) if above.any() else float("nan"),
    }


def by_solution(found: Row, value: float) -> Row:
    """Solution by solution: tokens whose entropy is near a threshold, and how many of them were
    first choices; of the first `TOLD` solutions the entropies and ranks of all tokens."""
    h, rank, text = (np.asarray(found[name]) for name in ("entropy", "rank", "text"))
    near, count = np.abs(h - value) < NEAR, int(text.max()) + 1
    ends = np.searchsorted(text, np.arange(1, min(TOLD, count)))
    told = text < TOLD
    return {
        "near": np.bincount(text[near], minlength=count),
        "first": np.bincount(text[near & (rank == 1)], minlength=count),
        "entropy": [part.round(3) for part in np.split(h[told], ends)],
        "rank": np.split(rank[told], ends),
    }


def spearman(entropy: NDArray[np.float64], rank: NDArray[np.int64]) -> float:
    """The rank correlation of both."""
    return correlation(rankdata(rank), rankdata(entropy))


def sat(subject: Subject, decoder: Decoder) -> Row:
    """Right answers, and what they took: of each question tokens written, tokens that the model
    ran behind the prompt, passes one after the other, and pauses."""
    found = subject.exam.sit(decoder)
    usage, trace = found.result.usage, found.result.trace
    prompt = np.asarray(usage.prompt_tokens)
    paused = getattr(trace, "paused", None)
    return {
        "right": found.right,
        "length": found.result.length,
        "evaluated": usage.target_tokens - (prompt - 1),
        "passes": usage.target_passes - (prompt > 1),
        "pauses": np.zeros(len(prompt)) if paused is None else paused.sum(axis=1),
    }


def decoders(
    subject: Subject, config: Config, found: Threshold
) -> dict[str, Callable[[], Decoder]]:
    """Every decoder by name; the chance of the random trigger is told afterwards."""

    def looking(trigger: Trigger, ahead: int = config.ahead, line: Stop | None = None) -> AdaDec:
        line = Stop.of(()) if line is None else line
        return AdaDec(subject.generator, trigger, config.branch, ahead, line)

    learned = Uncertain(found.value)
    every: dict[str, Callable[[], Decoder]] = {
        "greedy": lambda: looking(Uncertain(float("inf"))),
        "AdaDec": lambda: looking(learned),
        "balanced threshold": lambda: looking(Uncertain(max(found.balanced, 0.0))),
        "always": lambda: looking(Uncertain(0.0)),
        "beam search": lambda: BeamSearch(subject.generator, config.branch),
    }
    if subject.line:
        every["AdaDec to the line's end"] = lambda: looking(learned, 10, subject.line_ends)
    for ahead in config.sweep:
        every[f"AdaDec, L={ahead}"] = lambda ahead=ahead: looking(learned, ahead)
    return every


def by_chance(subject: Subject, config: Config, like: Row) -> AdaDec:
    """A trigger that pauses as often as another did, wherever."""
    rate = float(np.sum(like["pauses"]) / np.sum(like["length"]))
    return AdaDec(subject.generator, Chance(rate), config.branch, config.ahead)


def per_token(row: Row, name: str) -> float:
    """A count of each token written."""
    return float(np.sum(row[name]) / np.sum(row["length"]))
