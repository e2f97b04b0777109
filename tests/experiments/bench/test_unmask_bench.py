"""The bench of canvases at its smallest, its peer, and what it claims."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments.bench import torch_denoiser
from experiments.bench.torch_denoiser import TorchDenoiser
from experiments.bench.unmask_bench import PRESETS, Config, claims, decoder, questions, run
from experiments.inputs import sources
from jaxdecode.decoder import decode
from jaxdecode.prompt import Prompt

SMOKE = PRESETS["smoke"]


def test_smoke(tmp_path, monkeypatch) -> None:
    """Without the peer, which is not always there."""
    monkeypatch.setattr(torch_denoiser, "missing", lambda: "left out")
    report = run(replace(SMOKE, out=tmp_path))
    (row,) = report.rows
    assert row["retraces"] == 0 and row["outside"] < 1 and "ratio" not in row
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


def row(batch: int, **more: Any) -> dict[str, Any]:
    return {"batch": batch, "load": 0.1, "outside": 0.05, "retraces": 0} | more


@pytest.mark.parametrize(
    ("rows", "verdicts"),
    [
        ([row(1, ratio=3.2, equal_rows=1.0), row(8, ratio=1.1, equal_rows=1.0)], [1, 1, 1, 1, 1]),
        ([row(1, ratio=2.9, equal_rows=1.0), row(8, ratio=0.9, equal_rows=1.0)], [0, 1, 0, 1, 1]),
        ([row(1, ratio=3.2, equal_rows=0.5)], [0, 1, 1]),
        ([row(1, outside=0.2), row(8, retraces=1)], [0, 1, 0]),
    ],
)
def test_claims_follow_their_rules(rows: list, verdicts: list[int]) -> None:
    assert [claim.holds for claim in claims(Config(), rows)] == list(map(bool, verdicts))
