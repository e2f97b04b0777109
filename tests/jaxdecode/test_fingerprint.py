"""What counts as the same value: its meaning, not its name, place or address."""

from __future__ import annotations

import functools
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxdecode.fingerprint import BIG, fingerprint, versioned
from jaxdecode.scoring import FunctionScorer

ROOT = Path(__file__).parents[2]


def module(source: str) -> Any:
    """A module of one's own, as if it was edited between two runs."""
    made = types.ModuleType("rewards_under_test")
    exec(source, vars(made))
    return made


def reward(source: str) -> Any:
    return module(source).reward


PLAIN = """
WEIGHT = 2.0
def helper(x):
    return x * WEIGHT
def reward(prompt, prompt_length, tokens, length):
    "What it is for."
    return helper(length)
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("", "", True),
        ("What it is for", "Another word for it", True),
        ("WEIGHT = 2.0", "\n\n# a comment\nWEIGHT = 2.0", True),
        ("helper(length)", "helper(-length)", False),
        ("x * WEIGHT", "x + WEIGHT", False),
        ("WEIGHT = 2.0", "WEIGHT = 3.0", False),
        ("tokens, length", "tokens, length, extra=1", False),
    ],
)
def test_a_function_is_its_code_and_what_it_refers_to(old: str, new: str, same: bool) -> None:
    edited = PLAIN.replace(old, new) if old else PLAIN
    assert (fingerprint(reward(PLAIN)) == fingerprint(reward(edited))) is same
    # Within whatever holds it, as a static field of a pytree too.
    holders: list[Callable[[Any], Any]] = [FunctionScorer, jax.jit, functools.partial]
    for hold in holders:
        found = [fingerprint(hold(reward(source))) for source in (PLAIN, edited)]
        assert (found[0] == found[1]) is same


def signed(sign: float, table: np.ndarray | None = None) -> Callable:
    return lambda x, scale=1.0: sign * scale * x if table is None else table[x]


def test_closures_defaults_and_methods_count() -> None:
    one = fingerprint(signed(1.0))
    assert fingerprint(signed(1.0)) == one != fingerprint(signed(-1.0))
    tables = [np.arange(4.0), np.arange(4.0), np.arange(4.0) + 1]
    marks = [fingerprint(signed(1.0, table)) for table in tables]
    assert marks[0] == marks[1] != marks[2]
    body = "class Judge:\n    def __call__(self, x):\n        return {}\nreward = Judge()"
    judges = [fingerprint(reward(body.format(said))) for said in ("x", "x", "-x")]
    assert judges[0] == judges[1] != judges[2]


def test_numbers_of_an_optimiser_count() -> None:
    def make(rate: float, clip: float = 1.0) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(rate, 100)
        return optax.chain(optax.clip_by_global_norm(clip), optax.adamw(schedule))

    one = fingerprint(make(1e-3))
    assert one == fingerprint(make(1e-3))
    assert len({one, fingerprint(make(2e-3)), fingerprint(make(1e-3, 2.0))}) == 3


@dataclass(frozen=True)
class Point:
    x: float
    shift: Callable[[float], float]

    @functools.cached_property
    def moved(self) -> float:
        return self.shift(self.x)


def test_what_was_kept_for_later_and_cycles_do_not_matter() -> None:
    fresh, used = (Point(1.0, signed(1.0)) for _ in range(2))
    assert used.moved == 1.0
    assert fingerprint(fresh) == fingerprint(used) != fingerprint(Point(2.0, signed(1.0)))
    loops: list[Any] = []
    for _ in range(2):
        loop: list[Any] = [1]
        loop.append(loop)
        loops.append(loop)
    assert fingerprint(loops[0]) == fingerprint(loops[1])
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    shared = [1, 2]
    assert fingerprint([shared, shared]) == fingerprint([[1, 2], [1, 2]])


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int32", "bool", "uint8"])
def test_arrays_are_their_contents_small_and_large(kind: str) -> None:
    size = BIG // 2 if kind != "bool" and kind != "uint8" else BIG + 5
    for count in (5, size):
        values = jnp.arange(count) % 113
        array = (values % 2 == 1) if kind == "bool" else values.astype(kind)
        found = fingerprint(array)
        assert found == fingerprint(array + jnp.zeros((), array.dtype) if kind != "bool" else array)
        swapped = array.at[jnp.asarray([1, 4])].set(array[jnp.asarray([4, 60 % count])])
        assert found != fingerprint(swapped)
        assert found != fingerprint(array.reshape(1, -1))
    assert fingerprint(jax.random.key(0)) != fingerprint(jax.random.key(1))


def test_a_model_is_its_weights_and_settings() -> None:
    def make(seed: int, rate: float = 0.1) -> nnx.Module:
        return nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(seed)), nnx.Dropout(rate))

    one = fingerprint(make(0))
    assert one == fingerprint(make(0))
    assert len({one, fingerprint(make(1)), fingerprint(make(0, 0.2))}) == 3


def test_a_version_by_hand_stands_for_the_rest() -> None:
    one = versioned("1")(signed(1.0))
    assert fingerprint(one) == fingerprint(versioned("1")(signed(-1.0)))
    assert fingerprint(one) != fingerprint(versioned("2")(signed(1.0)))


def test_a_traced_value_has_none() -> None:
    with pytest.raises(ValueError, match="traced value has no contents"):
        jax.jit(fingerprint)(jnp.ones(3))


def test_it_is_the_same_in_another_process_and_as_a_script() -> None:
    """Neither addresses, nor the order of sets, nor a module's name is part of it."""
    program = (
        "from tests.jaxdecode.test_fingerprint import *\n"
        "import jaxdecode.train.policy_gradient as p\n"
        "values = [signed(2.0), {'b', 'a', 'c'}, optax.adam(1e-3), p.Reinforce().rollout, Point]\n"
        "print(*map(fingerprint, values))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    }
    assert len(found) == 1
