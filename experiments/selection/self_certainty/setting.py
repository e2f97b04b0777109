"""The setting of the experiment on self-certainty: models, questions, and responses measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algorithms.selection.self_certainty import SelfCertainty
from experiments.harness.report import Out, Seed
from experiments.inputs.sources import Codec, open_model
from experiments.selection.self_certainty.votes import Plan
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.gsm8k import Gsm8k
from experiments.tasks.task import Example, Split
from jaxdecode.autoregress import Generator
from jaxdecode.certainty import MEASURES, CertaintyMeter, score_certainty
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity, Temperature, TopP, chain
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.types import Array, Float

SHARE = 8  # samples of a validation question that the token counts are taken from
INSTRUCTION = "Reason step by step. End with a line that holds '#### ' and the number alone."
_score = jax.jit(score_certainty, static_argnames=("shifted", "chunk"))


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator: a name in the zoo, or the folder of a published checkpoint.
      data: folder with GSM8K's train.jsonl and test.jsonl; None for arithmetic.
      operations: fewest and most operations of an arithmetic question.
      questions, validation: test questions, and those that the power is chosen on.
      samples: responses to each.
      sizes: N, rising; the last is `samples`.
      repetitions: subsets for each smaller N.
      powers: of the Borda vote.
      batch: questions decoded at a time.
      max_tokens: of a response.
      cache_growth: steps in which the cache grows, see `Generator`.
      temperature, top_p: of sampling.
    """

    generator: str = "arithmetic"
    data: Path | None = None
    operations: tuple[int, int] = (2, 5)
    questions: int = 320
    validation: int = 160
    samples: int = 64
    sizes: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    repetitions: int = 20
    powers: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7, 1.2, 2.0, 4.0)
    batch: int = 16
    max_tokens: int = 64
    cache_growth: int = 2
    temperature: float = 0.6
    top_p: float = 0.9
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0, *self.sizes), self.sizes, strict=False))
        if not rising or len(self.sizes) < 3 or max(self.sizes) != self.samples:
            raise ValueError(
                f"sizes={self.sizes}: give three or more, rising, the last samples={self.samples}"
            )

    @property
    def plan(self) -> Plan:
        return Plan(self.sizes, self.powers, self.repetitions, self.seed)


@dataclass(frozen=True)
class Setting:
    """What a configuration stands for."""

    config: Config
    model: Any
    codec: Codec
    task: Arithmetic | Gsm8k

    @classmethod
    def of(cls, config: Config) -> Setting:
        source = open_model(config.generator)
        if config.data is None:
            return cls(config, source.model, source.codec, Arithmetic(config.operations))
        files = (config.data / "train.jsonl", config.data / "test.jsonl")
        for file in files:
            if not file.is_file():
                raise ValueError(f"data={config.data}: there is no {file.name} in it")
        return cls(config, source.model, source.codec, Gsm8k(*files, flexible=True))

    @property
    def decoder(self) -> SelfCertainty:
        config = self.config
        generator = Generator(
            model=self.model,
            transform=chain(Temperature(config.temperature), TopP(config.top_p)),
            sampler=Categorical(),
            stop=Stop.of(self.codec.text.eos),
            max_tokens=config.max_tokens,
            cache_growth=config.cache_growth,
        )
        return SelfCertainty(generator, config.samples)

    def questions(self, split: Split) -> list[Example]:
        """Different questions of a split, short ones first, so that a batch ends together."""
        count = self.config.questions if split == "test" else self.config.validation
        rng = np.random.default_rng((self.config.seed, len(split)))
        found: dict[str, Example] = {}
        while len(found) < count:
            found |= {e.prompt: e for e in self.task.sample(rng, count, split)}
        return sorted(list(found.values())[:count], key=lambda e: (len(e.prompt), e.prompt))

    def tokens(self, example: Example) -> list[int]:
        """A question as the model expects it, with an instruction where it takes chats."""
        if self.codec.strict is None and self.codec.text.template is not None:
            text = f"{example.prompt}\n\n{INSTRUCTION}"
            return self.codec.prompt([{"role": "user", "content": text}])
        return self.codec.prompt(example.prompt)

    @cached_property
    def width(self) -> int:
        """Prompt tokens that hold every question, so that one program decodes them all."""
        every = [*self.questions("validation"), *self.questions("test")]
        return bucket(max(len(self.tokens(example)) for example in every))

    def prompt(self, examples: Sequence[Example], first: int) -> Prompt:
        """A batch in the one width of all; the ids, from `first`, name the draws."""
        ids = range(first, first + len(examples))
        return Prompt.of([self.tokens(example) for example in examples], list(ids), self.width)


def measure(
    setting: Setting, examples: Sequence[Example], first: int, base: Float[Array, "V"] | None
) -> dict[str, Any]:
    """Responses to a few questions: answers, scores, the greedy answer, counts of tokens."""
    config, decoder = setting.config, setting.decoder
    prompt = setting.prompt(examples, first)
    pool = decode(decoder, config.seed, prompt).trace
    certainty = pool.meter.mean()
    scores = {name: getattr(certainty, name) for name in MEASURES}
    tokens, length = pool.tokens.reshape(-1, config.max_tokens), pool.length.reshape(-1)
    meter = CertaintyMeter(decoder.generator.stop.eos)
    again = partial(_score, setting.model, prompt, tokens, length)
    scores["shifted"] = again(meter, shifted=True).kl.reshape(pool.score.shape)
    if base is not None:
        scores["empirical"] = again(replace(meter, base=base)).kl.reshape(pool.score.shape)
    plain = replace(decoder.generator, transform=Identity(), sampler=Greedy())
    greedy = jax.device_get(decode(Autoregressive(plain), config.seed, prompt))
    pool, scores = jax.device_get((pool, scores))

    def answer(row: np.ndarray, count: int) -> str | None:
        return setting.task.extract(setting.codec.decode(row[:count].tolist()))

    rows = [
        {
            "reference": example.meta["answer"],
            "level": example.meta.get("operations", 0),
            "answers": [answer(*one) for one in zip(pool.tokens[i], pool.length[i], strict=True)],
            "greedy": answer(greedy.tokens[i], greedy.length[i]),
            "length": certainty.length[i],
            "scores": {name: score[i] for name, score in scores.items()},
        }
        for i, example in enumerate(examples)
    ]
    seen = np.arange(config.max_tokens) < pool.length[:, :SHARE, None]
    counts = np.bincount(pool.tokens[:, :SHARE][seen], minlength=setting.model.vocab_size)
    return {"questions": rows, "counts": counts}
