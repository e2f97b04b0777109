"""Continuations found in a corpus, or in the text itself, drafted as a tree.

REST (He et al. 2023, arXiv:2311.08252): the longest end of the text, of 16 to 2 tokens, that
occurs in a corpus is looked up, and of what follows its occurrences the 64 prefixes that occur
most are drafted. A miss drafts nothing here, where the published code drafts a dummy token.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxdecode import struct
from jaxdecode.draft import Draft
from jaxdecode.drafter import Now, Outcome
from jaxdecode.lm import LanguageModel
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.ngram.lookup import lookup
from jaxdecode.ngram.trie import Continuations, grow
from jaxdecode.prompt import Prompt
from jaxdecode.text import Text
from jaxdecode.types import Array, Float


@runtime_checkable
class Source(Protocol):
    """Where continuations come from."""

    @property
    def length(self) -> int:
        """Tokens of a continuation."""
        ...

    @property
    def vocab_size(self) -> int | None:
        """Of its tokens, if it has its own."""
        ...

    def __call__(self, text: Text) -> Continuations: ...


def _check_ends(longest: int, shortest: int) -> None:
    if not 1 <= shortest <= longest:
        raise ValueError(
            f"longest={longest}, shortest={shortest}: look for 1 <= shortest <= longest tokens"
        )


@struct.dataclass
class Datastore:
    """A corpus; the longest end of the text that occurs in it counts.

    Attributes:
      corpus: see `Corpus`.
      matches: static, the most occurrences to look at.
      length: static, tokens of a continuation.
      longest, shortest: static, tokens of an end.
    """

    corpus: Corpus
    matches: int = struct.field(pytree_node=False, default=64, range=(1, 2**24))
    length: int = struct.field(pytree_node=False, default=10, range=(1, 2**24))
    longest: int = struct.field(pytree_node=False, default=16)
    shortest: int = struct.field(pytree_node=False, default=2)

    def __post_init__(self) -> None:
        _check_ends(self.longest, self.shortest)

    @property
    def vocab_size(self) -> int:
        return self.corpus.vocab

    def __call__(self, text: Text) -> Continuations:
        return self.corpus.retrieve(text, self.matches, self.length, self.longest, self.shortest)


@struct.dataclass
class Within:
    """The text itself, prompt and output. Attributes are those of `lookup`, all static."""

    matches: int = struct.field(pytree_node=False, default=16, range=(1, 2**24))
    length: int = struct.field(pytree_node=False, default=10, range=(1, 2**24))
    longest: int = struct.field(pytree_node=False, default=3)
    shortest: int = struct.field(pytree_node=False, default=1)
    whole: bool = struct.field(pytree_node=False, default=False)

    vocab_size = None

    def __post_init__(self) -> None:
        _check_ends(self.longest, self.shortest)

    def __call__(self, text: Text) -> Continuations:
        return lookup(text, self.matches, self.length, self.longest, self.shortest, self.whole)


@struct.dataclass
class Retrieval:
    """Drafts the tree of the continuations that a source finds.

    Attributes:
      source: see `Source`.
      nodes: static, the most nodes of the tree.
    """

    source: Source
    nodes: int = struct.field(pytree_node=False, default=64)

    drawn = False

    @property
    def depth(self) -> int:
        return min(self.source.length, self.nodes)

    @property
    def vocab_size(self) -> int | None:
        return self.source.vocab_size

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Text:
        return Text.of(prompt, room)

    def propose(self, target: LanguageModel, state: Text, now: Now) -> tuple[Draft, Text]:
        return grow(self.source(state), self.nodes).draft(now.active, self.depth), state

    def commit(self, target: LanguageModel, state: Text, draft: Draft, outcome: Outcome) -> Text:
        return state.append(outcome.tokens, outcome.count)
