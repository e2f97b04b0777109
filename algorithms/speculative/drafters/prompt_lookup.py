"""What followed the end of the text when it last began like this is drafted again.

Prompt lookup decoding (Saxena 2023): the newest 3 tokens, else 2, else 1, are looked for
earlier in the text; what follows the first occurrence is a chain of drafts.
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.draft import Draft, Shape, Spent
from jaxdecode.drafter import Now, Outcome
from jaxdecode.lm import LanguageModel
from jaxdecode.ngram.lookup import lookup
from jaxdecode.prompt import Prompt
from jaxdecode.text import Text
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class PromptLookup:
    """Drafts `length` tokens that occurred before.

    Attributes:
      length: static.
      longest, shortest: static, how many of the newest tokens are looked for.
      whole: static; an occurrence counts only if `length` tokens follow it.
    """

    length: int = struct.field(pytree_node=False, default=10)
    longest: int = struct.field(pytree_node=False, default=3)
    shortest: int = struct.field(pytree_node=False, default=1)
    whole: bool = struct.field(pytree_node=False, default=True)

    drawn = False
    vocab_size = None

    def __post_init__(self) -> None:
        if self.length < 1 or not 1 <= self.shortest <= self.longest:
            raise ValueError(
                f"length={self.length}, longest={self.longest}, shortest={self.shortest}: draft "
                "at least one token, and look for 1 <= shortest <= longest"
            )

    @property
    def nodes(self) -> int:
        return self.length

    @property
    def depth(self) -> int:
        return self.length

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Text:
        return Text.of(prompt, room)

    def followed(self, state: Text) -> Int[Array, "B N"]:
        """What came after the occurrence, -1 beyond its end."""
        found = lookup(state, 1, self.length, self.longest, self.shortest, self.whole)
        return found.tokens[:, 0]

    def finds(self, state: Text) -> Bool[Array, "B"]:
        return self.followed(state)[:, 0] >= 0

    def propose(self, target: LanguageModel, state: Text, now: Now) -> tuple[Draft, Text]:
        tokens, batch = self.followed(state), now.root.shape[0]
        draft = Draft(
            tokens=jnp.maximum(tokens, 0),
            shape=Shape.line(batch, self.length),
            valid=(tokens >= 0) & now.active[:, None],
            spent=Spent.nothing(batch),
        )
        return draft, state

    def commit(self, target: LanguageModel, state: Text, draft: Draft, outcome: Outcome) -> Text:
        return state.append(outcome.tokens, outcome.count)
