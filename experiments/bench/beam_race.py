"""A race of beams: beam search of the engine beside that of its peer, on the same weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from algorithms.search.beam_search import BeamSearch
from algorithms.search.diverse_beam_search import DiverseBeamSearch
from experiments.bench import peers
from experiments.bench.race import Course, build, counted, generator, prompts
from experiments.harness.environment import usable_cpus
from experiments.harness.measuring import timing
from jaxdecode.sampling import Greedy


def beam_race(course: Course, name: str, batch: int, beams: int) -> dict[str, Any]:
    """One size and batch. As many groups as beams have no peer: its group search is gone."""
    load = timing.load()
    model = build(name, course.seed)
    tokens, prompt = prompts(course, model.vocab_size, batch)
    key = jax.random.key(course.seed)
    search = generator(course, model, Greedy())
    plain, grouped = BeamSearch(search, beams), DiverseBeamSearch(search, beams, beams)
    calls: dict[str, Callable[[], Any]] = {
        "beams": lambda: counted(plain, key, prompt),
        "groups": lambda: counted(grouped, key, prompt),
    }
    row: dict[str, Any] = {"kind": "beams", "model": name, "batch": batch, "beams": beams}
    with contextlib.ExitStack() as stack:
        if peers.missing() is None:
            peer = stack.enter_context(peers.peer_of(model, usable_cpus()))
            calls["peer"] = lambda: peer.greedy(tokens, course.new, beams=beams)
            ours = np.asarray(calls["beams"]().tokens)
            row["equal_rows"] = float((ours == calls["peer"]()).all(1).mean())
        taken = timing.interleaved(calls, course.repeats, course.patience)
    seconds = timing.medians(taken)
    row |= {"tokens/s": batch * course.new / seconds["beams"], "load": load}
    row["groups_tokens/s"] = batch * course.new / seconds["groups"]
    if "peer" in seconds:
        row["peer_tokens/s"] = batch * course.new / seconds["peer"]
        row["ratio"] = seconds["peer"] / seconds["beams"]
        row["groups_ratio"] = seconds["peer"] / seconds["groups"]
    return row
