"""The bench of canvases at its smallest, its peer, and what it claims."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments.bench import torch_denoiser, unmask_bench
from experiments.bench.torch_denoiser import TorchDenoiser
from experiments.bench.unmask_bench import PRESETS, Config, claims, decoder, questions, run
from experiments.inputs import sources
from jaxdecode.decoder import decode
from jaxdecode.prompt import Prompt
from tests.experiments.harness.records import same_again

SMOKE = PRESETS["smoke"]


def test_smoke(tmp_path, monkeypatch) -> None:
    """Without the peer, which is not always there."""
    monkeypatch.setattr(torch_denoiser, "missing", lambda: "left out")
    config = replace(SMOKE, out=tmp_path)
    report = run(config)
    (row,) = report.rows
    (kept,) = same_again(report, unmask_bench, config).evidence
    assert row["retraces"] == 0 and row["outside"] < 1 and "torch" not in kept["seconds"]
    assert all(len(times) == SMOKE.repeats for times in kept["seconds"].values())
    assert row["places/s"] > 0 and row["passes_places/s"] > 0
    assert [c.holds for c in report.claims] == [row["outside"] < 0.1, True]
    assert (tmp_path / "figure.png").stat().st_size > 5_000


def test_the_torch_loop_fills_what_ours_does() -> None:
    """Token by token, on two rows; with a planted mistake it does not."""
    pytest.importorskip("torch")
    source = sources.open_denoiser("denoiser")
    prompts = questions(SMOKE, source, 2, 0)
    peer = TorchDenoiser(sources.folder_of("denoiser"))
    ours = np.asarray(decode(decoder(SMOKE, source.model), 0, Prompt.of(prompts)).tokens)
    np.testing.assert_array_equal(peer.fill(np.array(prompts), SMOKE.places, SMOKE.block), ours)
    peer.config["rope_theta"] = 10.0
    assert (peer.fill(np.array(prompts), SMOKE.places, SMOKE.block) != ours).any()


ROUNDS = np.array([1.0, 1.3, 0.9, 1.0, 1.1])  # of which some are slow for all


def row(batch: int, torch: float = 0.0, part: float = 0.95, **more: Any) -> dict[str, Any]:
    seconds = {"ours": ROUNDS, "passes": part * ROUNDS} | (
        {"torch": torch * ROUNDS} if torch else {}
    )
    found = {"batch": batch, "load": 0.1, "rounds": 5, "retraces": 0, "equal_rows": 1.0}
    return found | {"seconds": {name: times.tolist() for name, times in seconds.items()}} | more


@pytest.mark.parametrize(
    ("rows", "verdicts"),
    [
        ([row(1, 3.2), row(8, 1.1)], "holds holds holds holds holds"),
        ([row(1, 2.9), row(8, 0.9)], "fails holds fails holds holds"),
        ([row(1, 3.2, equal_rows=0.5)], "fails holds holds"),
        ([row(1, part=0.8), row(8, retraces=1)], "fails holds fails"),
    ],
)
def test_claims_follow_their_rules(rows: list, verdicts: str) -> None:
    assert [claim.verdict for claim in claims(Config(), rows)] == verdicts.split()


def test_rounds_that_disagree_resolve_nothing() -> None:
    torn = row(1, 3.2)
    torn["seconds"]["torch"] = [2.0, 3.5, 3.2, 3.1, 2.5]
    assert claims(Config(), [torn])[0].verdict == "not resolved"
    torn["seconds"] = {name: times[:2] for name, times in torn["seconds"].items()}
    assert claims(Config(), [torn])[0].verdict == "not measurable here"
