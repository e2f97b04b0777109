"""SpecDec++: draft as long as no rejection is likely (Huang et al. 2024, arXiv 2405.19715).

How many tokens to draft is a Markov decision process, and a rule of its optimal policy is a
threshold: stop once P(some draft token is rejected) is high enough. A small head on the draft
model's hidden states predicts each token's acceptance,

    draft Y_1;  for i = 2, 3, ...:  held *= P(Y_{i-1} accepted);  draft Y_i;
                                    stop if 1 - held > h, after `least` or at `most` tokens

and everything drafted is verified by ordinary speculative sampling, so that the output's law
is the target's whatever the head says. `label` makes the head's training data from responses of
the target; `jaxdecode.train.foresight` has its loss and `models.heads.acceptance` the head.

Deliberate differences: labels are made under the transform and sampler of decoding, where the
published ones are at temperature 1 without filters and decoding is not; and a draft goes on
after an end token, which costs and changes nothing.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.policies.foresight import Foreseen
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.lm import LanguageModel, extend
from jaxdecode.logits import noted
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.sampling import row_keys, step_keys
from jaxdecode.speculate import Speculator
from jaxdecode.text import Text
from jaxdecode.types import Array, Bool, Float, Int, Key
from jaxdecode.verify import pick

PAPER = Paper(
    slug="specdec_pp",
    title="SpecDec++: Boosting Speculative Decoding via Adaptive Candidate Lengths",
    authors=("Kaixuan Huang", "Xudong Guo", "Mengdi Wang"),
    year=2024,
    arxiv="2405.19715",
    venue="COLM 2025",
    claim="stopping a draft when a trained head foresees a rejection is faster than the best "
    "fixed draft length",
    losslessness="exact",
)


def specdec_pp(
    generator: Generator,
    draft: LanguageModel,
    head: Any,
    threshold: Float[Array, ""] | float = 0.7,
    least: int = 2,
    most: int = 20,
) -> Speculator:
    """Drafts of `least` to `most` tokens that end where `head` foresees a rejection.

    The draft model draws as the generator does. `threshold` is h; `head` is a pytree that maps
    the draft model's final hidden states to probabilities.
    """
    if isinstance(most, int) and least > most:
        raise ValueError(f"least={least} exceeds most={most}: a draft has at most {most} tokens")
    halt = Foreseen(head, threshold, least)
    drafter = Chain(draft, most, generator.transform, generator.sampler, halt)
    return Speculator(generator, drafter, Residual())


@struct.dataclass
class Lesson:
    """Training data of a head; T tokens of prompt and response.

    Attributes:
      tokens: i32[B, T], the response mixed with draws of the draft model.
      hidden: f32[B, T, D], the draft model's final hidden states behind them.
      label: f32[B, T], the probability min(1, p / q) that the draw at this place is accepted.
      counted: bool[B, T], places that hold a draw; the others have no label.
    """

    tokens: Int[Array, "B T"]
    hidden: Float[Array, "B T D"]
    label: Float[Array, "B T"]
    counted: Bool[Array, "B T"]


def label(
    generator: Generator,
    draft: LanguageModel,
    key: Key[Array, ""],
    prompt: Prompt,
    responses: Result,
    mixing: Float[Array, ""] | float = 0.15,
) -> Lesson:
    """What the draft model would have drawn along responses of the target, and its chances.

    At every place of a response one token is drawn from the draft model's law behind the
    target's text. What the head is to read is a mixture, which keeps the target's token with
    probability `mixing` and takes the draw otherwise, because a draft stands on draws and not
    on the target's text.
    """
    batch, width = prompt.tokens.shape
    text = Text.of(prompt, width + responses.tokens.shape[1])
    text = text.append(responses.tokens, responses.length)
    tokens, place = jnp.maximum(text.tokens, 0), jnp.arange(text.tokens.shape[1])
    valid = place < text.length[:, None]
    inside = valid & (place >= prompt.length[:, None])
    keys, coins = (row_keys(key, prompt.id, jnp.zeros_like(prompt.id), s) for s in (0, 1))

    def reading(model: LanguageModel, tokens: Array):
        cache = model.init_cache(batch, tokens.shape[1])
        return extend(model, tokens, cache, valid=valid, fresh=True)

    def step(state, now):
        """Draw at one place; the logits are those of the place before."""
        index, token, here, *logits = now
        edited = [generator.transform.apply(state, raw) for raw in logits]
        p, q = (generator.sampler.distribution(x) for x in edited)
        drawn = jnp.maximum(generator.sampler(step_keys(keys, index), edited[1]), 0)
        chance = jnp.minimum(1.0, pick(p, drawn) / jnp.maximum(pick(q, drawn), 1e-30))
        return noted(generator.transform, state, logits[0], token, here), (drawn, chance)

    logits = [reading(model, tokens).logits for model in (generator.model, draft)]
    before = [jnp.moveaxis(jnp.roll(x, 1, axis=1), 1, 0) for x in logits]
    indices = jnp.broadcast_to(place[:, None], (len(place), batch))
    rows = (indices, tokens.T, inside.T, *before)
    _, (drawn, chance) = jax.lax.scan(step, generator.transform.init(prompt), rows)
    uniform = jax.vmap(lambda coin: jax.random.uniform(coin, place.shape))(coins)
    counted = inside & (uniform >= mixing)
    mixed = jnp.where(counted, drawn.T, tokens)
    hidden = reading(draft, mixed).hidden
    return Lesson(mixed, hidden, jnp.where(counted, chance.T, 0.0), counted)
