"""That annotations of arrays are checked here at all: a wrong kind, shape, letter and field."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from jaxdecode.logits.masking import keep
from jaxdecode.ngram.trie import Tree
from jaxdecode.prompt import bucket
from tests.annotations import fields_of_any_kind

KEPT: Any = np.ones((2, 3), bool)
LOGITS: Any = np.zeros((2, 3), np.float32)
PLACES: Any = np.zeros((2, 4), np.int32)


@pytest.mark.parametrize(
    ("kept", "logits"),
    [
        (KEPT.astype(np.int32), LOGITS),
        (KEPT, LOGITS[0]),
        (KEPT[:, :2], LOGITS),  # V stands for one length
    ],
)
def test_arguments_are_what_they_say(kept: Any, logits: Any) -> None:
    keep(KEPT, LOGITS)
    with pytest.raises(TypeError, match=r"jaxdecode\.logits\.masking\.keep"):
        keep(kept, logits)


def test_fields_are_what_they_say_where_a_tree_is_built_and_anything_where_it_is_rebuilt() -> None:
    fields = {name: PLACES for name in ("tokens", "parent", "depth")}
    fields |= {"weight": PLACES.astype(np.float32), "valid": PLACES > 0}
    tree = Tree(**fields)
    assert jax.tree.map(lambda _: None, tree).tokens is None
    for name in fields:
        with pytest.raises(TypeError, match=f"parameter '{name}'"):
            Tree(**fields | {name: PLACES.astype(np.complex64)})
    with fields_of_any_kind():
        Tree(**fields | {"depth": PLACES[:1]})


def test_what_is_no_array_is_left_to_the_function() -> None:
    three: Any = np.int64(3)
    assert bucket(three) == bucket(3)
