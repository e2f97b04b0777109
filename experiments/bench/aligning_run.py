"""A small aligning run, as a process that can be killed; see `experiments.bench.resilience`.

    python -m experiments aligning_run FOLDER STEPS SAVE [DATA MODEL]

InfAlign for best-of-4 by RLOO, of an untrained model and a known reward, kept in FOLDER; on one
device, or on a mesh of DATA x MODEL out of those of all processes. A run that ends writes the
hash of its weights, bit for bit, to FOLDER/digest.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from algorithms.alignment.infalign import Plan, infalign
from algorithms.alignment.procedures import BestOf
from experiments.harness.environment import keep_compiled
from experiments.harness.files import write_atomically
from jaxdecode.autoregress import Generator
from jaxdecode.distributed import initialize
from jaxdecode.logits import Identity
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import FunctionScorer
from jaxdecode.sharding import make_mesh
from jaxdecode.stop import Stop
from models.config import TransformerConfig
from models.parameters import parameters
from models.rope import Rope
from models.transformer import Transformer

CONFIG = TransformerConfig(
    vocab_size=48, hidden=16, mlp=32, layers=2, heads=4, kv_heads=2, head_dim=4, rope=Rope(width=4)
)
PROMPTS = [[5 + row, 7, 9, 11][: 1 + row % 4] for row in range(16)]
BETA = 0.1


def untrained() -> Transformer:
    """Weights large enough for the tokens to differ in probability."""
    rng = np.random.default_rng(0)
    shapes = {path: weight.shape for path, weight in parameters(CONFIG).items()}
    arrays = {path: jnp.float32(rng.normal(0, 0.4, shape)) for path, shape in shapes.items()}
    return Transformer(CONFIG, arrays=arrays)


def worth(prompt: Any, prompt_length: Any, tokens: Any, length: Any) -> Any:
    """More for high tokens."""
    said = jnp.arange(tokens.shape[1]) < length[:, None]
    return jnp.sum(jnp.where(said, tokens / CONFIG.vocab_size - 0.3, 0.0), axis=1)


def main(folder: Path, steps: int, save: int, *mesh: int) -> None:
    initialize()
    keep_compiled()
    plan = Plan(
        samples=100,
        prompts=8,
        group=4,
        steps=steps,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01)),
        save=save,
        mesh=make_mesh(mesh[0], mesh[1]) if mesh else None,
    )
    generator = Generator(untrained(), Identity(), Categorical(), Stop.of(2), 6)
    scorer = FunctionScorer(worth)
    policy = infalign(generator, scorer, PROMPTS, BETA, BestOf(4), None, plan, folder)
    if not mesh:
        digest = hashlib.sha256()
        for weight in jax.tree.leaves(policy):
            digest.update(np.asarray(weight).tobytes())
        write_atomically(folder / "digest", digest.hexdigest())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        "python -m experiments aligning_run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the run is kept")
    parser.add_argument("steps", type=int, help="of the whole run")
    parser.add_argument("save", type=int, help="steps between checkpoints")
    parser.add_argument("mesh", type=int, nargs="*", help="devices for rows and for the model")
    options = parser.parse_args()
    main(options.folder, options.steps, options.save, *options.mesh)
