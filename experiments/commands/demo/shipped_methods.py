"""The methods of the tour on the tour's prompts: decoders, timed and counted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jax.tree_util import Partial

from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.self_certainty import SelfCertainty, Voting, on_host
from algorithms.selection.speculative_rejection import SpeculativeRejection
from experiments.harness.progress import Progress
from experiments.harness.report import Out, Seed
from experiments.inputs.sources import Source, open_model, open_reward
from experiments.tasks.arithmetic import Arithmetic
from experiments.zoo.recipes import DIALOG
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.sampling import Categorical
from jaxdecode.voting import borda, majority

ARITHMETIC = Arithmetic()


@dataclass(frozen=True)
class Config:
    """What is shown.

    Attributes:
      questions: of the dialog.
      sizes: N of best-of-N.
      width: responses that speculative rejection starts from.
      memory: its budget, in responses of full length.
      max_tokens: of a reply.
      sums: arithmetic questions.
      samples: responses to each sum.
    """

    questions: int = 4
    sizes: tuple[int, ...] = (1, 4, 16, 64, 256)
    width: int = 256
    memory: int = 16
    max_tokens: int = 384
    sums: int = 48
    samples: int = 16
    seed: Seed = 0
    out: Out = None


@dataclass(frozen=True)
class Run:
    """One method on all prompts of a task."""

    method: str
    result: Result
    texts: list[str]
    seconds: float
    compile_seconds: float

    @property
    def tokens(self) -> float:
        """Decoded tokens a prompt, those of dropped responses included."""
        return float(self.result.usage.emitted.mean())


@jax.jit
def counted(decoder: Decoder, key: jax.Array, prompt: Prompt) -> Result:
    return decoder(key, prompt)


def timed(method: str, decoder: Decoder, source: Source, prompt: Prompt, seed: int) -> Run:
    """Compile, then run and time."""
    decoder.check(prompt)
    key = jax.random.key(seed)
    start = time.perf_counter()
    program = counted.lower(decoder, key, prompt).compile()
    compiled = time.perf_counter()
    result = jax.block_until_ready(program(decoder, key, prompt))
    ended = time.perf_counter()
    result = jax.device_get(result)
    rows = zip(result.tokens, result.length, strict=True)
    texts = [source.codec.decode(row[:length].tolist()) for row, length in rows]
    return Run(method, result, texts, ended - compiled, compiled - start)


def all_timed(
    decoders: Mapping[str, Decoder], source: Source, prompt: Prompt, seed: int, progress: Progress
) -> list[Run]:
    """Every decoder, one after the other."""
    runs = []
    for method, decoder in decoders.items():
        runs.append(timed(method, decoder, source, prompt, seed))
        progress.advance(note=method)
    return runs


def drawing(source: Source, max_tokens: int) -> Generator:
    """Plain sampling at temperature 1."""
    sizes = max(1, max_tokens // 96)
    stop = source.codec.stop()
    return Generator(source.model, Identity(), Categorical(), stop, max_tokens, cache_growth=sizes)


def dialog(config: Config, progress: Progress) -> tuple[list[str], list[Run]]:
    """The questions, and every method's replies to them."""
    source = open_model("dialog")
    scorer = open_reward("dialog-reward", source)
    generator = drawing(source, config.max_tokens)
    every = DIALOG.prompts("test")
    chosen = np.random.default_rng(config.seed).choice(len(every), config.questions, replace=False)
    questions = [every[i] for i in chosen]
    prompt = Prompt.of([source.codec.prompt(text) for text in questions])
    budget = config.memory * (prompt.tokens.shape[1] + config.max_tokens)
    decoders: dict[str, Decoder] = {
        "sampling" if n == 1 else f"best-of-{n}": BestOfN(generator, scorer, n)
        for n in config.sizes
    }
    name = f"speculative rejection from {config.width}"
    decoders[name] = SpeculativeRejection(generator, scorer, budget, config.width)
    return questions, all_timed(decoders, source, prompt, config.seed, progress)


def arithmetic(config: Config, progress: Progress) -> tuple[list[str], list[Run]]:
    """The sums, and every method's answers to them."""
    source = open_model("arithmetic")
    generator = drawing(source, 64)
    rng = np.random.default_rng(config.seed)
    sums = [example.prompt for example in ARITHMETIC.sample(rng, config.sums, "test")]
    prompt = Prompt.of([source.codec.prompt(text) for text in sums])
    answer = on_host(lambda tokens: ARITHMETIC.extract(source.codec.decode(tokens)))
    many = SelfCertainty(generator, config.samples)
    decoders: dict[str, Decoder] = {
        "one sample": SelfCertainty(generator, 1),
        f"most certain of {config.samples}": many,
        f"majority of {config.samples}": Voting(many, answer, Partial(majority)),
        f"Borda vote of {config.samples}": Voting(many, answer, Partial(borda, power=0.5)),
    }
    return sums, all_timed(decoders, source, prompt, config.seed, progress)
