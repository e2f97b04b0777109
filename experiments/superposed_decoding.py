"""Superposed decoding: several drafts of a text for the model's passes of one.

Claim (Shen et al. 2024, arXiv 2405.18400): running the model on a weighted sum of the drafts'
newest embeddings, and letting n-grams tell the drafts apart, yields k drafts of which the best
has a lower perplexity than a nucleus sample, 2.44 times as fast at k = 3 and 3.54 times at
k = 8 as nucleus sampling of as many.

    python -m experiments.superposed_decoding --preset cpu

The zoo's small model of the standard library's source goes on from 15 tokens of held-out files
with 10 of its own; its larger model, in the part of the published 70 B judge, says how
perplexing they are, by the mean over passages of the log-perplexity. Share of the n-grams and
temperature are chosen on validation passages, claims are judged on test passages by 95 %
bootstrap intervals. Tables of 2- to 6-grams are counted in training files. Times are those of
the larger model at several batches, all calls taking turns; the largest batch counts. Linearity
is the cosine between a layer's output for the superposition of three beams and the weighted sum
of its outputs for each. About a minute on two cores.

To expect: perplexities of 8.4 for the first draft and 7.5 for the best of three, against 17 for a
nucleus sample and 6.8 for the first of three beams: whatever seeks likely text is unperplexing,
and beams do so best, at a row of the model for each. 5- and 6-grams of a million tokens add
nothing to those up to 4. Twice as fast as nucleus sampling of three and 3.3 times of eight, less
in small batches, where a processor reads the model's weights once for all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from algorithms.search.beam_search import BeamSearch
from algorithms.search.superposed_decoding import WEIGHTS, SuperposedDecoding
from algorithms.selection.best_of_n import BestOfN
from experiments.evaluation import continuations
from experiments.panel import paired
from experiments.passages import Passages
from experiments.progress import Progress
from experiments.report import Claim, Journal, Out, Report, Seed, figure, run_main
from experiments.sources import Source, open_model
from experiments.tasks.stdlib import StandardLibrary
from experiments.tasks.task import Split
from experiments.timing import interleaved, medians
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder, decode
from jaxdecode.lm import View
from jaxdecode.logits import Identity, Temperature, TopP, chain
from jaxdecode.ngram.interpolation import Interpolation
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import LikelihoodScorer
from jaxdecode.stop import Stop
from jaxdecode.types import Array, Float, Int
from models.text import check_same_tokenizer
from models.transformer import Transformer

NUCLEUS, COOLED = 0.9, 0.6  # top-p and temperature of the baseline, as published
SPEED = {3: 2.44, 8: 3.54}  # times nucleus sampling of as many
LINEAR = 0.6  # the mean cosine of the first ten steps on Llama-2-7B


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator, judge, racer: names in the zoo or folders of published checkpoints; the second
        judges what the first writes, the third is timed. Of one vocabulary.
      prefix, max_tokens: tokens given, and generated.
      test, validation: passages.
      drafts: k; the first is judged, all are timed.
      alphas, temperatures: that the share of the n-grams and the temperature are chosen from.
      corpus: tokens of training files that n-grams are counted in.
      keep: successors kept of contexts of 1 to 5 tokens.
      batch: passages decoded together.
      timed: batches that are timed; repeats: how often.
    """

    generator: str = "stdlib-draft"
    judge: str = "stdlib"
    racer: str = "stdlib"
    prefix: int = 15
    max_tokens: int = 10
    test: int = 320
    validation: int = 128
    drafts: tuple[int, ...] = (3, 8)
    alphas: tuple[float, ...] = (0.2, 0.35, 0.5, 0.65)
    temperatures: tuple[float, ...] = (0.06, 0.15, 0.3)
    corpus: int = 1_000_000
    keep: tuple[int, ...] = (256, 64, 32, 16, 16)
    batch: int = 64
    timed: tuple[int, ...] = (1, 16, 64)
    repeats: int = 15
    seed: Seed = 0
    out: Out = None

    def __post_init__(self):
        if len(self.keep) != len(WEIGHTS):
            raise ValueError(f"keep={self.keep}: give one number for each of {len(WEIGHTS)} orders")


PRESETS = {
    "smoke": Config(
        test=16, validation=16, drafts=(3,), alphas=(0.35,), temperatures=(0.3,), corpus=60_000,
        batch=16, timed=(16,), repeats=2,
    ),
    "cpu": Config(),
    "paper": Config(
        generator="Llama-2-7b-hf",
        judge="Llama-2-70b-hf",
        racer="Llama-2-7b-hf",
        test=5000, validation=1000, drafts=(3, 2, 4, 5, 6, 8, 10), corpus=200_000_000,
        keep=(4096, 1024, 256, 64, 64),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What a configuration stands for."""

    config: Config
    source: Source
    judge: Any
    racer: Any

    @classmethod
    def of(cls, config: Config) -> Setting:
        source, judge = open_model(config.generator), open_model(config.judge)
        check_same_tokenizer(source.codec.text, judge.codec.text)
        racer = {config.generator: source, config.judge: judge}.get(config.racer)
        if racer is None:
            racer = open_model(config.racer)
        return cls(config, source, judge.model, racer.model)

    @cached_property
    def ngrams(self) -> Interpolation:
        """Tables of training files, none of which an n-gram leaves."""
        codec, documents, left = self.source.codec, [], self.config.corpus
        for text in StandardLibrary().texts("train"):
            if left <= 0:
                break
            documents.append([*codec.piece(text), codec.text.eos[0]][:left])
            left -= len(documents[-1])
        return Interpolation.of(documents, self.source.model.vocab_size, WEIGHTS, self.config.keep)

    def generator(self, model: Transformer | None = None, drawn: bool = False) -> Generator:
        """Plain, or as the baseline samples. No text ends, so that all are equally long."""
        return Generator(
            self.source.model if model is None else model,
            chain(Temperature(COOLED), TopP(NUCLEUS)) if drawn else Identity(),
            Categorical() if drawn else Greedy(),
            Stop.of(()),
            self.config.max_tokens,
        )

    def nucleus(self, samples: int, model: Transformer | None = None) -> BestOfN:
        drawn = self.generator(model, drawn=True)
        return BestOfN(drawn, LikelihoodScorer(drawn.model), samples)

    def superposed(
        self, drafts: int, alpha: float, temperature: float, **more: Any
    ) -> SuperposedDecoding:
        found = SuperposedDecoding(
            self.generator(), drafts, 3 * drafts, alpha, temperature, self.ngrams, rescored=False
        )
        return replace(found, **more)

    def passages(self, split: Split) -> Passages:
        config = self.config
        count = config.test if split == "test" else config.validation
        return Passages.of(
            self.source.codec, split, count, config.prefix + 1, config.max_tokens, config.seed
        )

    def measure(self, decoder: Decoder, split: Split) -> dict[str, Any]:
        """Log-perplexity under the judge, f64[N, K], in the order of each list."""
        passages = self.passages(split)
        found = []
        for prompt in passages.batches(self.config.batch):
            tokens = decode(decoder, self.config.seed, prompt).trace.tokens
            found.append(np.asarray(self.perplexing(prompt, tokens)))
        return {"nll": np.concatenate(found)[: len(passages.before)]}

    def perplexing(self, prompt: Prompt, tokens: Int[Array, "B K L"]) -> Float[Array, "B K"]:
        """Mean negative log-probability of the tokens under the judge."""
        batch, drafts, length = tokens.shape
        before = jnp.repeat(prompt.tokens, drafts, axis=0)
        text = jnp.concatenate([before, tokens.reshape(-1, length)], axis=1)
        rows, width = text.shape
        full = Prompt(text, jnp.full((rows,), width), jnp.arange(rows))
        logprob, _ = continuations(self.judge, full, jnp.full((rows,), width - length))
        return -logprob.reshape(batch, drafts) / length

    def times(self, batch: int) -> dict[str, Any]:
        """Seconds of k drafts and of k nucleus samples, by the model that is timed."""
        prompt = self.passages("test").batches(batch)[0]
        calls: dict[str, Callable[[], Any]] = {}
        for k in self.config.drafts:
            one = replace(self.superposed(k, 0.5, 0.2), generator=self.generator(self.racer))
            for name, decoder in (("superposed", one), ("nucleus", self.nucleus(k, self.racer))):
                calls[f"{name} {k}"] = partial(decode, decoder, self.config.seed, prompt)
        return {"batch": batch, **medians(interleaved(calls, self.config.repeats))}

    def linearity(self) -> dict[str, Any]:
        """Cosine by layer and step, of the superposition of three beams and of their sum, in the
        model that is timed."""
        found = []
        for prompt in self.passages("validation").batches(self.config.batch)[:2]:
            search = BeamSearch(self.generator(self.racer), 3)
            beams = decode(search, self.config.seed, prompt).trace.tokens
            found.append(np.asarray(cosines(self.racer, prompt.tokens, beams)))
        return {"cosines": np.mean(found, axis=0)}


@jax.jit
def cosines(
    model: Transformer, before: Int[Array, "B P"], beams: Int[Array, "B K L"]
) -> Float[Array, "A L"]:
    """Mean over B of the cosine between f(sum of weights * x) and the sum of weights * f(x).

    The weights of step t are the probabilities of the beams' first t tokens.
    """
    batch, count, _ = beams.shape
    prefix = before.shape[1]
    text = jnp.concatenate(
        [jnp.broadcast_to(before[:, None], (batch, count, prefix)), beams], axis=2
    )
    flat = text.reshape(batch * count, -1)
    logits, _ = model.forward(flat)
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), flat[:, 1:, None], axis=2)
    logp = jnp.pad(logp[..., 0], ((0, 0), (1, 0))).reshape(text.shape)
    inside = jnp.arange(text.shape[2]) >= prefix
    weight = jax.nn.softmax(jnp.cumsum(jnp.where(inside, logp, 0.0), axis=2), axis=1)

    def view(rows: int) -> View:
        zero = jnp.zeros((rows,), jnp.int32)
        position = jnp.broadcast_to(jnp.arange(text.shape[2]), (rows, text.shape[2]))
        return View(position, zero, zero, jnp.ones(position.shape, bool), fresh=True)

    def summed(hidden: Float[Array, "R T D"]) -> Float[Array, "B T D"]:
        each = hidden.reshape(batch, count, *hidden.shape[1:])
        return jnp.einsum("bkt,bktd->btd", weight, each)

    apart = model.embed(flat)
    together = summed(apart)
    found = []
    for layer in range(model.config.layers):
        apart, _ = model.run_layers(apart, None, view(batch * count), layer, layer + 1)
        together, _ = model.run_layers(together, None, view(batch), layer, layer + 1)
        wanted = summed(apart)
        dot = jnp.sum(together * wanted, axis=2)
        size = jnp.linalg.norm(together, axis=2) * jnp.linalg.norm(wanted, axis=2)
        found.append(jnp.mean((dot / size)[:, prefix:], axis=0))
    return jnp.stack(found)


def run(config: Config) -> Report:
    """Choose on validation passages, judge on test passages, time, and look inside."""
    return study(Setting.of(config))


def study(setting: Setting) -> Report:
    """`run` with the models at hand."""
    config = setting.config
    k = config.drafts[0]
    pairs = [(a, t) for a in config.alphas for t in config.temperatures]
    steps = len(pairs) + len(config.temperatures) + 8 + len(config.timed)
    with Journal(config) as journal, Progress("superposed decoding", steps) as progress:

        def row(key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            found = journal.row(key, measure)
            progress.advance(note=key)
            return found

        def judged(key: str, split: Split, build: Callable[[], Decoder]) -> NDArray[np.float64]:
            found = row(f"{split}: {key}", lambda: setting.measure(build(), split))
            return np.asarray(found["nll"])

        tuned = [
            judged(
                f"alpha {a}, temperature {t}", "validation", partial(setting.superposed, k, a, t)
            )
            for a, t in pairs
        ]
        alpha, heat = pairs[int(np.argmin([nll.mean() for nll in tuned]))]
        bare = [
            judged(
                f"no n-grams, temperature {t}",
                "validation",
                partial(setting.superposed, k, 0.0, t, ngrams=None),
            )
            for t in config.temperatures
        ]
        cold = config.temperatures[int(np.argmin([nll.mean() for nll in bare]))]

        def fewer() -> Decoder:
            """The same without 5- and 6-grams."""
            weights = jnp.asarray((*WEIGHTS[:3], 0.0, 0.0))
            ngrams = replace(setting.ngrams, weights=weights)
            return setting.superposed(k, alpha, heat, ngrams=ngrams)

        methods: dict[str, Callable[[], Decoder]] = {
            "superposed": partial(setting.superposed, k, alpha, heat),
            "superposed, n-grams up to 4": fewer,
            "superposed, no n-grams": partial(setting.superposed, k, 0.0, cold, ngrams=None),
            "superposed, equal weights": partial(setting.superposed, k, alpha, heat, uniform=True),
            "n-grams among the likeliest": partial(setting.superposed, k, 1.0, heat),
            "nucleus": partial(setting.nucleus, k),
            "beam search": lambda: BeamSearch(setting.generator(), k),
        }
        test = {name: judged(name, "test", build) for name, build in methods.items()}
        times = [row(f"batch {b}", partial(setting.times, b)) for b in config.timed]
        inside = np.asarray(row("linearity", setting.linearity)["cosines"])
    rows = table(test, times, config) + [
        {"method": f"layer {layer + 1}", "cosine, steps 1-10": float(values[:10].mean())}
        for layer, values in enumerate(inside)
    ]
    rows[0] |= {"alpha": alpha, "temperature": heat}
    if config.out is not None:
        draw(Path(config.out) / "figure.png", test, times, inside, config)
    return Report(claims(test, times, inside, config), rows, seconds=journal.seconds)


def ratio(row: dict[str, Any], k: int) -> float:
    """Times nucleus sampling of k."""
    return row[f"nucleus {k}"] / row[f"superposed {k}"]


def table(
    test: dict[str, NDArray[np.float64]], times: list[dict[str, Any]], config: Config
) -> list[dict[str, Any]]:
    """Perplexities of each place of a list and of the best, then times."""
    rows: list[dict[str, Any]] = []
    for name, nll in test.items():
        row: dict[str, Any] = {"method": name}
        row |= {f"perplexity {i + 1}": float(np.exp(x)) for i, x in enumerate(nll.mean(axis=0))}
        rows.append(row | {"best of them": float(np.exp(nll.min(axis=1).mean()))})
    for row in times:
        for k in config.drafts:
            rows.append(
                {
                    "method": f"{k} drafts, batch {row['batch']}",
                    "superposed, ms": 1e3 * row[f"superposed {k}"],
                    "nucleus, ms": 1e3 * row[f"nucleus {k}"],
                    "times nucleus": ratio(row, k),
                }
            )
    return rows


def claims(
    test: dict[str, NDArray[np.float64]],
    times: list[dict[str, Any]],
    inside: NDArray[np.float64],
    config: Config,
) -> list[Claim]:
    """The paper's, by rules fixed before measuring."""
    own, sample = test["superposed"], test["nucleus"][:, 0]

    def lower(claim: str, paper: str, one: NDArray, other: NDArray) -> Claim:
        mean, low, high = (x / 100 for x in paired(other, one))
        a, b = (float(np.exp(x.mean())) for x in (one, other))
        measured = f"{a:.2f} against {b:.2f}: {mean:+.3f} nats ({low:+.3f}..{high:+.3f})"
        return Claim(claim, paper, measured, bool(low > 0))

    k = own.shape[1]
    found = [
        lower(
            f"the best of {k} drafts is less perplexing than a nucleus sample",
            "4.63 against 5.17 (Llama-2-7B, judged by 70B)",
            own.min(axis=1),
            sample,
        ),
        lower("the first draft alone is, too", "5.03 against 5.17", own[:, 0], sample),
        lower(
            "5- and 6-grams help the best draft",
            "4.63 against 5.18 with n-grams up to 4",
            own.min(axis=1),
            test["superposed, n-grams up to 4"].min(axis=1),
        ),
    ]
    last = times[-1]
    for drafts, least in SPEED.items():
        if drafts in config.drafts:
            every = ", ".join(f"{ratio(row, drafts):.2f}x at {row['batch']}" for row in times)
            found.append(
                Claim(
                    f"{drafts} drafts are {least}x as fast as {drafts} nucleus samples "
                    f"(batch {last['batch']})",
                    f"{least}x",
                    every,
                    bool(ratio(last, drafts) >= least),
                )
            )
    early = float(inside[:, :10].mean())
    found.append(
        Claim(
            "the model is nearly linear in superpositions of beams",
            f"mean cosine of {LINEAR} or more in the first 10 steps (Llama-2-7B)",
            f"{early:.2f} over {len(inside)} layers, least {inside[:, :10].min():.2f}",
            early >= LINEAR,
        )
    )
    return found


def draw(
    path: Path,
    test: dict[str, NDArray[np.float64]],
    times: list[dict[str, Any]],
    inside: NDArray[np.float64],
    config: Config,
) -> None:
    """Perplexity by method, speed by number of drafts, cosine by step."""
    with figure(path, columns=3) as (left, middle, right):
        names = list(test)
        spots = np.arange(len(names))
        first = [float(np.exp(test[name][:, 0].mean())) for name in names]
        best = [float(np.exp(test[name].min(axis=1).mean())) for name in names]
        left.barh(spots - 0.2, first, 0.38, label="the first")
        left.barh(spots + 0.2, best, 0.38, label=f"the best of {config.drafts[0]}")
        left.set_yticks(spots, names)
        left.invert_yaxis()
        left.set(xlabel="perplexity under the judge", xlim=(1, max(first) * 1.3))
        sizes = sorted(config.drafts)
        for row in times:
            ratios = [ratio(row, k) for k in sizes]
            middle.plot(sizes, ratios, label=f"batch {row['batch']}")
        middle.axhline(1.0, color="black", linewidth=0.8)
        middle.set(xlabel="drafts", ylabel="times as fast as nucleus", ylim=(0, None))
        steps = np.arange(1, inside.shape[1] + 1)
        for layer in sorted({0, len(inside) // 2, len(inside) - 1}):
            right.plot(steps, inside[layer], marker="", label=f"layer {layer + 1}")
        right.set(xlabel="token", ylabel="cosine", ylim=(0, 1.02))


if __name__ == "__main__":
    run_main(run, PRESETS)
