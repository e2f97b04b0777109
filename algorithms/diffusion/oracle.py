"""The oracle of parallel decoding: a token is decided as soon as it equals a reference.

The reference is the denoiser's own decoding, one place a pass. In every pass all open places
whose guess is the reference's are decided at once; where a block's guesses are those of the pass
before and something is open, the oracle is stuck and the reference is written into the block. The
text is the reference, and the number of passes is what a filter is measured by: of all rules that
decide right guesses alone it takes most in every pass, which is rarely but possibly not the fewest
passes, since what is decided moves the guesses to come. What it met on the way, guesses that were
right and guesses that were not, is what a filter is trained on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.diffusion.filter import Lesson
from jaxdecode import autoregress, struct
from jaxdecode.canvas import places
from jaxdecode.choose import Fixed, Top
from jaxdecode.ending import Whole
from jaxdecode.guess import Choice, Sight
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.types import Array, Bool, Float, Int
from jaxdecode.unmask import Unmasker


class Records(NamedTuple):
    """What R rows met: up to N blocks of B places each, and the guesses of the last one."""

    confidence: Float[Array, "R N B"]
    label: Bool[Array, "R N B"]
    open: Bool[Array, "R N B"]
    count: Int[Array, "R"]
    before: Int[Array, "R B"]


@struct.dataclass
class Oracle:
    """A chooser that knows what is to come out.

    Attributes:
      reference: i32[R, G], a response for each row, to its last place.
    """

    reference: Int[Array, "R G"]

    def init(self, rows: int, block: int) -> Records:
        most = 2 * self.reference.shape[1]  # a pass that decides nothing is followed by a stuck one
        none = jnp.zeros((rows, most, block), bool)
        return Records(
            confidence=none.astype(jnp.float32),
            label=none,
            open=none,
            count=jnp.zeros((rows,), jnp.int32),
            before=jnp.full((rows, block), -1, jnp.int32),
        )

    def __call__(self, state: Records, sight: Sight) -> tuple[Choice, Records]:
        at = places(sight.place, sight.open.shape[1])
        last = self.reference.shape[1] - 1
        wanted = jnp.take_along_axis(self.reference, jnp.clip(at, 0, last), axis=1)
        guess = sight.guess.token
        right = guess == wanted
        stuck = (sight.step > 0) & jnp.all(guess == state.before, axis=1)
        accept = sight.open & (right | stuck[:, None])
        there = sight.open | sight.done  # what the filter will be shown, see `Learned`
        here = (jnp.arange(state.label.shape[1]) == state.count[:, None])[:, :, None]

        def noted(before: Array, now: Array) -> Array:
            return jnp.where(here, now[:, None], before)

        state = Records(
            confidence=noted(state.confidence, jnp.where(there, sight.guess.confidence, 0.0)),
            label=noted(state.label, right & there),
            open=noted(state.open, sight.open),
            count=state.count + 1,
            before=guess,
        )
        return Choice(accept, wanted, right & sight.open), state


def reference(un: Unmasker, key: Array, prompt: Prompt) -> Int[Array, "R G"]:
    """The responses of decoding one place a pass, to their last place whatever stands there."""
    static = replace(un, chooser=Top(Fixed(1)), ending=Whole(), cache="none")
    rows = autoregress.generate(static, key, prompt)
    at = places(rows.prompt_length, un.max_tokens)
    return rows.speculation.window(rows.speculation.tokens, at)


def oracle(un: Unmasker, key: Array, prompt: Prompt) -> Rows:
    """Decode by the oracle, with the unmasker's own decoding as the reference."""
    known = Oracle(reference(un, key, prompt))
    follows = replace(un, chooser=known, ending=Whole(), cache="none")
    return autoregress.generate(follows, key, prompt)


_oracle = jax.jit(oracle)


def lesson(un: Unmasker, key: Array, prompt: Prompt) -> Lesson:
    """What a filter for this unmasker's blocks is trained on, by these prompts."""
    rows = jax.device_get(_oracle(un, key, prompt))
    records: Records = rows.speculation.chooser
    there = np.arange(records.label.shape[1]) < records.count[:, None]
    prompts = np.broadcast_to(np.asarray(prompt.id)[:, None], there.shape)
    return Lesson(
        records.confidence[there], records.label[there], records.open[there], prompts[there]
    )
