"""A folder belongs to the run that began in it, and to whoever says it may differ."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxdecode.train.data import Stream
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.identity import IDENTITY
from tests.jaxdecode.train.problem import Line, batches, loss


def scaled(factor: float):
    def other(model, x, y):
        value, metrics = loss(model, x, y)
        return factor * value, metrics

    return other


def swapped(step: int) -> dict[str, np.ndarray]:
    """The same inputs under other labels, from the third batch on."""
    data = batches(step)
    return data if step < 2 else data | {"y": data["y"][::-1]}


ADAM = optax.adam(0.1)


def run(folder: Path, steps: int = 2, seed: int = 0, accept: tuple[str, ...] = (), **changes):
    parts = {"loss": scaled(1.0), "batches": batches, "optimizer": ADAM} | changes
    where = Checkpoints(folder, accept=accept)
    return fit(Line(nnx.Rngs(seed)), steps=steps, checkpoints=where, **parts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    run(folder, steps=4)
    return folder


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"loss": scaled(2.0)}, "differs in loss;"),
        ({"optimizer": optax.adam(0.2)}, "differs in optimizer;"),
        ({"optimizer": optax.sgd(0.1)}, "differs in optimizer;"),
        ({"batches": swapped}, r"differs in data\[2\]: y, data\[3\]: y;"),
        ({"seed": 1}, "differs in weights;"),
        ({"updates": 2}, "differs in updates;"),
        ({"compute": "bfloat16"}, "differs in compute;"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_run_is_refused_by_what_differs(folder: Path, changes: dict, named: str) -> None:
    before = (folder / IDENTITY).read_bytes()
    with pytest.raises(ValueError, match=f"holds another run: it {named} name another folder"):
        run(folder, steps=4, **changes)
    assert (folder / IDENTITY).read_bytes() == before


def test_the_same_run_goes_on_and_may_be_longer(tmp_path: Path) -> None:
    """With fewer batches to be known by at first than later."""
    run(tmp_path, steps=2)
    longer = run(tmp_path, steps=5)
    np.testing.assert_array_equal(longer.weight[...], run(tmp_path, steps=5).weight[...])
    names = json.loads((tmp_path / IDENTITY).read_text())
    assert "data[3]: x" in names and "code: jax" in names


def test_what_may_differ_is_said(folder: Path) -> None:
    kept = json.loads((folder / IDENTITY).read_text())
    (folder / IDENTITY).write_text(json.dumps(kept | {"code: jax": "0.1"}))
    with pytest.raises(ValueError, match=r'code: jax \(0.1 there, .* here\).*accept=\("code",\)'):
        run(folder, steps=4)
    run(folder, steps=4, accept=("code",))
    run(folder, steps=4)  # from now on


def test_a_folder_of_unknown_making_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / IDENTITY).unlink()
    with pytest.raises(ValueError, match=r'no identity.json.*accept=\("identity",\)'):
        run(tmp_path)
    run(tmp_path, accept=("identity",))
    (tmp_path / IDENTITY).write_text("{")
    with pytest.raises(ValueError, match=r"identity.json is damaged"):
        run(tmp_path)


def test_a_stream_is_not_read_to_be_known(tmp_path: Path) -> None:
    class Counted:
        def __init__(self):
            self.at = 0

        def __next__(self):
            self.at += 1
            return {k: jnp.asarray(v) for k, v in batches(self.at).items()}

        def get_state(self):
            return self.at

        def set_state(self, state):
            self.at = state

    source = Counted()
    run(tmp_path, batches=Stream(source))
    assert source.at == 2
