"""A denoiser of many small tasks, and its autoregressive twin of the same shape."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.tasks.batches import ExampleBatches
from experiments.tasks.canvas.canvases import EXACT, Canvases
from experiments.tasks.canvas.mixture import LISTS, LOOKUPS, MASK, Mixture, Spaced
from experiments.tasks.task import Split
from experiments.zoo.recipe import Recipe, as_dict
from jaxdecode.autoregress import Generator
from jaxdecode.choose import Top
from jaxdecode.decoder import decode
from jaxdecode.denoiser import Denoiser
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Expander
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.train.losses import next_token
from jaxdecode.train.masked import masked_tokens
from jaxdecode.unmask import Unmasker
from models.presets import small
from models.transformer import Transformer

TASK = Mixture()
EASY = Mixture(((LISTS, 0.88), (LOOKUPS, 0.12)))
CANVASES, SHORT, TEXTS = (15, 20, 26, 34, 50), (15, 19, 23), (16, 19, 24, 32)
ROWS, OPENING = 64, 500
STEPS, HELD, TWIN_STEPS, ASKED = 1050, 900, 400, 20
STOP = Stop.of(TASK.tokenizer().eos_id)


def mask_id() -> int:
    """Of the family's vocabulary."""
    (token,) = TASK.tokenizer().encode(MASK)
    return token


@functools.cache
def _denoising() -> Callable[..., Any]:
    return functools.partial(masked_tokens, mask_id=mask_id(), form="counts")


def _create(rngs: nnx.Rngs) -> Transformer:
    shape = small(TASK.tokenizer().vocab_size, hidden=160, layers=4, kv_heads=5)
    return Transformer(shape, rngs=rngs)


def stream(split: Split, seed: int) -> Callable[[int], Mapping[str, Any]]:
    """Canvases of the mixture, the first `OPENING` of them short and without end tokens.

    What a place of the answer has to look for in the question is learned much sooner where the
    answer is all there is to fill.
    """
    codec = TASK.tokenizer()
    every = Canvases(TASK, codec, ROWS, CANVASES, seed, split)
    short = Canvases(EASY, codec, ROWS, SHORT, seed, split, sizes=((EXACT, 1.0),))
    return lambda step: (short if step < OPENING else every)(step)


def denoiser() -> Recipe:
    """Taught in the form of LLaDA's fine-tuning: the answer is hidden, the question never."""
    return Recipe(
        name="denoiser",
        kind="denoiser",
        about="a masked denoiser of list operations, look-ups and steps of arithmetic, its answers "
        "filled up with end tokens",
        tokenizer=TASK.tokenizer,
        create=_create,
        loss=_denoising(),
        batches=lambda: stream("train", 40),
        score=lambda model: scores(
            lambda places: Unmasker(
                Denoiser(model, mask_id()), Top(), Greedy(), STOP, places, places
            )
        ),
        # Stopped while it still learned: what it was not yet right on, the card says. A longer run
        # takes more of both numbers.
        steps=STEPS,
        peak=1.5e-3,
        hold=HELD,
        horizon=3000,
        stored="float16",
        mask_id=mask_id(),
    )


def twin() -> Recipe:
    """The same questions, answered from left to right."""
    codec = TASK.tokenizer()

    def texts(split: Split, seed: int) -> Callable[[int], Mapping[str, Any]]:
        return as_dict(ExampleBatches(TASK, codec, ROWS, TEXTS, seed, split, pool=8))

    return Recipe(
        name="denoiser-twin",
        kind="generator",
        about="the shape and the tasks of `denoiser`, autoregressive",
        tokenizer=TASK.tokenizer,
        create=_create,
        loss=next_token,
        batches=lambda: texts("train", 42),
        score=lambda model: scores(
            lambda places: Generator(model, Identity(), Greedy(), STOP, places)
        ),
        steps=TWIN_STEPS,
        peak=2e-3,
        stored="float16",
    )


def scores(rules: Callable[[int], Expander]) -> dict[str, float]:
    """The share of test questions answered rightly, one token at a time, by operation or task."""
    found: dict[str, list[float]] = {}
    for place, (part, _) in enumerate(TASK.parts):
        codec, rng = TASK.tokenizer(), np.random.default_rng((41, place))
        examples = part.sample(rng, ASKED * (10 if part is LISTS else 1), "test")
        prompts = [[codec.bos_id, *ids] for ids in codec.encode_many([e.prompt for e in examples])]
        places = 32 if isinstance(part, Spaced) else 16
        decoder = Autoregressive(rules(places))
        result = jax.device_get(decode(decoder, jax.random.key(0), Prompt.of(prompts)))
        for example, text in zip(
            examples, codec.decode_rows(result.tokens, result.length), strict=True
        ):
            name = example.meta.get("operation", part.name)
            found.setdefault(name, []).append(part.verify(example.prompt, text))
    return {name: round(float(np.mean(right)), 3) for name, right in sorted(found.items())}
