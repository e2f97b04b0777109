"""What every decoder must keep, whatever it decodes by, checked on an enumerable model.

A `Subject` makes the decoder under test for given end rules, so that a check can end a row
at once, by a sequence, or never. Checks raise AssertionError. They share compiled programs: a
subject is traced once for its main shape, once for a lone wider row, and run once eagerly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.decoder import Decoder
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status, Usage
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, sequence_logprob

PROMPTS = ([1, 2, 3], [4], [2, 2])
OTHERS = ([3, 1, 4, 1], [4], [1])
IDS = (7, 2, 9)
WIDTH = 4

Make = Callable[[EnumerableLM, Stop, int], Decoder]
"""(model, stop, max_tokens) -> decoder."""


def end_rules(model: EnumerableLM, eos: Sequence[int] = (), sequence: Sequence[int] = ()) -> Stop:
    """End tokens and at most one stop sequence of two, in arrays of one shape for all calls."""
    never = model.vocab_size + 1  # a token that no model emits
    ends = [*eos, *[never] * (model.vocab_size - len(eos))]
    return Stop.of(ends, [sequence or (never, never)])


@dataclass
class Subject:
    """A decoder under test.

    Attributes:
      make: assembles the decoder from a model, end rules and the most tokens to emit.
      model: an `EnumerableLM`, or another of at least 5 tokens whose `logprob` is given.
      pooled: the method spends on several responses per prompt, of which one is returned.
      roomier: the same decoder with larger caches, where there is such an option.
      shapes: names of static floats that set shapes, as a fraction of rows kept does.
      prefills: a prompt of several tokens has a pass of its own.
      logprob: log p(response | prompt), where it is not that of the causal `model`.
    """

    make: Make
    model: Any = field(default_factory=lambda: EnumerableLM.random(3, 6))
    max_tokens: int = 5
    pooled: bool = False
    roomier: Make | None = None
    shapes: tuple[str, ...] = ()
    prefills: bool = True
    logprob: Callable[[Sequence[int], Sequence[int]], float] | None = None
    traces: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        def counted(decoder: Decoder, key: jax.Array, prompt: Prompt) -> Result:
            self.traces += 1
            return decoder(key, prompt)

        self.run: Callable[..., Result] = jax.jit(counted)
        self.plain: Decoder = self.make(self.model, end_rules(self.model), self.max_tokens)
        self.prompt: Prompt = Prompt.of(PROMPTS, IDS, WIDTH)
        self.key: jax.Array = jax.random.key(11)

    def ending(self, eos: Sequence[int] = (), sequence: Sequence[int] = ()) -> Result:
        """The result under these end rules."""
        rules = end_rules(self.model, eos, sequence)
        decoder = self.make(self.model, rules, self.max_tokens)
        return jax.device_get(self.run(decoder, self.key, self.prompt))


def check_leaves(subject: Subject) -> None:
    """A decoder is a pytree of arrays and numbers, and its structure can be a cache key.

    A static float would trace anew for each of its values.
    """
    for name, value in _static(subject.plain, type(subject.plain).__name__):
        if name.split(".")[-1] in subject.shapes:
            continue
        if isinstance(value, float | jax.Array | np.ndarray):
            raise AssertionError(f"{name}={value} is static; make it a leaf")
    leaves, structure = jax.tree.flatten(subject.plain)
    for leaf in leaves:
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float):
            raise AssertionError(f"a leaf of the decoder is a {type(leaf).__name__}: {leaf}")
    hash(structure)
    again = jax.tree.unflatten(structure, leaves)
    if jax.tree.structure(again) != structure:
        raise AssertionError("flattening and unflattening changes the decoder")


def check_traces(subject: Subject) -> None:
    """Other keys, other numbers and other prompts of the shape trace nothing anew."""
    subject.run(subject.plain, subject.key, subject.prompt)
    before = subject.traces
    cooler = jax.tree.map(lambda x: 0.99 * x if _is_number(x) else x, subject.plain)
    subject.run(cooler, jax.random.key(12), Prompt.of(OTHERS, IDS, WIDTH))
    np.testing.assert_equal(subject.traces, before, "new numbers or a new key trace anew")


def check_rows(subject: Subject) -> None:
    """A row does not depend on its place, on its neighbours, or on what stands in padding."""
    base = subject.ending()
    order = np.array([2, 0, 1])
    permuted = jax.tree.map(lambda x: x[order], subject.prompt)
    moved = jax.device_get(subject.run(subject.plain, subject.key, permuted))
    assert_same(_rows(base, order), moved, "the order of rows matters", exact=True)

    mixed = Prompt.of([*PROMPTS[:1], *OTHERS[1:]], [IDS[0], 31, 32], WIDTH)
    padding = jnp.arange(WIDTH) >= mixed.length[:, None]
    mixed = Prompt(jnp.where(padding, 5, mixed.tokens), mixed.length, mixed.id)
    beside = jax.device_get(subject.run(subject.plain, subject.key, mixed))
    first = np.array([0])
    assert_same(_rows(base, first), _rows(beside, first), "neighbours matter", exact=True)


def check_alone(subject: Subject) -> None:
    """A row alone, in wider padding and in a larger cache if there is one, is the same."""
    base = subject.ending()
    make = subject.roomier or subject.make
    decoder = make(subject.model, end_rules(subject.model), subject.max_tokens)
    alone = Prompt.of(PROMPTS[:1], IDS[:1], WIDTH + 3)
    result = jax.device_get(subject.run(decoder, subject.key, alone))
    assert_same(_rows(base, np.array([0])), result, "batch, padding or capacity matters")


def check_eager(subject: Subject) -> None:
    """Compiled as a whole or run operation by operation, the result is the same."""
    eager = jax.device_get(subject.plain(subject.key, subject.prompt))
    assert_same(subject.ending(), eager, "eager and compiled differ")


def check_usage(subject: Subject) -> None:
    """Counts add up."""
    eos = [1]
    result = subject.ending(eos)
    usage: Usage = result.usage
    emitted = usage.accepted + usage.bonus - usage.truncated
    np.testing.assert_array_equal(usage.emitted, emitted, "emitted = accepted + bonus - truncated")
    if subject.pooled:
        _positive(usage.emitted + 1 - result.length, "emitted covers the response")
    else:
        np.testing.assert_array_equal(usage.emitted, result.length, "emitted = length")
    np.testing.assert_array_equal(usage.prompt_tokens, subject.prompt.length, "prompt tokens")
    steps = np.arange(usage.histogram.shape[1])
    accepted = (usage.histogram * steps).sum(1)
    np.testing.assert_array_equal(accepted, usage.accepted, "the histogram counts acceptances")
    if steps.size > 1:
        prefills = np.asarray(subject.prompt.length > 1, int) * subject.prefills
        passes = usage.target_passes - prefills
        np.testing.assert_array_equal(usage.histogram.sum(1), passes, "one entry a verify pass")
        _positive(usage.drafted + 1 - usage.accepted, "accepted <= drafted")
    for name in ("emitted", "target_passes", "target_tokens", "attended", "peak_cache_tokens"):
        _positive(getattr(usage, name), name)
    for name in ("peak_cache_bytes", "flops"):
        _positive(getattr(usage, name), name)
    for item in fields(usage):
        if not (np.asarray(getattr(usage, item.name)) >= 0).all():
            raise AssertionError(f"usage.{item.name} is negative or NaN")


def check_tail(subject: Subject) -> None:
    """Tokens at and past the length are zero, those before it are of the vocabulary."""
    for eos in ([], [0, 2], list(range(subject.model.vocab_size))):
        result = subject.ending(eos)
        inside = np.arange(result.tokens.shape[1]) < result.length[:, None]
        np.testing.assert_array_equal(result.tokens[~inside], 0, "tokens past the length")
        known = (result.tokens >= 0) & (result.tokens < subject.model.vocab_size)
        np.testing.assert_array_equal(known, True, "tokens of the vocabulary")
        np.testing.assert_array_equal(result.length <= subject.max_tokens, True, "max_tokens")


def check_status(subject: Subject) -> None:
    """Rows end where the rules say, and say why."""
    everything = range(subject.model.vocab_size)
    at_once = subject.ending(list(everything))
    np.testing.assert_array_equal(at_once.length, 1, "an end token first")
    np.testing.assert_array_equal(at_once.status, Status.EOS, "an end token first")

    never = subject.ending()
    np.testing.assert_array_equal(never.status, Status.LENGTH, "no end token")
    np.testing.assert_array_equal(never.length, subject.max_tokens, "no end token")

    spelled = tuple(int(token) for token in never.tokens[0, :2])
    for eos, sequence in (([0, 2], ()), ((), spelled)):
        result = subject.ending(eos, sequence)
        for row, length in enumerate(result.length):
            output = tuple(result.tokens[row, :length].tolist())
            ends = [i + 1 for i in range(length) if _ends(output[: i + 1], eos, sequence)]
            expected = Status.EOS if ends else Status.LENGTH
            np.testing.assert_equal(result.status[row], expected, f"status of {output}")
            wanted = ends[0] if ends else subject.max_tokens
            np.testing.assert_equal(length, wanted, f"{output} should have ended elsewhere")


def check_logprob(subject: Subject) -> None:
    """`logprob` is that of the returned tokens under the raw model."""
    for result in (subject.ending(), subject.ending([0, 2])):
        for row, prompt in enumerate(PROMPTS):
            output = result.tokens[row, : result.length[row]].tolist()
            if subject.logprob is None:
                expected = sequence_logprob(subject.model, prompt, output)
            else:
                expected = subject.logprob(prompt, output)
            np.testing.assert_allclose(result.logprob[row], expected, 1e-4, 1e-4, err_msg="logprob")


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_leaves,
    check_traces,
    check_rows,
    check_alone,
    check_eager,
    check_usage,
    check_tail,
    check_status,
    check_logprob,
)


def assert_same(a: Result, b: Result, message: str, exact: bool = False) -> None:
    """Equal tokens, lengths, statuses and counts; log-probs too, or up to rounding."""
    for name in ("tokens", "length", "status"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), f"{message}: {name}")
    tolerance = 0.0 if exact else 1e-5
    np.testing.assert_allclose(
        b.logprob, a.logprob, tolerance, tolerance, err_msg=f"{message}: logprob"
    )
    for item in fields(a.usage):
        mine, other = getattr(a.usage, item.name), getattr(b.usage, item.name)
        np.testing.assert_allclose(mine, other, 1e-6, err_msg=f"{message}: usage.{item.name}")


def _rows(result: Result, index: np.ndarray) -> Result:
    """Some rows of a result, without its trace."""
    parts = (result.tokens, result.length, result.logprob, result.status, result.usage)
    return Result(*jax.tree.map(lambda x: x[index], parts))


def _ends(output: tuple[int, ...], eos: Sequence[int], sequence: Sequence[int]) -> bool:
    tail = output[-len(sequence) :] if sequence else None
    return output[-1] in eos or (tail is not None and tail == tuple(sequence))


def _static(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Static fields of a dataclass and of those inside it."""
    if isinstance(tree, tuple | list):
        for index, item in enumerate(tree):
            yield from _static(item, f"{name}[{index}]")
    elif is_dataclass(tree) and not isinstance(tree, type):
        for item in fields(tree):
            here, value = f"{name}.{item.name}", getattr(tree, item.name)
            if item.metadata.get("pytree_node", True):
                yield from _static(value, here)
            else:
                yield here, value


def _is_number(leaf: Any) -> bool:
    return np.ndim(leaf) == 0 and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _positive(values: Any, name: str) -> None:
    if not (np.asarray(values) > 0).all():
        raise AssertionError(f"{name}: {values} should be positive")
