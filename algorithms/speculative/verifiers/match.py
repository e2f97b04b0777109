"""Follow the draft where it holds the token that plain decoding draws.

Exact for any draft, greedy or sampling, and needs no law of the draft: the output is that of
plain decoding with the same key, token for token. It is the verifier of drafts that were
chosen and not drawn: tables, retrieval, the most probable tokens of a head.
"""

from __future__ import annotations

from jaxdecode import struct, verify
from jaxdecode.draft import Draft, Verdict
from jaxdecode.drafter import Drafter
from jaxdecode.judge import Judge
from jaxdecode.types import Array, Key


@struct.dataclass
class Match:
    """Accepts a node if the draw at its parent is its token."""

    def pair(self, drafter: Drafter) -> None:
        """Any drafter will do."""

    def __call__(self, keys: Key[Array, "B"], judge: Judge, draft: Draft, depth: int) -> Verdict:
        return verify.match(judge, draft, depth)
