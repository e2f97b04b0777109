"""Runs decoders and training on meshes and writes what came out; see `test_sharding.py`.

    python -m tests.jaxdecode.mesh_worker FOLDER TASK...

A process of its own, because the number of devices is fixed when jax starts. With the
environment that `jaxdecode.distributed.initialize` reads, several of them are one run. Every
task writes FOLDER/TASK.json; tasks are the functions below that take a folder.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from algorithms.alignment.infalign import Plan, infalign
from algorithms.alignment.procedures import BestOf
from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.speculative_rejection import SpeculativeRejection
from jaxdecode import autoregress
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode, decode_all
from jaxdecode.distributed import from_all, initialize, primary
from jaxdecode.logits import Identity, Temperature
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import FunctionScorer, LikelihoodScorer, RewardScorer
from jaxdecode.sharding import Sharded, make_mesh, named_shardings, own_rows, shard, shard_rows
from jaxdecode.stop import Stop
from jaxdecode.stream import stream
from jaxdecode.train.accumulate import Accumulate
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.losses import next_token
from models.checkpoints import Checkpoint, load
from models.config import TransformerConfig
from models.export import save
from models.parameters import count, parameters
from models.rewards import RewardModel
from models.rope import Rope
from models.transformer import Transformer, abstract, arrays_of

CONFIG = TransformerConfig(
    vocab_size=48, hidden=16, mlp=32, layers=2, heads=4, kv_heads=2, head_dim=4, rope=Rope(width=4)
)
SEQUENCES = [[5 + row, 7, 9, 11][: 1 + row % 4] for row in range(8)]
BATCH = 8


def worth(prompt, prompt_length, tokens, length):
    """More for high tokens and for short responses."""
    said = jax.numpy.arange(tokens.shape[1]) < length[:, None]
    return jax.numpy.sum(jax.numpy.where(said, tokens / 48 - 0.3, 0.0), axis=1)


WORTH = FunctionScorer(worth)
ALIGNING = Plan(samples=32, prompts=BATCH, group=4, optimizer=optax.adam(0.02), batch=8)


def language_model() -> Transformer:
    """Weights large enough for the most probable token to stand out."""
    rng = np.random.default_rng(0)
    shapes = {path: weight.shape for path, weight in parameters(CONFIG).items()}
    arrays = {path: rng.normal(0, 0.4, shape) for path, shape in shapes.items()}
    return Transformer(CONFIG, arrays={p: jax.numpy.float32(a) for p, a in arrays.items()})


def decoders() -> dict[str, Any]:
    model, stop = language_model(), Stop.of(2)
    reward = RewardModel.create(dataclasses.replace(CONFIG, layers=1), rngs=nnx.Rngs(1))
    sampler = Generator(model, Temperature(0.8), Categorical(), stop, 12)
    return {
        "greedy": Autoregressive(Generator(model, Temperature(1.0), Greedy(), stop, 12)),
        "sampling": Autoregressive(sampler),
        "best of n": BestOfN(sampler, LikelihoodScorer(model), samples=4, wave=2),
        "rejection": SpeculativeRejection(sampler, RewardScorer(reward), budget=80, width=4),
    }


def mesh_of(name: str) -> Mesh:
    data, model = map(int, name.split("x"))
    return make_mesh(data, model, jax.devices()[: data * model])


def outcome(result: Result) -> dict[str, Any]:
    names = ("tokens", "length", "status", "logprob")
    return {name: np.asarray(getattr(result, name)).tolist() for name in names}


def decoding(folder: Path) -> dict[str, Any]:
    """Every decoder on one device and on meshes: those that split both, and one on all."""
    prompt, found = Prompt.of(SEQUENCES), {}
    for name, decoder in decoders().items():
        found[name] = {"one device": outcome(decode(decoder, 3, prompt))}
        for mesh in ("1x1", "8x1", "4x2", "2x4") if name == "greedy" else ("4x2", "2x4"):
            found[name][mesh] = outcome(decode(Sharded.of(decoder, mesh_of(mesh)), 3, prompt))
    return found


def layout(folder: Path) -> dict[str, Any]:
    """Where the cache lies, and what crosses between devices that share no row."""
    model, rejection = language_model(), decoders()["rejection"]
    sampler = Generator(model, Temperature(0.8), Categorical(), Stop.of(2), 12)
    generate = jax.jit(autoregress.generate, static_argnums=3)
    found: dict[str, Any] = {}
    for name in ("4x2", "2x4"):
        prompt = shard_rows(Prompt.of(SEQUENCES), mesh_of(name))
        rows = generate(shard(sampler, mesh_of(name)), jax.random.key(0), prompt, 2)
        parts = (rows.cache.k, rows.cache.v, rows.tokens)
        found[name] = [array.addressable_shards[0].data.shape for array in parts]
    prompt, decoder = (
        shard_rows(Prompt.of(SEQUENCES), mesh_of("8x1")),
        shard(rejection, mesh_of("8x1")),
    )
    lowered = jax.jit(lambda d, key, p: d(key, p)).lower(decoder, jax.random.key(0), prompt)
    moves = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    text = lowered.compile().as_text() or ""
    return found | {"moved": sorted(set(re.findall(rf"= (\S+) (?:{moves})(?:-start)?\(", text)))}


def ragged(folder: Path) -> dict[str, list[list[int]]]:
    """A data set in batches that do not divide over `data`, and a stream."""
    mesh, greedy = mesh_of("4x2"), decoders()["greedy"]
    results = decode_all(Sharded.of(greedy, mesh), 3, SEQUENCES, 3)
    streamed: list[list[int]] = [[] for _ in SEQUENCES]
    generator = shard(greedy.generator, mesh)
    for piece in stream(generator, 3, shard_rows(Prompt.of(SEQUENCES), mesh), 5):
        for text, tokens in zip(streamed, piece.tokens, strict=True):
            text.extend(tokens.tolist())
    return {
        "texts": [result.tokens[0, : result.length[0]].tolist() for _, result in results],
        "streamed": streamed,
    }


def loading(folder: Path) -> dict[str, Any]:
    """A checkpoint read straight into its shards."""
    model = language_model()
    save(model, folder / "checkpoint")
    config = Checkpoint(folder / "checkpoint").config
    found: dict[str, Any] = {"size": count(config)}
    for name in ("4x2", "2x4"):
        shardings = named_shardings(abstract(config), mesh_of(name))
        with mock.patch.object(
            Checkpoint, "read", autospec=True, side_effect=Checkpoint.read
        ) as read:
            arrays = arrays_of(load(folder / "checkpoint", shardings=shardings))
        found[name] = {
            "parts": {p: a.addressable_shards[5].data.shape for p, a in arrays.items()},
            "devices": sorted({len(a.addressable_shards) for a in arrays.values()}),
            "equal": all(np.array_equal(a, arrays[p]) for p, a in arrays_of(model).items()),
            "elements": sum(np.size(read.side_effect(*call.args)) for call in read.call_args_list),
        }
    return found


def train(mesh: Mesh | None, steps: int, checkpoints: Checkpoints | None) -> dict[str, Any]:
    """Losses of a few steps, and the largest part of each weight that a device holds."""

    def batches(step: int) -> dict[str, Any]:
        tokens = np.random.default_rng(step).integers(0, 48, (BATCH, 12))
        batch = {"tokens": tokens, "loss_mask": tokens > 4, "length": np.full(BATCH, 12)}
        if mesh is None:
            return batch
        own = own_rows(mesh, BATCH)
        return shard_rows({name: array[own] for name, array in batch.items()}, mesh)

    losses: list[float] = []
    model = language_model() if mesh is None else shard(language_model(), mesh)
    trained = fit(
        model,
        next_token,
        batches,
        optax.adam(1e-2),
        steps,
        checkpoints,
        watch=lambda _, means: losses.append(means["loss"]),
        watch_every=1,
    )
    parts = {p: a.addressable_shards[0].data.shape for p, a in arrays_of(trained).items()}
    return {"losses": losses, "parts": parts}


def training(folder: Path) -> dict[str, Any]:
    """Five steps on one device and on a mesh, there with a stop after the third."""
    alone, mesh = train(None, 5, None), mesh_of("4x2")
    where = Checkpoints(folder / "run", every=3)
    first, second = train(mesh, 3, where), train(mesh, 5, where)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return {"alone": alone, "first": first, "second": second, "logged": len(lines)}


def aligned(folder: Path | None, mesh: Mesh | None, steps: int) -> list[dict[str, float]]:
    """What a policy aligned for best-of-4 told at every step."""
    told: list[Mapping[str, float]] = []
    generator = Generator(language_model(), Identity(), Categorical(), Stop.of(2), 6)
    # In parts where there are many devices, and at once on one: the same gradient.
    parts = Accumulate(1 if mesh is None else 2)
    plan = dataclasses.replace(ALIGNING, steps=steps, mesh=mesh, accumulate=parts)
    infalign(
        generator, WORTH, SEQUENCES, 0.1, BestOf(4), None, plan, folder, lambda _, m: told.append(m)
    )
    return [{name: means[name] for name in ("loss", "reward", "kl")} for means in told]


def aligning(folder: Path) -> dict[str, Any]:
    """Calibrate, transform, optimise on one device and on a mesh, there with a stop."""
    mesh = mesh_of("4x2")
    alone = aligned(None, None, 6)
    first, second = (aligned(folder / "aligned", mesh, steps) for steps in (3, 6))
    return {"alone": alone, "mesh": [*first, *second], "resumed": len(second)}


def together(folder: Path) -> dict[str, Any]:
    """What two processes do as one: decode, read rows of their own, refuse, train, resume."""
    mesh, sampling, prompt = mesh_of("4x2"), decoders()["sampling"], Prompt.of(SEQUENCES)
    sharded, own = Sharded.of(sampling, mesh), own_rows(mesh, BATCH).tolist()
    part = Prompt.of([SEQUENCES[i] for i in own], own, 16)
    wrong = Prompt.of([[99 if primary() else 5]] * len(own), own, 16)
    refusal = ""
    try:
        decode(sharded, 3, shard_rows(wrong, mesh))
    except ValueError as error:
        refusal = str(error)
    return {
        "one device": outcome(decode(sampling, 3, prompt)),
        "same prompts": outcome(decode(sharded, 3, prompt)),
        "own prompts": outcome(decode(sharded, 3, shard_rows(part, mesh))),
        "own": own,
        "refusal": refusal,
        "from all": from_all("x" * (1 + jax.process_index())),
        "training": training(folder),
    }


def refusals(folder: Path) -> dict[str, str]:
    """What is refused, and in which words."""
    mesh, model = mesh_of("4x2"), language_model()
    greedy = Sharded.of(decoders()["greedy"], mesh)
    attempts: dict[str, Callable[[], Any]] = {
        "devices": lambda: make_mesh(2, 3),
        "axis": lambda: make_mesh(8, 0),
        "rows": lambda: shard_rows(Prompt.of(SEQUENCES[:6]), mesh),
        "batch": lambda: own_rows(mesh, 6),
        "rule": lambda: named_shardings(model, mesh, {"heads": "modle"}),
        "prompt": lambda: decode(greedy, 0, Prompt.of([[1], [99]])),
    }
    found = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except ValueError as error:
            found[name] = str(error)
    return found


TASKS = (decoding, layout, ragged, loading, training, aligning, together, refusals)


def main(folder: Path, *names: str) -> None:
    initialize()
    for task in TASKS:
        if task.__name__ in names:
            found = task(folder)
            name = task.__name__ + ("" if primary() else f".{jax.process_index()}")
            (folder / f"{name}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
