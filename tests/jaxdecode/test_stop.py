"""What ends a row, against the definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.stop import Stop

WIDTH = 6
RUN = jax.jit(lambda stop, tokens, length: stop(tokens, length))


def ends(stop: Stop, output: list[int]) -> bool:
    """Whether a row ends with the newest of these tokens; what lies past them is no token."""
    padded = jnp.asarray([output + [0] * (WIDTH - len(output))], jnp.int32)
    return bool(RUN(stop, padded, jnp.asarray([len(output)]))[0])


@pytest.mark.parametrize("eos", [2, np.int64(2), [2], (2,), np.array([2])])
def test_an_end_token_in_any_form(eos) -> None:
    stop = Stop.of(eos)
    assert ends(stop, [1, 2]) and ends(stop, [2])
    assert not ends(stop, [2, 1]) and not ends(stop, [])


def test_several_end_tokens() -> None:
    stop = Stop.of([0, 3])
    assert [token for token in range(5) if ends(stop, [1, token])] == [0, 3]


def test_nothing_ends_without_a_rule() -> None:
    assert not ends(Stop.of(), [0, 0])


def test_a_stop_sequence_ends_where_it_is_complete() -> None:
    stop = Stop.of((), [[4, 5, 6]])
    row = [4, 5, 4, 5, 6, 1]
    assert [n for n in range(WIDTH + 1) if ends(stop, row[:n])] == [5]


def test_a_sequence_longer_than_the_output_does_not_match() -> None:
    """Not even by what pads the row or the sequences, nor by wrapping around."""
    stop = Stop.of((), [[5, 6, 0, 0, 0, 0, 0, 0], [0, 0, 7]])
    assert not ends(stop, [5, 6])
    assert not ends(stop, [7])
    assert not ends(stop, [0, 7])
    assert ends(stop, [0, 0, 7])


def test_any_rule_against_its_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(6):
        eos = rng.integers(0, 5, rng.integers(0, 3)).tolist()
        sequences = [rng.integers(0, 4, rng.integers(1, 4)).tolist() for _ in range(3)]
        sequences = sequences[: rng.integers(0, 4)]
        stop = Stop.of(eos, sequences)
        tokens = rng.integers(0, 4, (200, WIDTH))
        length = rng.integers(0, WIDTH + 1, 200)
        found = stop(jnp.asarray(tokens, jnp.int32), jnp.asarray(length))
        for row in range(200):
            output = tokens[row, : length[row]].tolist()
            spelled = any(output[-len(s) :] == s for s in sequences)
            expected = bool(output) and (output[-1] in eos or spelled)
            assert found[row] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), [[1], []]), r"sequences\[1\] is empty and would stop every row at once; leave"),
        ((-1,), r"eos=\[-1\] or sequences=\(\) has a negative id; leave unset ids out"),
        ((0, [[1, -2]]), r"sequences=\[\[1, -2\]\] has a negative id"),
    ],
)
def test_rules_that_make_no_sense_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Stop.of(*arguments)
