"""What is refused before processes join; that they then are as one, `test_sharding.py` tests."""

import jax
import pytest

from jaxdecode.distributed import COORDINATOR, COUNT, INDEX, initialize, primary, together


def test_one_process_is_alone_and_writes() -> None:
    initialize(environment={})
    assert jax.process_count() == 1 and primary()


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("here:1",), {}, "coordinator=here:1, processes=None, process=None: all three"),
        ((None, 2), {INDEX: "0"}, "coordinator=None, processes=2, process=0: all three"),
        (("here:1", 2, 2), {}, r"process=2 must lie in 0\.\.1"),
        (("here:1", 0, 0), {}, "processes=0"),
        ((), {COORDINATOR: "here:1", COUNT: "two", INDEX: "0"}, f"{COUNT}='two'"),
        ((None, None, 4), {COORDINATOR: "here:1", COUNT: "2", INDEX: "0"}, "process=4 must lie"),
    ],
)
def test_refusals(arguments, environment, message) -> None:
    with pytest.raises(ValueError, match=message):
        initialize(*arguments, environment=environment)


def test_a_check_of_one_process_keeps_its_words() -> None:
    together(lambda: None)

    def refuse() -> None:
        raise ValueError("row 3 is empty")

    with pytest.raises(ValueError, match="row 3 is empty"):
        together(refuse)
