"""A generator of short random responses, and a scorer that reads any score off a table."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import Spent
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM
from jaxdecode.types import Array, Float, Int

PROMPTS = ([2, 3], [4], [3, 2, 2, 4])
IDS = (5, 0, 9)
WIDTH, MAX_TOKENS = 4, 12
LONGEST = WIDTH + MAX_TOKENS
EOS = 1


def prompts() -> Prompt:
    return Prompt.of(PROMPTS, IDS, WIDTH)


def model() -> EnumerableLM:
    return EnumerableLM.random(0, 6, sharpness=0.5)


def generator(endless: bool = False, broken: bool = False) -> Generator:
    """Responses of 1 to 12 tokens out of 6, of about 5 on average; 12 if they never end, and
    none if the model is broken and gives no usable logits."""
    sound = model()
    nothing = replace(sound, bias=jnp.full_like(sound.bias, jnp.nan))
    stop = Stop.of(sound.vocab_size if endless else EOS)
    return Generator(nothing if broken else sound, Identity(), Categorical(), stop, MAX_TOKENS)


@struct.dataclass
class Table:
    """Scores a response by prompt, sample and length: whatever a scorer could say, as data.

    It keeps the sample ids of its rows, which shows that states move with their rows.

    Attributes:
      worth: f32[B, N, L + 1].
    """

    worth: Float[Array, "B N L"]

    def init(self, prompt: Prompt, samples: int) -> tuple[Int[Array, "R"], Spent]:
        rows = prompt.batch * samples
        return jnp.tile(jnp.arange(samples), prompt.batch), Spent.nothing(rows)

    def score(
        self, state: Int[Array, "R"], prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Int[Array, "R"], Spent]:
        count = rows.length.shape[0]
        example = jnp.repeat(jnp.arange(prompt.batch), count // prompt.batch)
        return self.worth[example, state, rows.length], state, Spent.nothing(count)


def worth(kind: str, seed: int, samples: int) -> np.ndarray:
    """A table f32[B, N, L + 1] of some kind.

    distinct: all numbers differ. ties: three numbers. oracle: every prefix is worth what the
    whole response is, with ties among responses. faulty: a tenth is NaN or infinite. nothing:
    no number at all.
    """
    rng = np.random.default_rng([seed, 1])
    shape = (len(PROMPTS), samples, MAX_TOKENS + 1)
    match kind:
        case "distinct":
            table = rng.normal(size=shape)
        case "ties":
            table = rng.integers(0, 3, shape)
        case "oracle":
            table = np.repeat(rng.integers(0, 12, (*shape[:2], 1)), shape[2], axis=2)
        case "faulty":
            table = np.where(rng.random(shape) < 0.9, rng.normal(size=shape), np.nan)
            table = np.where(rng.random(shape) < 0.98, table, rng.choice([-np.inf, np.inf], shape))
        case "nothing":
            table = np.full(shape, np.nan)
        case _:
            raise ValueError(f"kind={kind!r} is no kind of table")
    return table.astype(np.float32)
