"""What XLA compiles while a block runs: how often, how long, and what right now."""

from __future__ import annotations

import time

from jax import monitoring

# jax reports the end of every phase; lowering ends where the compiler begins.
TRACED = "/jax/core/compile/jaxpr_trace_duration"
LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
COMPILED = "/jax/core/compile/backend_compile_duration"


class Compiles:
    """Counts compilations of this process between entering and leaving.

    Attributes:
      count: programs that were compiled, or read from the persistent cache.
      trace_seconds: Python's part, tracing and lowering; parts traced inside others count
        with them and again by themselves.
      seconds: XLA's part.
      pending: name of the program in the compiler, or None.
    """

    def __init__(self) -> None:
        self.count = 0
        self.trace_seconds = 0.0
        self.seconds = 0.0
        self.pending: str | None = None
        self._since = 0.0

    @property
    def pending_seconds(self) -> float:
        """How long the compiler has been at `pending`."""
        return time.perf_counter() - self._since if self.pending else 0.0

    def _heard(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event in (TRACED, LOWERED):
            self.trace_seconds += duration_secs
        if event == LOWERED:
            self.pending = str(kwargs.get("fun_name", "a program"))
            self._since = time.perf_counter()
        elif event == COMPILED:
            self.count += 1
            self.seconds += duration_secs
            self.pending = None

    def __enter__(self) -> Compiles:
        monitoring.register_event_duration_secs_listener(self._heard)
        return self

    def __exit__(self, *error: object) -> None:
        monitoring.unregister_event_duration_listener(self._heard)
