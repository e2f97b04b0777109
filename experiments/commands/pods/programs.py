"""The programs whose compilation is watched: one a family, few layers, published widths.

What counts is the cost of a layer and of what surrounds the layers, so that two layers stand for
thirty-two. Models are shapes on a described topology: nothing is allocated, and no TPU is needed.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from algorithms.search.beam_search import BeamSearch
from algorithms.search.particles import Particles
from algorithms.selection.speculative_rejection import SpeculativeRejection
from algorithms.speculative.prompt_lookup import prompt_lookup
from algorithms.speculative.token_recycling import token_recycling
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity, Temperature, TopP, chain
from jaxdecode.plain import Autoregressive
from jaxdecode.process_reward import StepFunction
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import FunctionScorer
from jaxdecode.sharding import Sharded, named_shardings
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from models.config import TransformerConfig
from models.presets import LLAMA_3_1_8B, LLAMA_3_2_1B
from models.transformer import Transformer, abstract

ROOT = (-1,)
TREE = (
    ROOT * 4
    + tuple(node for node in range(4) for _ in range(4))
    + tuple(range(4, 20))
    + (tuple(range(20, 36)) + tuple(range(36, 44)))
)
"""60 nodes: 4 children of the root with 4 each, and lines below them."""


def setting() -> None:
    """What libtpu wants to be told where there is no TPU; before jax looks for devices."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # else one process a machine


def available() -> bool:
    """Whether the compiler for TPUs is here."""
    return importlib.util.find_spec("libtpu") is not None


def mesh_of(topology: str, data: int, model: int) -> Mesh:
    """A mesh of devices that need not be there."""
    described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    devices = np.array(described.devices)
    if data * model != devices.size:
        raise ValueError(
            f"data={data} x model={model} makes {data * model} devices and {topology} has "
            f"{devices.size}"
        )
    return Mesh(devices.reshape(data, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def placed(model: Transformer, mesh: Mesh) -> Transformer:
    """An abstract model on a mesh."""
    weights, structure = jax.tree.flatten(model)
    where = named_shardings(model, mesh).values()
    return jax.tree.unflatten(
        structure,
        [
            jax.ShapeDtypeStruct(weight.shape, weight.dtype, sharding=sharding)
            for weight, sharding in zip(weights, where, strict=True)
        ],
    )


def prompts(mesh: Mesh, batch: int, width: int) -> Prompt:
    """Abstract prompts, their rows split over a mesh."""

    def rows(*shape: int) -> Any:
        spec = NamedSharding(mesh, PartitionSpec("data"))
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=spec)

    return Prompt(rows(batch, width), rows(batch), rows(batch))


@dataclass(frozen=True)
class Program:
    """A decoder of a model on a mesh.

    Attributes:
      decoder: what is made of a generator that draws, or of one that does not.
      config: the model's, of which `layers` are compiled.
      topology, data, model: the mesh.
      batch, prompt, new: rows in all, and tokens.
    """

    decoder: Callable[[Generator, Generator], Any]
    config: TransformerConfig = LLAMA_3_1_8B
    layers: int = 2
    topology: str = "v5p:2x2x1"
    data: int = 1
    model: int = 4
    batch: int = 16
    prompt: int = 96
    new: int = 1280

    def compile(self) -> Any:
        """The program for its topology."""
        mesh = mesh_of(self.topology, self.data, self.model)
        model = placed(abstract(replace(self.config, layers=self.layers)), mesh)
        rules = Stop.of(2), self.new
        drawn = Generator(model, chain(Temperature(0.7), TopP(0.9)), Categorical(), *rules)
        decoder = self.decoder(drawn, Generator(model, Identity(), Greedy(), *rules))
        key = jax.eval_shape(lambda: jax.random.key(0))
        key = jax.ShapeDtypeStruct(
            key.shape, key.dtype, sharding=NamedSharding(mesh, PartitionSpec())
        )

        def run(decoder, key, prompt):
            return Sharded(decoder, mesh)(key, prompt)

        return jax.jit(run).lower(decoder, key, prompts(mesh, self.batch, self.prompt)).compile()


def worth(prompt, prompt_length, tokens, length):
    """More for a long response of high tokens; any function of a text would do."""
    return jnp.sum(jnp.where(jnp.arange(tokens.shape[1]) < length[:, None], tokens, 0), axis=1) / 9


def recycled(drawn: Generator, greedy: Generator) -> Autoregressive:
    table: Any = jax.ShapeDtypeStruct((greedy.model.vocab_size, 8), jnp.int32)
    return Autoregressive(token_recycling(greedy, table, TREE))


SMALL = {"config": LLAMA_3_2_1B, "topology": "v5e:2x2", "data": 4, "model": 1}
PROGRAMS: dict[str, Program] = {
    "greedy": Program(lambda drawn, greedy: Autoregressive(greedy)),
    "greedy, 64 rows": Program(lambda drawn, greedy: Autoregressive(greedy), batch=64),
    "sampled": Program(lambda drawn, greedy: Autoregressive(drawn)),
    "chain": Program(lambda drawn, greedy: Autoregressive(prompt_lookup(drawn)), **SMALL),
    "tree": Program(recycled, **SMALL),
    "pruned": Program(
        lambda drawn, greedy: SpeculativeRejection(drawn, FunctionScorer(worth), 2048, 8),
        batch=4,
        new=512,
        **SMALL,
    ),
    "beams": Program(lambda drawn, greedy: BeamSearch(greedy, 4), new=256, **SMALL),
    "arena": Program(
        lambda drawn, greedy: Particles(
            StepSampler(drawn, Stop.of(198), 16, 8), StepFunction(worth), 4
        ),
        new=128,
        **SMALL,
    ),
}
