"""Training split over all devices: the weights of one device, at a share of its memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jax.sharding import AbstractMesh

from experiments.commands.plan.share import Share, Split
from jaxdecode.sharding import FSDP, named_shardings
from models.transformer import abstract
from tests.jaxdecode.test_sharding import finish, start
from tests.jaxdecode.train.split_worker import EVEN, ODD

DATA = 4


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("split")
    finish(start(folder, worker="train.split_worker"))
    return json.loads((folder / "split.json").read_text())


@pytest.mark.slow
def test_training_split_over_all_devices_is_training(found) -> None:
    """Supervised, by preferences with adapters, and by a policy gradient under a reward model."""
    assert found.keys() == {"supervised", "preferred", "drawn"}
    for name, runs in found.items():
        one, split = runs["one device"]["weights"], runs["split"]["weights"]
        assert one.keys() == split.keys()
        for path, weight in one.items():
            np.testing.assert_allclose(split[path], weight, atol=1e-5, err_msg=f"{name}: {path}")
        moved = np.subtract(one["layers/q"], runs["before"]["layers/q"])
        assert np.abs(moved).max() > 1e-3, "something is to be learnt"


@pytest.mark.slow
def test_a_step_holds_its_share_and_nothing_twice(found) -> None:
    """By what the compiler says of the programs that ran."""
    for runs in found.values():
        for name in ("one device", "split"):
            took = runs[name]
            assert took["aliased"] == took["replaced"], "what a step replaces gives its memory"
    split, alone = found["supervised"]["split"], found["supervised"]["model alone"]
    assert alone["arguments"] / split["arguments"] == pytest.approx(DATA, rel=0.1)
    assert split["temporary"] < alone["temporary"]
    planned = Share(EVEN, Split(DATA, 2), "cpu")
    for took, numbers in ((split, planned.spread), (alone, planned.numbers)):
        assert took["replaced"] == 4 * (3 * numbers + 1), "a weight, two moments; one count"
    adapted = found["preferred"]
    assert adapted["one device"]["frozen"] > 2 * adapted["split"]["frozen"], "the base is split too"


def test_what_data_does_not_divide_is_split_otherwise_or_whole() -> None:
    def specs(config: Any) -> dict[str, tuple[Any, ...]]:
        mesh = AbstractMesh((DATA, 2), ("data", "model"))
        where = named_shardings(abstract(config), mesh, FSDP)
        return {path: tuple(sharding.spec) for path, sharding in where.items()}

    even, odd = specs(EVEN), specs(ODD)
    assert even["layers/q"] == (None, "data", "model")
    assert even["layers/down"] == (None, "model", "data")
    assert even["embedding"] == ("model", "data")
    assert even["layers/attention_norm"] == (None, None)
    assert odd["layers/q"] == (None, None, ("model", "data")), "18 features, 4 heads of 8"
    assert odd["layers/k"] == (None, None, "data"), "one head is not divided to be used, but to lie"
    assert odd["project_in"] == (None, None), "32 x 18"
    assert odd["layers/down"] == (None, None, None), "25 x 18"
