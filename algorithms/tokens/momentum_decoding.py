"""Momentum decoding: greedy text that may re-enter what was said only against a resistance.

    x_t = argmax over the k likeliest v of   p(v | x) - alpha f(d(v))

The text so far, prompt included, is a walk on the graph of its tokens. d(v) is the depth of
the circuit that v would close: the length, at most M, of the longest n-gram ending in v that is in
the text already; 0 for a token that is new. f is the resistance. p is the probability over the
whole vocabulary, not its logarithm. Source: Lan et al. 2022, arXiv 2212.02175.

The published program ends with the table of an ablation in place; `PUBLISHED` is the one that it
had on the day of the paper, whose own table is not at hand. The step is deterministic, so that the
edited law is certain of one token: any sampler draws it, and a verifier asks for it at every node
of a draft.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.lm import LanguageModel
from jaxdecode.logits.transform import check_number
from jaxdecode.ngram.suffix import Suffix
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Bool, Float, Int

PAPER = Paper(
    slug="momentum_decoding",
    title="Momentum Decoding: Open-ended Text Generation As Graph Exploration",
    authors=("Tian Lan", "Yixuan Su", "Shuhang Liu", "Heyan Huang", "Xian-Ling Mao"),
    year=2022,
    arxiv="2212.02175",
    venue="arXiv",
    claim="Text as diverse and coherent as that of contrastive search, at the cost of greedy "
    "decoding: one pass a token.",
    losslessness="not-applicable",
)
# Resistances by depth, from 0 on.
PUBLISHED = (0.0, 1.0, 3.0, 4.0, 5.0, 5.0)
REVISED = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)  # a month later, for the same model
CHINESE = (0.0, 1.0, 1.0, 2.0, 3.0, 4.0)  # for a Chinese model of 3.5 billion parameters
CONSTANT = (0.0, 2.0, 2.0, 2.0, 2.0, 2.0)  # an ablation: any repeated token alike
BLOCKING = (0.0, 0.0, 0.0, 0.0, 5.0, np.inf)  # an ablation: repeated 4-grams, with a large k
MOST = 1e9  # stands for infinity, so that alpha = 0 lifts it


@struct.dataclass
class Momentum:
    """The choice of the next token, as a law that is certain of it.

    Attributes:
      resistance: f32[M + 1], f by depth, not negative, rising, f(0) = 0.
      alpha: its weight.
      k: static, the likeliest tokens to choose from.
      max_tokens: static; output tokens remembered, to be at least what is generated.
      ignored: i32[E], tokens that are no nodes and cost nothing, such as a begin token that is
        the end token too; E may be 0.
    """

    resistance: Float[Array, "M1"]
    alpha: Float[Array, ""] | float
    k: int = struct.field(pytree_node=False)
    max_tokens: int = struct.field(pytree_node=False)
    ignored: Int[Array, "E"] = struct.field(default_factory=lambda: jnp.zeros((0,), jnp.int32))

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, 0.0)
        check_number("k", self.k, 1)
        check_number("max_tokens", self.max_tokens, 1)

    @classmethod
    def of(
        cls,
        max_tokens: int,
        resistance: Sequence[float] = PUBLISHED,
        alpha: float = 0.2,
        k: int = 5,
        ignored: Sequence[int] = (),
    ) -> Momentum:
        """With the numbers of the published program."""
        table = np.minimum(np.asarray(resistance, np.float64), MOST)
        if table.ndim != 1 or len(table) < 2 or table[0] != 0 or not (np.diff(table) >= 0).all():
            raise ValueError(
                f"resistance={tuple(resistance)}: give f(0) = 0 and then one number for each "
                "depth, none smaller than the one before"
            )
        ids = jnp.asarray(list(ignored), jnp.int32)
        return cls(jnp.asarray(table, jnp.float32), alpha, k, max_tokens, ids)

    def init(self, prompt: Prompt) -> Suffix:
        return Suffix.of(prompt, prompt.tokens.shape[1] + self.max_tokens, self.ignored)

    def depth(self, state: Suffix, candidates: Int[Array, "R K"]) -> Int[Array, "R K"]:
        """d of candidates."""
        return jnp.minimum(state.before(candidates) + 1, self.resistance.shape[0] - 1)

    def apply(self, state: Suffix, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        if self.k > logits.shape[1]:
            raise ValueError(f"k={self.k} exceeds the vocabulary of {logits.shape[1]} tokens")
        p, token = jax.lax.top_k(jax.nn.softmax(logits, axis=1), self.k)
        score = p - self.alpha * self.resistance[self.depth(state, token)]
        score = jnp.where(p > 0, score, -jnp.inf)  # an excluded token stays so
        chosen = jnp.take_along_axis(token, jnp.argmax(score, axis=1)[:, None], axis=1)
        usable = jnp.isfinite(jnp.max(score, axis=1, keepdims=True))
        certain = jnp.where(jnp.arange(logits.shape[1]) == chosen, 0.0, -jnp.inf)
        return jnp.where(usable, certain, jnp.nan)

    def observe(self, state: Suffix, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Suffix:
        return state.append(token, active, self.ignored)


def momentum_decoding(
    model: LanguageModel,
    stop: StopRule,
    max_tokens: int,
    resistance: Sequence[float] = PUBLISHED,
    alpha: float = 0.2,
    k: int = 5,
    ignored: Sequence[int] = (),
) -> Generator:
    """A generator that decodes with momentum.

    Raises:
      ValueError: for k past the model's vocabulary, or a resistance that is none.
    """
    if not 1 <= k <= model.vocab_size:
        raise ValueError(f"k={k} must lie in 1..{model.vocab_size}, the vocabulary's size")
    choice = Momentum.of(max_tokens, resistance, alpha, k, ignored)
    return Generator(model, choice, Greedy(), stop, max_tokens)
