"""Whether the compiler for TPUs is here, and what it wants to be told; imports nothing heavy."""

from __future__ import annotations

import importlib.util
import os


def setting() -> None:
    """What libtpu wants to be told where there is no TPU; before jax looks for devices."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # else one process a machine


def available() -> bool:
    """Whether the compiler for TPUs is here."""
    return importlib.util.find_spec("libtpu") is not None
