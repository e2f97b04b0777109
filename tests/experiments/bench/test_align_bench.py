"""Both trainers get the same work, and what is told of a step adds up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from experiments.bench import align_bench, trl_peer
from experiments.inputs import sources
from tests.experiments import folders
from tests.experiments.harness.records import same_again


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> align_bench.Config:
    folder = folders.build(tmp_path_factory.mktemp("models"))["generator"]
    return dataclasses.replace(align_bench.PRESETS["smoke"], model=str(folder))


def test_texts_have_the_tokens_asked_for(config) -> None:
    source = sources.open_model(config.model)
    texts, tokens = align_bench.excerpts(source, 8, 6)
    assert len(texts) == len(set(texts)) == 6
    assert [source.codec.prompt(text) for text in texts] == tokens
    assert {len(ids) for ids in tokens} == {8}
    with pytest.raises(ValueError, match=r"prompt=90000: only 0 of 2 texts have as many tokens"):
        align_bench.excerpts(source, 90_000, 2)


def test_shares_add_up(config, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(trl_peer, "missing", lambda: "trl not installed")
    config = dataclasses.replace(config, out=tmp_path)
    report = align_bench.run(config)
    (row,) = report.rows
    same_again(report, align_bench, config)
    assert report.claims == [] and row["trainer"] == "jaxdecode" and row["steps"] == 2
    assert "no peer to race: trl not installed" in capsys.readouterr().out
    assert min(row["steps/s"], row["rollout tokens/s"], row["train tokens/s"]) > 0


def test_rates_are_those_of_the_seconds() -> None:
    config = align_bench.Config(prompts=2, group=3, prompt=10, new=20)
    row = align_bench.described("x", 4.0, 1.0, config)
    assert row["steps/s"] == 0.25 and row["rollout tokens/s"] == 120
    assert row["train tokens/s"] == 60 and row["rollout share"] + row["train share"] == 1


@pytest.mark.parametrize(
    ("slower", "verdict"),
    [
        ((3.3, 3.4, 3.2, 3.5), "holds"),
        ((1.2, 1.3, 1.4, 1.3), "fails"),
        ((2.5, 3.4, 3.1, 3.3), "not resolved"),
        ((3.3, 3.4), "not measurable here"),
    ],
)
def test_the_goal_is_judged_over_rounds(slower: tuple[float, ...], verdict: str) -> None:
    """Of two settings of the peer the faster counts, whatever the other takes."""
    ours = np.array([[1.0, 1.1, 1.0], [1.2, 1.1, 1.2], [1.0, 1.0, 1.1], [1.1, 1.0, 1.0]])
    ours = ours[: len(slower)]
    peers = {"TRL, 1 threads": 9.0 * ours, "TRL, 2 threads": ours * np.array(slower)[:, None]}
    trainers = {
        name: {"steps": steps.tolist(), "rollouts": (steps / 2).tolist()}
        for name, steps in ({"jaxdecode": ours} | peers).items()
    }
    evidence = {"load": 0.2, "trainers": trainers}
    (claim,) = align_bench.claims(align_bench.Config(), evidence)
    assert claim.verdict == verdict and "rollout 50% of our step" in claim.measured


@pytest.mark.parity
def test_the_peer_takes_steps(config) -> None:
    ours = align_bench.Ours(config)
    peer = trl_peer.Peer(
        sources.folder_of(config.model), ours.texts, 2, 2, 4, ours.liked, config.beta, config.rate
    )
    steps, rollouts = peer.steps(2, 1)
    assert len(steps) == len(rollouts) == 2
    assert all(0 < part < whole for part, whole in zip(rollouts, steps, strict=True))
