"""Random configurations of all decoders and slots: refused by name, or sound.

A decoder of the conformance tables, a slot somewhere in it (edits of the logits, drafters,
verifiers, policies, choosers and so on), a field of the slot, a value: most of them absurd. What is
refused must be refused when it is built, by a ValueError that names the field; what is not must
decode, traced abstractly, and some of it for good.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import random
import time
from typing import Any

import jax
import numpy as np
import pytest

from jaxdecode import logits, struct
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.ranges import HUGE, integers, seeded
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM
from tests import annotations
from tests.conformance import test_canvases, test_decoders, test_pausing
from tests.conformance.speculators import SPECULATORS

CONFIGURATIONS = 500
PATIENCE = 6.0  # seconds for tracing what was not refused
VOCAB, MAX_TOKENS = 6, 4
PROMPTS = Prompt.of([[1, 2], [3]], [4, 5])
ABSURD = [
    *(-1, 0, 2**31, 2**31 - 1, 2**63, 10**400, -(2**31) - 1, 1.5, math.nan, math.inf, -math.inf),
    *(1e-45, 1e39, -0.5, "3", b"3", None, True, [1], (1,), {}, 3j, np.float32("nan")),
]
ABOVE = [VOCAB + 1, 40]  # what counts tokens, or their places, has no more to choose from
SOUND = [1, 2, 3, 4, *ABOVE, 0.1, 0.5, 1.0, 2.0, True, False, (1, 2), np.int32(2), np.float32(0.5)]


EDITS = (
    logits.TopK(3),
    logits.TopP(0.5),
    logits.MinP(0.1),
    logits.Typical(0.5),
    logits.Epsilon(0.1),
    logits.Eta(0.1),
    logits.Temperature(0.5),
    logits.RepetitionPenalty(1.3, VOCAB),
    logits.PresencePenalty(0.5, VOCAB),
    logits.FrequencyPenalty(0.5, VOCAB),
    logits.MinimumLength.of(2, 0),
    logits.NoRepeatNgram(2, MAX_TOKENS),
)
OUTSIDE = ("jaxdecode.testing", "jaxdecode.denoiser", "models", "tests")  # models are no slots


@functools.cache
def decoders() -> dict[str, Any]:
    """Of every table: searches and selection, token by token, drafting, canvases, edits."""
    model, stop = EnumerableLM.random(0, VOCAB), Stop.of(0)
    plain = Generator(model, Identity(), Categorical(), stop, MAX_TOKENS)
    drafts, found = model.perturbed(1, 0.4), {}
    for name, row in (test_decoders.ROWS | test_pausing.ROWS).items():
        found[name] = row["make"](model, stop, MAX_TOKENS)
    for name, row in test_canvases.ROWS.items():
        canvas = row.get("model", test_canvases.MODEL)
        found[f"canvas: {name}"] = row["make"](canvas, stop, test_canvases.NEW)
    for name, entry in SPECULATORS.items():
        found[name] = Autoregressive(entry.make(plain, drafts))
    for edit in EDITS:
        found[type(edit).__name__] = Autoregressive(dataclasses.replace(plain, transform=edit))
    return found


def slots(value: Any, path: tuple = ()) -> list[tuple[tuple, Any]]:
    """Every dataclass in a decoder, with how to reach it; models are left alone."""
    if type(value).__module__.startswith(OUTSIDE):
        return []
    if isinstance(value, tuple):
        return [found for i, part in enumerate(value) for found in slots(part, (*path, i))]
    if type(value) not in struct.CLASSES:
        return []
    inner = [slots(getattr(value, f.name), (*path, f.name)) for f in dataclasses.fields(value)]
    return [(path, value), *(found for many in inner for found in many)]


def rebuilt(value: Any, path: tuple, part: Any) -> Any:
    """`value` with another part; every dataclass on the way is built anew."""
    if not path:
        return part
    first, *rest = path
    if isinstance(value, tuple):
        inner = rebuilt(value[first], tuple(rest), part)
        return (*value[:first], inner, *value[first + 1 :])
    inner = rebuilt(getattr(value, first), tuple(rest), part)
    return dataclasses.replace(value, **{first: inner})


def numbers(slot: Any) -> list[str]:
    """Fields that hold a number, a choice or nothing."""

    def is_one(value: Any) -> bool:
        single = isinstance(value, jax.Array) and value.shape == () and value.dtype.kind in "fib"
        return single or isinstance(value, int | float | str | type(None) | np.generic)

    fields = (field.name for field in dataclasses.fields(slot))
    return [name for name in fields if is_one(getattr(slot, name))]


def slot_at(value: Any, path: tuple) -> Any:
    for step in path:
        value = value[step] if isinstance(step, int) else getattr(value, step)
    return value


@pytest.mark.parametrize("name", ["speculative sampling", "rest", "kangaroo, tree"])
def test_drafts_past_the_vocabulary_or_the_room(name: str) -> None:
    """Every whole number of a way of drafting, too large: refused when built, or harmless."""
    target = EnumerableLM.random(3, VOCAB)
    generator = Generator(target, Identity(), Categorical(), Stop.of(0), MAX_TOKENS)
    decoder = Autoregressive(SPECULATORS[name].make(generator, target.perturbed(1, 0.4)))
    aside = (Generator, Corpus)  # vocabularies and rooms themselves
    every, seen = decoder, 0
    for path, slot in slots(decoder):
        for field in numbers(slot) if not isinstance(slot, aside) else ():
            if type(getattr(slot, field)) is not int:
                continue
            try:
                now = slot_at(every, path)
                every = rebuilt(every, path, dataclasses.replace(now, **{field: ABOVE[1]}))
            except ValueError as error:
                assert field in str(error)
            seen += 1
    every.check(PROMPTS)
    jax.eval_shape(every, jax.random.key(0), PROMPTS)
    assert seen > 0


def test_random_configurations_are_refused_by_name_or_sound() -> None:
    rng, table = random.Random(0), decoders()
    places = [
        (name, path, slot, field)
        for name, decoder in table.items()
        for path, slot in slots(decoder)
        for field in numbers(slot)
    ]
    assert len(places) > 400
    refused, passed, spent, run = 0, [], 0.0, 0
    for _ in range(CONFIGURATIONS):
        name, path, slot, field = rng.choice(places)
        value = rng.choice(ABSURD if rng.random() < 0.7 else SOUND)
        case = f"{name}: {type(slot).__name__}.{field}={value!r:.40}"
        try:
            with annotations.fields_of_any_kind():
                decoder = rebuilt(table[name], path, dataclasses.replace(slot, **{field: value}))
                decoder.check(PROMPTS)
        except ValueError as error:
            # A field that contradicts another may be told by the other's name, one that takes a
            # slot's law or vocabulary away by that.
            words = (*numbers(slot), field.partition("_")[0], type(slot).__name__)
            named = any(word in str(error) for word in words)
            assert named and len(str(error)) < 1000, f"{case}: {error}"
            refused += 1
            continue
        except Exception as error:
            raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error
        passed.append((case, decoder))
    for case, decoder in passed:
        if spent > PATIENCE:
            break
        start = time.process_time()
        try:
            shape = jax.eval_shape(decoder, jax.random.key(0), PROMPTS)
        except ValueError as error:
            assert case.partition("=")[0].rpartition(".")[2] in str(error), f"{case}: {error}"
            continue
        except Exception as error:
            raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error
        finally:
            spent += time.process_time() - start
        assert shape.tokens.shape[0] == 2 and shape.tokens.dtype == np.int32, case
        run += 1
    assert refused > 200 and run > 5


def test_edits_make_no_number_of_what_is_one() -> None:
    """The largest numbers that an edit may hold, and infinite ones where it takes them, on every
    row of which some token has been seen."""
    seen = Prompt.of([[1, 2, 1]])
    row, tried = jax.numpy.linspace(-3.0, 3.0, VOCAB)[None], 0
    edits: tuple[Any, ...] = EDITS
    for edit in edits:
        for field in numbers(edit):
            for value in (math.inf, -math.inf, HUGE, -HUGE, 1e30, -1e30):
                try:
                    changed = dataclasses.replace(edit, **{field: value})
                except ValueError as error:
                    assert field in str(error)
                    continue
                state = changed.init(seen)
                state = changed.observe(state, jax.numpy.array([4]), jax.numpy.array([True]))
                edited = np.asarray(changed.apply(state, row))
                assert not np.isnan(edited).any(), f"{edit}.{field}={value}: {edited}"
                assert np.isfinite(edited).any(), f"{edit}.{field}={value}: nothing is left"
                tried += 1
    assert tried > 5
    for edit in (logits.PresencePenalty, logits.FrequencyPenalty):
        with pytest.raises(ValueError, match="penalty=inf must be in"):
            edit(math.inf, VOCAB)


@pytest.mark.parametrize("name", ["autoregressive", "best_of_n", "beam_search"])
def test_what_passes_decodes(name: str) -> None:
    """Numbers at the edges of what is allowed, compiled and run."""
    decoder = decoders()[name]
    for path, slot in slots(decoder):
        for field in numbers(slot):
            if (type(slot).__name__, field) in (("Temperature", "temperature"), ("TopP", "p")):
                decoder = rebuilt(decoder, path, dataclasses.replace(slot, **{field: 1e-30}))
    result = jax.device_get(decode(decoder, 2**32 - 1, PROMPTS))
    assert set(result.status.tolist()) <= {Status.EOS, Status.LENGTH}
    assert np.isfinite(result.logprob).all() and (result.tokens < VOCAB).all()


@pytest.mark.parametrize("seed", [2**32, 2**63, -1, 1.0, "0", None, True, math.nan])
def test_seeds_that_32_bits_cannot_tell_apart_are_refused(seed) -> None:
    with pytest.raises(ValueError, match=r"key\[0\]=.* must be a whole number in 0..4294967295"):
        decode(decoders()["autoregressive"], seed, PROMPTS)
    assert seeded(7) == jax.random.key(7) and seeded(jax.random.key(3)) == jax.random.key(3)


@pytest.mark.parametrize("token", [1.0, 1.5, True, 2**31, -1, "1", None, math.nan, np.float32(1)])
def test_tokens_are_whole_numbers(token) -> None:
    for make in (
        lambda: Prompt.of([[1, 2], [0, token]]),
        lambda: Prompt.of([[1], [2]], [0, token]),
        lambda: Stop.of([0, token]),
        lambda: Stop.of([0], [[1, token]]),
        lambda: integers("tokens", [0, token]),
    ):
        with pytest.raises(ValueError, match=r"\[\d\]=|negative id"):
            make()
    assert integers("tokens", np.array([1, 2])) == [1, 2]
    mixed = Prompt.of([np.array([1, 2]), [np.int64(3)]])  # pyright: ignore[reportArgumentType]
    assert mixed.tokens[1, 0] == 3
