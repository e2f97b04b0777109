"""No citations: tokens that would continue an n-gram the way a corpus does."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.logits.masking import ban
from jaxdecode.logits.transform import check_number
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.prompt import Prompt
from jaxdecode.text import Text
from jaxdecode.types import Array, Bool, Float, Int

UNREAD = -2  # before a text begins; a corpus holds neither it nor anything that begins so


@struct.dataclass
class NoCitation:
    """Excludes whatever follows the last n tokens, prompt included, anywhere in a corpus.

    What is generated then shares no n + 1 tokens in a row with it. A row whose every token
    would go is left as it is. The rule is on tokens: a word that began is not let finish.

    Attributes:
      corpus: the texts that are not to be cited.
      n: static.
      followers: static, the most occurrences of an n-gram in the corpus.
    """

    rises = False

    corpus: Corpus
    n: int = struct.field(pytree_node=False)
    followers: int = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        check_number("n", self.n, 1)
        check_number("followers", self.followers, 1)

    @classmethod
    def of(cls, documents: Sequence[Sequence[int]], vocab: int, n: int = 5) -> NoCitation:
        """An index of the documents; those shorter than n + 1 tokens are never cited.

        Raises:
          ValueError: for documents without a token or with one outside the vocabulary.
        """
        most = max(_multiplicity(documents, n), 1)
        return cls(Corpus.of(documents, vocab), n, most)

    def init(self, prompt: Prompt) -> Int[Array, "R n"]:
        newest = Text.of(prompt, prompt.tokens.shape[1]).last(self.n)
        return jnp.where(newest < 0, UNREAD, newest)

    def apply(self, state: Int[Array, "R n"], logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        first, last = self.corpus.find(state, jnp.array([self.n]))
        place = first + jnp.arange(self.followers)  # [R, F]
        start = self.corpus.suffixes.at[place].get(mode="fill", fill_value=0)
        token = self.corpus.tokens[start + self.n]
        # An occurrence at the end of its document is followed by the separator, which is < 0.
        cited = jnp.where((place < last) & (token >= 0), token, logits.shape[1])
        blocked = ban(cited, logits)
        usable = jnp.any(blocked > -jnp.inf, axis=1, keepdims=True)
        return jnp.where(usable, blocked, logits)

    def observe(
        self, state: Int[Array, "R n"], token: Int[Array, "R"], active: Bool[Array, "R"]
    ) -> Int[Array, "R n"]:
        newest = jnp.concatenate([state[:, 1:], token[:, None]], axis=1)
        return jnp.where(active[:, None], newest, state)


def _multiplicity(documents: Sequence[Sequence[int]], n: int) -> int:
    """How often the commonest n-gram occurs."""
    rows = [np.asarray(document) for document in documents if len(document) >= n]
    if not rows:
        return 0
    grams = np.concatenate([np.lib.stride_tricks.sliding_window_view(row, n) for row in rows])
    return int(np.unique(grams, axis=0, return_counts=True)[1].max())
