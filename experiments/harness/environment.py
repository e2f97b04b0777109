"""Where a number was measured: versions, devices, precision, commit. No names, no paths."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).resolve().parents[2]
CODE = ("jaxdecode", "models", "algorithms", "experiments")
WRITTEN = (":(exclude)experiments/results", ":(exclude)*.md")  # by recording, not by hand
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "jaxdecode")


def environment() -> dict[str, Any]:
    """What a reader needs to judge or repeat a measurement on another machine."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "device": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
        "cpu": cpu_model(),
        "cpus": usable_cpus(),
        "dtype": str(jax.numpy.zeros(()).dtype),
        "matmul_precision": jax.config.values["jax_default_matmul_precision"] or "default",
        "xla_flags": [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "/" not in flag],
        "commit": commit(),
        "changed": changes()[:20],
    }


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def usable_cpus() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str | None:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def git(*arguments: str) -> str | None:
    """What git says about the checkout; None outside of one, or where it refuses."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.rstrip()


def commit() -> str | None:
    """The checkout's commit, with a `+` if code differs from it; None outside git."""
    head = git("rev-parse", "--short=12", "HEAD")
    return None if head is None else head + ("+" if changes() else "")


def changes() -> list[str]:
    """Tracked files that differ from the commit, and new modules beside them.

    Pages and results of record do not count: no measurement reads them, and one run after the
    other is recorded.
    """
    tracked = git("status", "--porcelain", "--untracked-files=no", "--", ".", *WRITTEN) or ""
    modules = [f"{house}/*.py" for house in CODE]
    new = git("ls-files", "--others", "--exclude-standard", "--", *modules) or ""
    return [line[3:] for line in tracked.splitlines()] + new.splitlines()


def keep_compiled() -> None:
    """Keep compiled programs between runs, small ones too, unless the user chose a place."""
    settings = {
        "JAX_COMPILATION_CACHE_DIR": ("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": (
            "jax_persistent_cache_min_compile_time_secs",
            0.0,
        ),
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": (
            "jax_persistent_cache_min_entry_size_bytes",
            -1,
        ),
    }
    for variable, (option, value) in settings.items():
        if variable not in os.environ:
            jax.config.update(option, value)
