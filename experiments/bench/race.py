"""A race: one size and batch of greedy decoding, the engine beside its parts and its peer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.bench import peers
from experiments.harness.environment import usable_cpus
from experiments.harness.measuring import pass_costs, timing
from experiments.inputs import sources
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy, Sampler
from jaxdecode.stop import Stop
from models.config import TransformerConfig
from models.presets import LLAMA_3_2_1B, small
from models.transformer import Transformer

SHAPES: dict[str, TransformerConfig] = {
    "0.2M": small(2048, hidden=64, layers=2),
    "5M": small(2048, hidden=256, layers=6),
    "30M": small(12288, hidden=512, layers=8, heads=8),
    "1B": LLAMA_3_2_1B,
}


@dataclass(frozen=True)
class Course:
    """What all races of a bench share; see `experiments.bench.bench.Config`."""

    prompt: int
    new: int
    cache_growth: int
    repeats: int
    patience: float
    seed: int


def build(name: str, seed: int) -> Transformer:
    """A model of `SHAPES` with random weights, or a published checkpoint by its folder.

    A random model's embedding is scaled up so that few tokens nearly tie. The layers are unstacked:
    what is compared is speed, and few layers compile soon enough.
    """
    if name not in SHAPES:
        return sources.open_model(name, "auto").model
    model = Transformer(SHAPES[name], rngs=nnx.Rngs(seed))
    model.embedding.set_value(4 * model.embedding[...])
    return model.unstacked()


def prompts(course: Course, vocab: int, batch: int) -> tuple[np.ndarray, Prompt]:
    """Random tokens [B, P], the same ones as a prompt."""
    rng = np.random.default_rng(course.seed)
    tokens = rng.integers(vocab, size=(batch, course.prompt))
    return tokens, Prompt.of(tokens.tolist(), width=course.prompt)


def generator(course: Course, model: Transformer, sampler: Sampler) -> Generator:
    """What the engine decodes with: nothing but the model, to the last token."""
    return Generator(
        model, Identity(), sampler, Stop.of(), course.new, cache_growth=course.cache_growth
    )


def decoder(course: Course, model: Transformer, sampler: Sampler) -> Autoregressive:
    return Autoregressive(generator(course, model, sampler))


@jax.jit
def counted(decoder: Decoder, key: jax.Array, prompt: Prompt) -> Any:
    return decoder(key, prompt)


@jax.jit
def uncounted(decoder: Decoder, key: jax.Array, prompt: Prompt) -> jax.Array:
    """Tokens alone: the compiler drops every counter that nothing else reads."""
    return decoder(key, prompt).tokens


def limit(model: Transformer, batch: int, prompt: int, new: int) -> float:
    """Seconds the machine needs to read what every step reads and to multiply it."""
    cost, size = model.cost, model.dtype.itemsize
    held = batch * cost.cache_bytes * (prompt + new / 2)
    weights = cost.parameters * size
    rate = timing.arithmetic_rate(model.dtype)
    step_flops = batch * (2 * cost.parameters + cost.attention * (prompt + new / 2))
    step = max((weights + held) / timing.read_rate(weights, model.dtype), step_flops / rate)
    return new * step + batch * prompt * 2 * cost.parameters / rate


def race(course: Course, name: str, batch: int) -> dict[str, Any]:
    """One size and batch: engine, parts of the engine and peer, taking turns."""
    load = timing.load()
    model = build(name, course.seed)
    tokens, prompt = prompts(course, model.vocab_size, batch)
    key = jax.random.key(course.seed)
    greedy, sample = (decoder(course, model, s) for s in (Greedy(), Categorical()))
    start = time.perf_counter()
    lowered = counted.lower(greedy, key, prompt)
    traced = time.perf_counter()
    compiled = lowered.compile()
    row: dict[str, Any] = {
        "kind": "decode",
        "model": name,
        "parameters": sum(x.size for x in jax.tree.leaves(model)),
        "batch": batch,
        "trace_s": traced - start,
        "compile_s": time.perf_counter() - traced,
        "program_mb": timing.program_bytes(compiled) / 1e6,
    }
    calls: dict[str, Callable[[], Any]] = {
        "greedy": lambda: counted(greedy, key, prompt),
        "uncounted": lambda: uncounted(greedy, key, prompt),
        "sample": lambda: counted(sample, key, prompt),
        "prefill": lambda: pass_costs.read(model, prompt),
    }
    with contextlib.ExitStack() as stack:
        if peers.missing() is None:
            peer = stack.enter_context(peers.peer_of(model, usable_cpus()))
            for cache in ("dynamic", "static"):
                calls[cache] = lambda cache=cache: peer.greedy(tokens, course.new, cache)
            ours = np.asarray(calls["greedy"]().tokens)
            row["equal_rows"] = float((ours == calls["dynamic"]()).all(1).mean())
        taken = timing.interleaved(calls, course.repeats, course.patience)
    seconds = timing.medians(taken)
    total = seconds["greedy"]
    row |= {
        "tokens/s": batch * course.new / total,
        "sampling_tokens/s": batch * course.new / seconds["sample"],
        "prefill_ms": 1e3 * seconds["prefill"],
        "step_ms": 1e3 * (total - seconds["prefill"]) / course.new,
        "counting": paired(taken["greedy"], taken["uncounted"]) - 1.0,
        "of_limit": limit(model, batch, course.prompt, course.new) / total,
        "rounds": len(taken["greedy"]),
        "load": load,
    }
    if "dynamic" in seconds:
        fastest = min(("dynamic", "static"), key=lambda cache: seconds[cache])
        row |= {
            "peer_cache": fastest,
            "peer_tokens/s": batch * course.new / seconds[fastest],
            "ratio": seconds[fastest] / total,
        }
    return row


def paired(left: list[float], right: list[float]) -> float:
    """The median of the ratios within each round, which a slow spell leaves alone."""
    return float(np.median(np.array(left) / np.array(right)))
