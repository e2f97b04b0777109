"""Self-certainty: best-of-N and votes with the model's own certainty as the only judge.

Claim (Kang et al. 2025, arXiv 2502.18581): picking the response with the largest mean
KL(uniform || p) beats greedy decoding and picking by perplexity, and goes on improving with N;
votes weighted by its rank (Borda) beat the majority vote.

    python -m experiments self_certainty --preset cpu

Multi-step arithmetic by the zoo's generator, 64 responses to each question at temperature 0.6
and top-p 0.9, as published. Every rule chooses among the same random subsets of the responses;
what is said to beat something does so with a 95 % bootstrap interval over questions above
zero. Borda votes take the advised powers, and powers chosen on validation questions; the claims
are judged on test questions. About 3 minutes on two cores, most of it sampling. The preset
`paper` takes a published checkpoint and GSM8K's JSON lines by path.

"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.sampling.autoregressive import Autoregressive
from algorithms.selection.self_certainty import SelfCertainty
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed
from experiments.harness.response_pool import ResponsePool
from experiments.harness.statistics import Floats, correlation, paired, separation
from experiments.inputs.sources import Codec, open_model
from experiments.selection.self_certainty.votes import NAMES, Findings, Plan, by_level, draw
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.gsm8k import Gsm8k
from experiments.tasks.task import Example, Split
from jaxdecode.autoregress import Generator
from jaxdecode.certainty import MEASURES, CertaintyMeter, score_certainty
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity, Temperature, TopP, chain
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.types import Array, Float

SHARE = 8  # samples of a validation question that the token counts are taken from
INSTRUCTION = "Reason step by step. End with a line that holds '#### ' and the number alone."


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

    def __post_init__(self):
        rising = all(a < b for a, b in zip((0, *self.sizes), self.sizes, strict=False))
        if not rising or len(self.sizes) < 3 or max(self.sizes) != self.samples:
            raise ValueError(
                f"sizes={self.sizes}: give three or more, rising, the last samples={self.samples}"
            )

    @property
    def plan(self) -> Plan:
        return Plan(self.sizes, self.powers, self.repetitions, self.seed)


PRESETS = {
    "smoke": Config(questions=16, validation=8, samples=16, sizes=(1, 4, 16), repetitions=5),
    "cpu": Config(),
    "paper": Config(
        generator="Llama-3.1-8B-Instruct",
        data=Path("gsm8k"),
        questions=1319,
        validation=200,
        repetitions=5,
        batch=1,
        max_tokens=1024,
        cache_growth=4,
    ),
}


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


_score = jax.jit(score_certainty, static_argnames=("shifted", "chunk"))


def run(config: Config) -> Report:
    """Validation questions, then test questions, then every rule on every number of responses."""
    return study(Setting.of(config))


def study(setting: Setting) -> Report:
    """`run` with the model and the task at hand."""
    config = setting.config
    splits: dict[Split, list[Example]] = {
        split: setting.questions(split) for split in ("validation", "test")
    }
    batches = sum(-(-len(examples) // config.batch) for examples in splits.values())
    found: dict[Split, list[dict[str, Any]]] = {"validation": [], "test": []}
    base, offset = None, 0
    with Resumption(config) as finished, Progress("self-certainty", batches) as progress:
        for split, examples in splits.items():
            for at in range(0, len(examples), config.batch):
                some = examples[at : at + config.batch]
                key = f"{split} questions from {at}"
                found[split].append(
                    finished.row(key, partial(measure, setting, some, offset + at, base))
                )
                progress.advance(note=key)
            if split == "validation":
                counts = np.sum([row["counts"] for row in found[split]], axis=0)
                base = jnp.asarray(counts / counts.sum(), jnp.float32)
            offset += len(examples)
    pools = {
        split: ResponsePool.of([question for row in rows for question in row["questions"]])
        for split, rows in found.items()
    }
    return analyse(config, pools["validation"], pools["test"], finished.seconds)


def analyse(config: Config, validation: ResponsePool, test: ResponsePool, seconds: float) -> Report:
    """Claims, table and figure from what was drawn."""
    found = Findings.of(config.plan, validation, test)
    if config.out is not None:
        draw(Path(config.out) / "figure.png", found)
    return Report(claims(found), found.table(), seconds=seconds)


def claims(found: Findings) -> list[Claim]:
    """The paper's claims, by rules fixed before measuring."""
    pool, top = found.pool, found.plan.sizes[-1]

    def beats(claim: str, paper: str, one: Floats, other: Floats, more: str = "") -> Claim:
        mean, low, high = paired(one, other)
        measured = (
            f"{100 * one.mean():.2f} against {100 * other.mean():.2f}: "
            f"{mean:+.2f} ({low:+.2f}..{high:+.2f}){more}"
        )
        return Claim(claim, paper, measured, low > 0)

    middle = (len(found.plan.sizes) - 1) // 2
    less = found.plan.sizes[middle]
    growth = {
        name: 100 * (found.at(name).mean() - found.at(name, middle).mean())
        for name in ("self-certainty", "perplexity")
    }
    stated = [
        beats(
            f"self-certainty, best of {top}, beats greedy decoding",
            "GSM8K 88.90 against 84.00, MATH 56.70 against 47.96",
            found.at("self-certainty"),
            found.at("greedy"),
        ),
        beats(
            f"self-certainty, best of {top}, beats perplexity",
            "GSM8K 88.90 against 87.81, MATH 56.70 against 51.96",
            found.at("self-certainty"),
            found.at("perplexity"),
        ),
        beats(
            f"self-certainty goes on improving from N={less} to {top}",
            "LiveBench-Math 22.01 (N=32) against 20.87 (N=8); perplexity falls by 2.12",
            found.at("self-certainty"),
            found.at("self-certainty", middle),
            f"; perplexity {growth['perplexity']:+.2f}",
        ),
        beats(
            f"Borda votes by self-certainty with the advised power beat the majority at N={top}",
            "power 1.2: GSM8K 90.95 against 90.99, MATH 64.10 against 63.40",
            found.at("Borda"),
            found.at("majority"),
        ),
        beats(
            f"so do those with a power chosen on validation questions (N={top})",
            "best power in the table: GSM8K 91.07, MATH 64.10",
            found.at("Borda, tuned"),
            found.at("majority"),
            f", power {found.chosen[-1]:g}",
        ),
        beats(
            f"the majority beats the average of an answer's self-certainty at N={top}",
            "MATH 63.40 against 32.94",
            found.at("majority"),
            found.at("average"),
        ),
    ]
    shapes = [name for key, name in NAMES.items() if key not in ("kl", "neg_perplexity")]
    for claim, paper, own, prefix, names in (
        (
            f"of the measures of whole distributions self-certainty selects best (N={top})",
            "alone in rising to N=64 (figure, LiveBench-Math)",
            "self-certainty",
            "",
            shapes,
        ),
        (
            f"of all measures self-certainty serves Borda votes best (N={top})",
            "MATH level 5, power 1.2: 39.43; Gini 38.75, perplexity 38.60, entropy 38.40",
            "Borda",
            "Borda by ",
            [*shapes, NAMES["neg_perplexity"]],
        ),
    ):
        value = found.curve(own)[-1]
        others = {name: found.curve(prefix + name)[-1] for name in names}
        measured = ", ".join(f"{name} {other:.2f}" for name, other in others.items())
        stated.append(Claim(claim, paper, f"{value:.2f}; {measured}", value > max(others.values())))
    stated.append(
        Claim(
            "the power that serves best grows with N",
            "about 0.5 at N=8, 1.2 at N=64",
            f"{found.chosen[middle]:g} at N={less}, {found.chosen[-1]:g} at N={top}",
            found.chosen[-1] > found.chosen[middle],
        )
    )
    along = {key: correlation(pool.scores[key], pool.length) for key in NAMES}
    stated.append(
        Claim(
            "self-certainty goes along with a response's length less than any other measure does",
            "no correlation for it, a clear one for the others (figure)",
            ", ".join(f"{NAMES[key]} {value:+.2f}" for key, value in along.items()),
            all(abs(along["kl"]) < abs(value) for key, value in along.items() if key != "kl"),
        )
    )
    auc = separation(pool.scores["kl"], pool.right)
    stated.append(
        Claim(
            "right responses are more certain than wrong ones",
            "histograms apart (figure)",
            f"AUC {auc:.3f}",
            auc > 0.5,
        )
    )
    levels, means = by_level(pool)
    trend = correlation(np.broadcast_to(pool.level[:, None], pool.answers.shape), pool.scores["kl"])
    if len(levels) > 1:
        stated.append(
            Claim(
                "mean self-certainty falls with difficulty",
                "LiveBench-Math and MATH levels (figure)",
                ", ".join(f"{m:.2f} at {n}" for n, m in zip(levels, means, strict=True))
                + f"; correlation {trend:.2f}",
                bool(trend < 0 and means[-1] == min(means)),
            )
        )
    return stated
