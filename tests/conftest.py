"""Process settings of the test run, made before anything imports jax.

Every setting yields to the environment: `JAX_PLATFORMS=cuda make test` runs on a GPU. Tests that
need several devices start their own process with `--xla_force_host_platform_device_count`.
"""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

DEFAULTS = {
    # Two workers must not fight over one accelerator, and tolerances are those of a CPU's float32.
    "JAX_PLATFORMS": "cpu",
    # Compiled programs outlive the run, the small ones too.
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "MPLBACKEND": "agg",
}
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)

# The first example of a property compiles, so wall time says nothing; examples are the same each
# run, so that a failure is a change in the code and not in the draw.
settings.register_profile("jaxdecode", deadline=None, derandomize=True, database=None)
settings.load_profile("jaxdecode")

ROOM = 1.5e9  # bytes that compiled programs may take up before they are dropped
held = ROOM


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") if statm.exists() else 0


@pytest.fixture(autouse=True)
def lean():
    """Drop compiled programs before they fill the memory; the cache on disk keeps them."""
    global held
    yield
    if resident() > held + ROOM:
        import jax

        jax.clear_caches()
        gc.collect()
        held = resident()
