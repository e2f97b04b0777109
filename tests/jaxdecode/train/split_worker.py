"""Trains on one device and split over eight, and writes what came out; see `test_split.py`.

    python -m tests.jaxdecode.train.split_worker FOLDER

A process of its own, because the number of devices is fixed when jax starts.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from algorithms.alignment.calibration import RawReward
from algorithms.alignment.optimising import Plan, optimise
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import RewardScorer
from jaxdecode.sharding import FSDP, RULES, Rules, make_mesh, shard, shard_rows
from jaxdecode.stop import Stop
from jaxdecode.train.accumulate import Accumulate
from jaxdecode.train.fit import fit
from jaxdecode.train.lora import LoRA, merged
from jaxdecode.train.losses import next_token
from jaxdecode.train.preferences import dpo, pair_loss
from jaxdecode.train.sequences import Sequences
from jaxdecode.train.update import updater
from models.config import TransformerConfig
from models.parameters import parameters
from models.rewards import RewardModel
from models.rope import Rope
from models.transformer import Transformer, arrays_of

EVEN = TransformerConfig(
    vocab_size=48, hidden=32, mlp=64, layers=2, heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8)
)
ODD = dataclasses.replace(EVEN, vocab_size=45, hidden=18, mlp=25, kv_heads=1, remat=True)
"""Four groups of devices do not divide its residual stream, and nothing divides its MLP."""
ROWS, LENGTH, STEPS = 8, 10, 3
ADAM = optax.adam(1e-2, eps=1e-3)  # or a gradient that is all rounding would be a whole step
PROMPTS = [[5 + row, 7, 9, 11][: 1 + row % 4] for row in range(ROWS)]


def model_of(config: TransformerConfig, seed: int = 0) -> Transformer:
    """Weights large enough for tokens to differ in probability."""
    rng = np.random.default_rng(seed)
    shapes = {path: weight.shape for path, weight in parameters(config).items()}
    arrays = {path: jnp.float32(rng.normal(0, 0.3, shape)) for path, shape in shapes.items()}
    return Transformer(config, arrays=arrays)


def laid(tree: Any, mesh: Mesh | None) -> Any:
    return tree if mesh is None else shard_rows(tree, mesh)


def texts(config: TransformerConfig, seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, config.vocab_size, (ROWS, LENGTH), np.int32)
    length = rng.integers(4, LENGTH + 1, ROWS, np.int32)
    index = np.arange(LENGTH)
    said = (index >= 2) & (index < length[:, None])
    return Sequences(jnp.asarray(tokens), jnp.asarray(length), jnp.asarray(said))


def supervised(mesh: Mesh | None, rules: Rules) -> Any:
    def batches(step: int) -> dict[str, Any]:
        tokens, length, said = texts(EVEN, step)
        return laid({"tokens": tokens, "loss_mask": said, "length": length}, mesh)

    model = model_of(EVEN) if mesh is None else shard(model_of(EVEN), mesh, rules)
    parts = Accumulate(2)
    return fit(model, next_token, batches, ADAM, STEPS, accumulate=parts)


def preferred(mesh: Mesh | None, rules: Rules) -> Any:
    """Adapters of a model that does not divide evenly."""

    def batches(step: int) -> dict[str, Any]:
        reference = np.full(ROWS, -20, np.float32)
        pairs = {"chosen": texts(ODD, step), "rejected": texts(ODD, 100 + step)}
        pairs |= {f"{name}_reference": reference for name in pairs}
        return laid(pairs, mesh) | {"terms": dpo(0.5)}

    model = model_of(ODD) if mesh is None else shard(model_of(ODD), mesh, rules)
    adapted = LoRA(rank=2, projections=("q", "v", "down")).adapt(model)
    return merged(fit(adapted, pair_loss, batches, ADAM, STEPS))


def drawn(mesh: Mesh | None, rules: Rules) -> Any:
    """A policy gradient, its responses judged by a model."""
    config = dataclasses.replace(EVEN, layers=1, tied=True)
    reward = RewardModel.create(config, rngs=nnx.Rngs(1))
    plan = Plan(prompts=ROWS, group=2, steps=STEPS, optimizer=ADAM, mesh=mesh, fsdp=rules is FSDP)
    generator = Generator(model_of(EVEN), Identity(), Categorical(), Stop.of(2), 4)
    return optimise(generator, RawReward(RewardScorer(reward)), PROMPTS, 0.1, plan)


RUNS: Mapping[str, Callable[[Mesh | None, Rules], Any]] = {
    "supervised": supervised,
    "preferred": preferred,
    "drawn": drawn,
}


def measured(run: Callable[[], Any]) -> dict[str, Any]:
    """The weights that a run ends with, and what its step takes of a device."""
    told: dict[str, Any] = {}

    def recording(*arguments: Any) -> Callable[..., Any]:
        update, programs = updater(*arguments), []

        def step(params: Any, frozen: Any, state: Any, batch: Any) -> Any:
            given = params, frozen, state, batch
            if not programs:
                programs.append(update.lower(*given).compile())
                memory = programs[0].memory_analysis()
                told["arguments"] = memory.argument_size_in_bytes
                told["aliased"] = memory.alias_size_in_bytes
                told["temporary"] = memory.temp_size_in_bytes
                told["replaced"] = held((params, state))
                told["frozen"] = held(frozen)
            return programs[0](*given)

        return step

    with mock.patch("jaxdecode.train.fit.updater", recording):
        weights = listed(run())
    return told | {"weights": weights}


def listed(model: Transformer) -> dict[str, Any]:
    return {path: np.asarray(array).tolist() for path, array in arrays_of(model).items()}


def held(tree: Any) -> int:
    """Bytes on a device."""
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


def main(folder: Path) -> None:
    mesh = make_mesh(4, 2)
    found: dict[str, Any] = {}
    for name, run in RUNS.items():
        config = ODD if run is preferred else EVEN
        found[name] = {
            "before": listed(model_of(config)),
            "one device": measured(lambda run=run: run(None, RULES)),
            "split": measured(lambda run=run: run(mesh, FSDP)),
        }
    found["supervised"]["model alone"] = measured(lambda: supervised(mesh, RULES))
    (folder / "split.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
