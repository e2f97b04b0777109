"""PEARL on two devices emits what it emits on one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.overlap import Overlap
from algorithms.speculative.pearl import pearl
from algorithms.speculative.policies.fixed import Fixed
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Temperature
from jaxdecode.sampling import Categorical
from jaxdecode.speculate import Speculator
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM

ROOT = Path(__file__).resolve().parents[2]
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def test_two_devices_emit_what_one_does() -> None:
    flags = f"{QUICK} --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-m", "tests.algorithms.overlap_worker"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in ("greedy", "sampling"):
        one, two = found[name]["one"], found[name]["two"]
        assert two.pop("devices") == [1] != one.pop("devices")
        assert one == two
    assert sum(found["greedy"]["one"]["accepted"]) > 0
    assert found["greedy"]["one"]["tokens"] != found["sampling"]["one"]["tokens"]


def test_bad_input_is_refused() -> None:
    target = EnumerableLM.random(3, 5)
    generator = Generator(target, Temperature(1.0), Categorical(), Stop.of(()), 4)
    one, other = jax.devices()[0], object()
    chained = Speculator(generator, Chain(target, 2), Residual())
    with pytest.raises(ValueError, match="its drafter is Chain"):
        Overlap(chained, one, other)
    with pytest.raises(ValueError, match="its drafter is Parallel"):
        Overlap(pearl(generator, target, 2, post_verify=False), one, other)
    spec = pearl(generator, target, 2)
    with pytest.raises(ValueError, match="its policy is Fixed"):
        Overlap(Speculator(generator, spec.drafter, Residual(), Fixed(1)), one, other)
    with pytest.raises(ValueError, match="nothing would overlap"):
        Overlap(spec, one, one)
