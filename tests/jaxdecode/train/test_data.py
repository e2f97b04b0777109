"""Every row in its turn, and streams that go on where they stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import grain
import numpy as np
import pytest

from jaxdecode.train.data import Order, Positioned, Stream
from tests.jaxdecode.train.problem import batches, train, weights

ROWS = 120


class Rows:
    """A source of single rows, for grain, which compares sources by their names."""

    def __repr__(self) -> str:
        return "Rows()"

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        return {name: array[index % 8] for name, array in batches(index // 8).items()}


def shuffled() -> grain.MapDataset:
    return grain.MapDataset.source(Rows()).shuffle(5).repeat().batch(8, drop_remainder=True)


def stream() -> Stream:
    """With threads that read ahead of what was taken."""
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    return Stream(iter(shuffled().to_iter_dataset(options)))


def test_an_epoch_is_every_row_once_and_the_next_another_order() -> None:
    order = Order(10, 3, seed=4)
    first, second = (np.concatenate([order(e * 3 + i) for i in range(3)]) for e in (0, 1))
    assert len(set(first)) == len(set(second)) == 9 and list(first) != list(second)
    np.testing.assert_array_equal(order(7), Order(10, 3, seed=4)(7))
    assert list(Order(10, 3, seed=5)(0)) != list(order(0))
    with pytest.raises(ValueError, match="batch=11 rows of count=10"):
        Order(10, 11)


def test_a_dataset_of_grain_is_a_function_of_the_step() -> None:
    """Nothing is saved of it, and it equals its own stream."""
    dataset, again = shuffled(), stream()

    def batch(step: int) -> Mapping[str, Any]:
        found = dataset[step]
        assert found is not None
        return found

    assert not isinstance(batch, Positioned) and isinstance(again, Positioned)
    assert weights(train(None, batch, 20)) == weights(train(None, again, 20))


def test_a_stream_of_grain_resumes_within_an_epoch(tmp_path) -> None:
    whole = weights(train(None, stream(), 40))

    class Stopped(Exception):
        pass

    class Deadly(Stream):
        def __call__(self, step: int) -> Mapping[str, Any]:
            if step == 23:
                raise Stopped
            return super().__call__(step)

    with pytest.raises(Stopped):
        train(tmp_path, Deadly(stream().iterator), 40)
    assert weights(train(tmp_path, stream(), 40)) == whole
    # One that begins anew sees other rows.
    assert weights(train(tmp_path / "anew", batches, 20)) != weights(train(None, stream(), 20))


def test_a_loader_of_grain_keeps_its_place() -> None:
    def loader() -> Stream:
        sampler = grain.samplers.IndexSampler(ROWS, shuffle=True, seed=1, num_epochs=1)
        made = grain.DataLoader(data_source=Rows(), sampler=sampler, worker_count=0)
        return Stream(iter(made))

    one, other = loader(), loader()
    for step in range(5):
        one(step)
    other.restore(one.position())
    np.testing.assert_array_equal(other(5)["x"], one(5)["x"])


def test_data_that_end_say_so() -> None:
    short = Stream(iter(shuffled()[:3].to_iter_dataset()))
    with pytest.raises(ValueError, match="the data end before step 4; repeat them or ask for 3"):
        train(None, short, 5)


def test_positions_of_other_processes_are_refused(tmp_path) -> None:
    train(tmp_path, stream(), 5)
    stored = tmp_path / "5" / "data" / "metadata"
    positions = json.loads(stored.read_text())["positions"]
    stored.write_text(json.dumps({"positions": positions * 2}))
    with pytest.raises(ValueError, match="positions of 2 processes in their data and there are 1"):
        train(tmp_path, stream(), 10)
