"""A decoder as a program for a topology: models are shapes, and no TPU need be there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity, Temperature, TopP, chain
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.sharding import Sharded, named_shardings
from jaxdecode.stop import Stop
from models.config import TransformerConfig
from models.presets import LLAMA_3_1_8B
from models.transformer import Transformer, abstract


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
        model = placed(abstract(self.config.part(0, self.layers)), mesh)
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
