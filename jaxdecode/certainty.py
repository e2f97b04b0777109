"""How certain a model was of what it wrote: measures of its raw next-token distributions.

For one position with distribution p over the V tokens of the valid vocabulary, and U uniform:

    kl              KL(U || p) = logsumexp(z) - mean(z) - log V, called self-certainty
    cross_entropy   -mean_j log p(j) = kl + log V
    neg_entropy     sum_j p(j) log p(j)
    gini            sum_j p(j)^2 - 1
    neg_distributional_perplexity   -exp(entropy), exponential before the mean over positions
    logprob         log p(token)

All are larger for a more certain model, and a response's value is their mean over its tokens
(Kang et al. 2025, arXiv 2502.18581). `kl` weighs every token of the vocabulary alike: it sees
how far the tail is pushed down, and is not log V minus the entropy, which is KL(p || U). With
`base` = q another distribution takes the place of U: kl = KL(q || p), cross_entropy = H(q, p).

Position i is judged by the logits that predicted token i, before temperature and filters, in
float32. A position that met a logit that is not finite has NaN for every measure, so that its
response is never selected: log p = -inf would make its `kl` the largest of all.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from jaxdecode import struct
from jaxdecode.cache import spread, truncate
from jaxdecode.lm import LanguageModel, extend, prefill
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int

Measure = Literal[
    "kl",
    "cross_entropy",
    "neg_entropy",
    "gini",
    "neg_distributional_perplexity",
    "avg_logprob",
    "neg_perplexity",
]
MEASURES: tuple[Measure, ...] = get_args(Measure)


@struct.dataclass
class Certainty:
    """Means over the counted tokens of responses, [R] or [B, N]; NaN where `length` is 0.

    Attributes:
      neg_perplexity: -exp(-avg_logprob), which orders responses as avg_logprob does.
      length: i32, shaped as they are, tokens counted.
    """

    kl: Float[Array, "*rows"]
    cross_entropy: Float[Array, "*rows"]
    neg_entropy: Float[Array, "*rows"]
    gini: Float[Array, "*rows"]
    neg_distributional_perplexity: Float[Array, "*rows"]
    avg_logprob: Float[Array, "*rows"]
    neg_perplexity: Float[Array, "*rows"]
    length: Int[Array, "*rows"]


@struct.dataclass
class Measures:
    """The measures of single positions, or sums of them."""

    kl: Float[Array, "..."]
    cross_entropy: Float[Array, "..."]
    neg_entropy: Float[Array, "..."]
    gini: Float[Array, "..."]
    neg_distributional_perplexity: Float[Array, "..."]
    logprob: Float[Array, "..."]


def measure(
    logits: Float[Array, "... V"],
    token: Int[Array, "..."],
    base: Float[Array, "V"] | None = None,
) -> Measures:
    """The measures of softmax(logits), against `base` or uniform, where `token` came next."""
    sound = jnp.all(jnp.isfinite(logits), axis=-1)
    z = logits.astype(jnp.float32)
    z = z - jnp.max(z, axis=-1, keepdims=True)  # small terms keep the mean over V exact
    weight = jnp.exp(z)
    total = jnp.sum(weight, axis=-1)
    log_total = jnp.log(total)
    p = weight / total[..., None]
    if base is None:
        cross_entropy, own = log_total - jnp.mean(z, axis=-1), math.log(z.shape[-1])
    else:
        cross_entropy = log_total - jnp.sum(base * z, axis=-1)
        own = -jnp.sum(xlogy(base, base))
    neg_entropy = jnp.sum(p * z, axis=-1) - log_total
    measures = Measures(
        kl=cross_entropy - own,
        cross_entropy=cross_entropy,
        neg_entropy=neg_entropy,
        gini=jnp.sum(p * p, axis=-1) - 1.0,
        neg_distributional_perplexity=-jnp.exp(-neg_entropy),
        logprob=jnp.take_along_axis(z, token[..., None], axis=-1)[..., 0] - log_total,
    )
    return jax.tree.map(lambda value: jnp.where(sound, value, jnp.nan), measures)


@struct.dataclass
class Tally:
    """Sums over the counted tokens of R rows."""

    total: Measures
    count: Int[Array, "R"]

    def add(
        self,
        measures: Measures,
        counted: Bool[Array, "R T"],
        judged: Bool[Array, "R T"] | None = None,
    ) -> Tally:
        """Add T positions: log-probabilities and count where `counted`, the other measures
        where `judged`, which is `counted` unless given."""

        def total(mask: Array, value: Array) -> Array:
            return jnp.sum(jnp.where(mask, value, 0.0), axis=1)

        shape = jax.tree.map(partial(total, counted if judged is None else judged), measures)
        added = replace(shape, logprob=total(counted, measures.logprob))
        count = self.count + jnp.sum(counted, axis=1)
        return Tally(jax.tree.map(jnp.add, self.total, added), count)

    def mean(self) -> Certainty:
        """Every measure, averaged over the tokens that were counted."""
        mean = jax.tree.map(lambda total: total / self.count, self.total)
        return Certainty(
            kl=mean.kl,
            cross_entropy=mean.cross_entropy,
            neg_entropy=mean.neg_entropy,
            gini=mean.gini,
            neg_distributional_perplexity=mean.neg_distributional_perplexity,
            avg_logprob=mean.logprob,
            neg_perplexity=-jnp.exp(-mean.logprob),
            length=self.count,
        )


@struct.dataclass
class CertaintyMeter:
    """Sums every measure while a generator decodes, at no extra pass.

    Attributes:
      eos: i32[E], end tokens.
      base: f32[V], a distribution to stand for the uniform one; None for uniform.
      include_end: static; count the position of the end token too. The default is the
        paper's: it scores the text, which has none.
    """

    eos: Int[Array, "E"]
    base: Float[Array, "V"] | None = None
    include_end: bool = struct.field(pytree_node=False, default=False)

    def init(self, rows: int) -> Tally:
        zeros = jnp.zeros((rows,), jnp.float32)
        return Tally(Measures(*[zeros] * 6), jnp.zeros((rows,), jnp.int32))

    def observe(
        self,
        state: Tally,
        logits: Float[Array, "R V"],
        token: Int[Array, "R"],
        active: Bool[Array, "R"],
    ) -> Tally:
        measures = measure(logits[:, None], token[:, None], self.base)
        return state.add(measures, self.counts(token[:, None], active[:, None]))

    def counts(self, tokens: Int[Array, "R T"], active: Bool[Array, "R T"]) -> Bool[Array, "R T"]:
        """Which tokens are counted."""
        if self.include_end:
            return active
        return active & ~jnp.any(tokens[..., None] == self.eos, axis=-1)


def score_certainty(
    model: LanguageModel,
    prompt: Prompt,
    tokens: Int[Array, "R L"],
    length: Int[Array, "R"],
    meter: CertaintyMeter,
    *,
    shifted: bool = False,
    chunk: int = 32,
) -> Certainty:
    """The certainty of given responses, read in chunks: what `meter` gives while decoding.

    Row b * K + k is a response to prompt b, R = B * K; a prompt is run once. Logits are held
    for `chunk` tokens at a time.

    Args:
      tokens, length: responses, right-padded; what stands in the padding does not matter.
      shifted: average the distributions after tokens 1..n in place of those before them, as
        the authors' published code does: the one that drew the first token is missing and the
        one that follows the last is included. Log-probabilities are not affected.
      chunk: tokens of one pass.
    Raises:
      ValueError: if the responses are no multiple of the prompts, or chunk < 1.
    """
    rows, longest = tokens.shape
    if rows % prompt.batch:
        raise ValueError(f"tokens: {rows} responses to {prompt.batch} prompts; give K for each")
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: at least one token is read at a time")
    valid = jnp.arange(longest) < length[:, None]
    tokens = jnp.where(valid, tokens, 0)
    counted = meter.counts(tokens, valid)

    # Inputs are the prompt's last token and the response; the logits of input i predict token
    # i, whose measures are those of target i. The last input serves `shifted` alone.
    passes = -(-(longest + shifted) // chunk)
    size = passes * chunk

    def columns(array: Array, first: int = 0) -> Array:
        """[R, T] as [passes, R, chunk], starting at column `first`."""
        array = jnp.pad(array, ((0, 0), (first, max(0, size - longest - first))))[:, :size]
        return jnp.moveaxis(array.reshape(rows, passes, chunk), 1, 0)

    cache, root, _ = prefill(model, prompt, prompt.tokens.shape[1] + size)
    cache, root = spread((cache, root), rows // prompt.batch)
    inputs = columns(tokens, 1).at[0, :, 0].set(root)
    reads = columns(valid, 1).at[0, :, 0].set(True)

    def read(carry, block):
        cache, tally = carry
        inputs, reads, targets, counted, judged = block
        output = extend(model, inputs, cache, valid=reads)
        tally = tally.add(measure(output.logits, targets, meter.base), counted, judged)
        return (truncate(output.cache, cache.length + jnp.sum(reads, axis=1)), tally), None

    judged = columns(counted, int(shifted))
    blocks = (inputs, reads, columns(tokens), columns(counted), judged)
    state = (cache, meter.init(rows))
    (_, tally), _ = jax.lax.scan(read, state, blocks)
    return tally.mean()
