"""State that the hypotheses of a prompt share, such as a table of n-grams.

Rows are gathered, forked and pruned within their prompt. A `Shared` subtree has one copy per
prompt, which leads with B and not with the B * K rows, and such moves leave it alone.
"""

from __future__ import annotations

from typing import Any

from jaxdecode import struct


@struct.dataclass
class Shared:
    """One value per prompt; leaves lead with B."""

    value: Any
