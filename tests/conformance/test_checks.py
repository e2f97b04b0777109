"""Each conformance check catches the fault it is there for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.core import Tracer

from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.sampling import Categorical
from jaxdecode.testing import conformance
from jaxdecode.testing.conformance import Subject
from jaxdecode.types import Array, Key


@struct.dataclass
class Faulty:
    """A sound decoder, with what is done to its prompt before and to its result after."""

    inner: Any
    before: Callable[[Prompt], Prompt] = struct.field(pytree_node=False)
    after: Callable[[Result], Result] = struct.field(pytree_node=False)
    level: float = struct.field(pytree_node=False, default=1)

    def check(self, prompt: Prompt) -> None:
        self.inner.check(prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        return self.after(self.inner(key, self.before(prompt)))


def subject(before=lambda prompt: prompt, after=lambda result: result, **options) -> Subject:
    def make(model, stop, max_tokens):
        generator = Generator(model, Identity(), Categorical(), stop, max_tokens)
        return Faulty(Autoregressive(generator), before, after, **options)

    return Subject(make, max_tokens=3)


def numbered_by_place(prompt: Prompt) -> Prompt:
    return replace(prompt, id=jnp.arange(prompt.batch))


def numbered_by_padding(prompt: Prompt) -> Prompt:
    return replace(prompt, id=prompt.id + prompt.tokens[:, -1])


def numbered_by_width(prompt: Prompt) -> Prompt:
    return replace(prompt, id=prompt.id + prompt.tokens.shape[1])


def mixed_rows(result: Result) -> Result:
    return replace(
        result, logprob=result.logprob + 1e-3 * jnp.sum(result.length * result.tokens[:, 0])
    )


def other_when_compiled(result: Result) -> Result:
    shift = 1e-3 if isinstance(result.logprob, Tracer) else 0.0
    return replace(result, logprob=result.logprob + shift)


def miscounted(name: str) -> Callable[[Result], Result]:
    def after(result: Result) -> Result:
        return replace(result, usage=result.usage.add(**{name: jnp.ones_like(result.length)}))

    return after


def unpriced(result: Result) -> Result:
    return replace(result, usage=replace(result.usage, flops=jnp.zeros_like(result.logprob)))


def littered(result: Result) -> Result:
    past = jnp.arange(result.tokens.shape[1]) >= result.length[:, None]
    return replace(result, tokens=jnp.where(past, 1, result.tokens))


def always_length(result: Result) -> Result:
    return replace(result, status=jnp.full_like(result.status, Status.LENGTH))


def one_too_long(result: Result) -> Result:
    """The end token is seen, and the row goes on for one more."""
    room = result.tokens.shape[1]
    return replace(result, length=jnp.minimum(result.length + 1, room))


def tempered(result: Result) -> Result:
    return replace(result, logprob=0.9 * result.logprob)


FAULTS = {
    "rows by place": (conformance.check_rows, {"before": numbered_by_place}),
    "rows by padding": (conformance.check_rows, {"before": numbered_by_padding}),
    "rows by neighbours": (conformance.check_rows, {"after": mixed_rows}),
    "width": (conformance.check_alone, {"before": numbered_by_width}),
    "compiled": (conformance.check_eager, {"after": other_when_compiled}),
    "emitted": (conformance.check_usage, {"after": miscounted("emitted")}),
    "accepted": (conformance.check_usage, {"after": miscounted("accepted")}),
    "prompt tokens": (conformance.check_usage, {"after": miscounted("prompt_tokens")}),
    "flops": (conformance.check_usage, {"after": unpriced}),
    "litter": (conformance.check_tail, {"after": littered}),
    "status": (conformance.check_status, {"after": always_length}),
    "end": (conformance.check_status, {"after": one_too_long}),
    "logprob": (conformance.check_logprob, {"after": tempered}),
    "static float": (conformance.check_leaves, {"level": 0.5}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name) -> None:
    check, fault = FAULTS[name]
    with pytest.raises(AssertionError):
        check(subject(**fault))


@jax.tree_util.register_pytree_node_class
class Remembering:
    """A decoder whose structure holds one of its numbers."""

    def __init__(self, inner: Any, level: Any):
        self.inner, self.level = inner, level

    def tree_flatten(self):
        return (self.inner, self.level), self.level

    @classmethod
    def tree_unflatten(cls, level, children):
        return cls(*children)

    def check(self, prompt: Prompt) -> None:
        self.inner.check(prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        return self.inner(key, prompt)


def test_a_retrace_is_caught() -> None:
    inner = subject()
    with pytest.raises(AssertionError, match="trace anew"):
        conformance.check_traces(Subject(lambda *rules: Remembering(inner.make(*rules), 0.5)))
