"""Process settings of the test run, made before anything imports jax.

Every setting yields to the environment: `JAX_PLATFORMS=cuda make test` runs on a GPU. Tests that
need several devices start their own process with `--xla_force_host_platform_device_count`.
"""

import contextlib
import functools
import gc
import os
import time
from pathlib import Path

import pytest
from hypothesis import settings

from tests import annotations

ROOT = Path(__file__).resolve().parents[1]

DEFAULTS = {
    # Two workers must not fight over one accelerator, and tolerances are those of a CPU's float32.
    "JAX_PLATFORMS": "cpu",
    # Compiled programs outlive the run, the small ones too.
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "MPLBACKEND": "agg",
    # Thousands of small programs are compiled and run for milliseconds each, so that optimising
    # them is most of the work: without it the suite takes half the time. Nor are they cut into
    # parts for idle cores, which there are not: that is a sixth of the compiler's work, and twice
    # the mappings. `make optimized` runs the engines as users compile them.
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1",
}
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)

annotations.install()

# The first example of a property compiles, so wall time says nothing; examples are the same each
# run, so that a failure is a change in the code and not in the draw.
settings.register_profile("jaxdecode", deadline=None, derandomize=True, database=None)
settings.load_profile("jaxdecode")

# What jax sets up for every program that it lowers, four fifths of the time that a small one takes,
# and keeps as long as the program, which slows the next ones: here all share it. Nothing depends
# on the name, which is jax's own; where it is gone, lowering is as slow as it is for users.
with contextlib.suppress(ImportError, AttributeError):
    from jax._src.interpreters import mlir

    mlir.make_ir_context = functools.cache(mlir.make_ir_context)

MAPPINGS = 25_000  # a compiled program takes tens of mappings; Linux gives a process 65,530
PAUSE = 5.0  # seconds between two counts, which cost milliseconds
counted = 0.0


def mappings() -> int:
    """How many memory mappings this process holds; 0 where the system does not say."""
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0


@pytest.fixture(autouse=True)
def lean():
    """Drop compiled programs before the process runs out of mappings, which would kill it.

    The cache on disk keeps them.
    """
    global counted
    yield
    if time.monotonic() < counted + PAUSE:
        return
    if mappings() > MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()
    counted = time.monotonic()
