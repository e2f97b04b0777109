"""Plain decoding, beside the methods that it is compared with; see `jaxdecode.plain`."""

from __future__ import annotations

from jaxdecode.plain import Autoregressive

__all__ = ["Autoregressive"]
