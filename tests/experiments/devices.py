"""Commands in a process of their own with eight devices: jax fixes their number as it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from tests.experiments.forking import SECONDS

SCRIPT = """
import importlib, json, sys
name, lines = json.loads(sys.argv[1])
for line in lines:
    importlib.import_module(name).main(line)
"""


def run(command: str, lines: Sequence[Sequence[str]]) -> str:
    """What a command prints, called once for every line of arguments."""
    module = f"experiments.commands.{command}.main"
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([module, [list(line) for line in lines]])],
        env=os.environ | {"XLA_FLAGS": flags, "PJRT_NPROC": "64"},
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
