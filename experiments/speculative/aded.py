"""ADED: a search over trigrams that adapt to the text, as the drafter.

Claim (Liu et al. 2024, arXiv 2407.12021): a small table of trigrams, raised by what is being
read and searched by visits, drafts better than retrieval from the corpus that it was counted
in, with a fraction of the memory; adaptation makes drafts follow texts that the corpus lacks.

    python -m experiments aded --preset cpu

Greedy decoding of held-out standard-library source by the zoo's target; table and suffix array
are of the same training files, drafts of at most 64 nodes. The shifted texts are records such
as no source file holds; what was learned of one goes on to the next. `rollout` is the value of a
visit as designed, without it every visit counts 1 as in the published program. About 3 minutes
on two cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from algorithms.speculative.drafters.aded import ROOM, Adaptive
from algorithms.speculative.prompt_lookup import prompt_lookup
from algorithms.speculative.rest import rest
from algorithms.speculative.verifiers.match import Match
from experiments import zoo
from experiments.harness.judging.claim import Claim, above
from experiments.harness.progress import Progress
from experiments.harness.report import Out, Report, Resumption, Seed, figure
from experiments.harness.statistics import keyed
from experiments.speculative.carried_learning import by_prompt, field_of, per_call, relay
from experiments.speculative.speculation import PROMPT_TOKENS, Counts, Field, decode_field
from experiments.speculative.trees import gain
from experiments.tasks.stdlib import StandardLibrary
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.ngram.counts import Counts as Trigrams
from jaxdecode.ngram.table import Table
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.speculate import Speculator

KEEP = 12
STILL, STEPPED = "ADED on records, not adapting", "ADED on records, step"
RELEASED = 0.04  # the step
MORE, SMALLER = 1.2, 100  # times, as published
RATES = (1.814, 8.0, 32.0)  # exploration; the first and the last were released


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      prompts, max_tokens: of held-out source.
      stream: prompts of shifted texts, one after the other.
      corpus: tokens of training files.
      steps: by how much the table adapts, on the stream.
      iterations: of the search, besides 150.
      keeps: successors that the table keeps of a pair, besides 12.
      designed: whether to compare the values of a visit, each at several rates of exploration.
    """

    prompts: int = 8
    max_tokens: int = 96
    stream: int = 24
    corpus: int = 3_000_000
    steps: tuple[float, ...] = (0.0, 0.01, 0.04, 0.2)
    iterations: tuple[int, ...] = (25,)
    keeps: tuple[int, ...] = (4,)
    designed: bool = True
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(
        prompts=3,
        max_tokens=24,
        stream=4,
        corpus=100_000,
        steps=(0.04,),
        iterations=(),
        keeps=(),
        designed=False,
    ),
    "cpu": Config(),
    "paper": Config(
        prompts=480,
        max_tokens=1024,
        stream=200,
        corpus=400_000_000,
        iterations=(25, 50, 100, 300),
        keeps=(4, 32),
    ),
}


def corpus_of(tokens: int) -> list[list[int]]:
    """Training files of the standard library, as one document."""
    codec = zoo.load("stdlib").tokenizer
    return [StandardLibrary().tokens(codec, "train", tokens).tolist()]


def records(count: int, seed: int) -> list[str]:
    """Beginnings of lists of records, whose fields recur from list to list."""
    random = np.random.default_rng(seed)
    towns = ("Ostrava", "Lagos", "Quito", "Bergen", "Hue")
    texts = []
    for _ in range(count):
        lines = [
            f'{{"serial": "{random.integers(100, 999)}", "harbour": "{random.choice(towns)}", '
            f'"tonnage": {random.integers(10, 99)}}},\n'
            for _ in range(12)
        ]
        texts.append("".join(lines))
    return texts


def shifted(field: Field, count: int, seed: int) -> Field:
    """The same target on records."""
    codec = zoo.load("stdlib").tokenizer
    prompts = [tuple(codec.encode(text)[:PROMPT_TOKENS]) for text in records(count, seed)]
    return replace(field, task="records", prompts=tuple(prompts))


def bytes_of(tree: Any) -> int:
    """Memory of the arrays that a drafter is handed."""
    return sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "size")
    )


def adapted(
    config: Config, field: Field, trigrams: Trigrams, prompts: Sequence[Prompt], **changed: Any
) -> list[Counts]:
    """ADED over prompts, each starting from what the ones before have changed."""
    generator = field.generator()

    def build(memory: Table) -> Speculator:
        return Speculator(generator, Adaptive(trigrams, memory, **changed), Match())

    empty = Table.empty(1, 1 << 13, 2, trigrams.tokens.shape[1] + ROOM)
    return relay(build, empty, lambda state: state.met.value, prompts, config.seed)[0]


def run(config: Config) -> Report:
    """The table of methods, the stream, and the search's settings."""
    field = field_of("stdlib", config.prompts, config.max_tokens)
    stream = shifted(field, config.stream, config.seed)
    documents, vocab = corpus_of(config.corpus), field.target.vocab_size
    store, trigrams = Corpus.of(documents, vocab), Trigrams.of(documents, vocab, keep=KEEP)
    generator = field.generator()
    values = (True, False) if config.designed else ()
    total = 4 + len(config.steps) + len(RATES) * len(values)
    total += len(config.iterations) + len(config.keeps)
    with Resumption(config) as finished, Progress("aded", total) as progress:

        def row(key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            found = finished.row(key, measure)
            progress.advance(note=key)
            return {"method": key} | found

        def other(speculator: Speculator, held: int) -> dict[str, Any]:
            found = decode_field(field, Autoregressive(speculator), seed=config.seed)
            size = {"megabytes": held / 1e6, "by prompt": found.by_prompt()}
            return {"tokens_per_call": found.per_call} | size

        def own(table: Trigrams, **changed: Any) -> dict[str, Any]:
            found = adapted(config, field, table, field.batches(1), **changed)
            size = {"megabytes": bytes_of(table) / 1e6, "by prompt": by_prompt(found)}
            return {"tokens_per_call": per_call(found)} | size

        rows = [
            row("prompt lookup", partial(other, prompt_lookup(generator), 0)),
            row("retrieval", partial(other, rest(generator, store), bytes_of(store))),
            row("ADED", partial(own, trigrams, rollout=config.designed)),
        ]
        follow = []
        ways: dict[str, dict[str, Any]] = {STILL: {"adapts": False}}
        ways |= {f"{STEPPED} {step}": {"step": step} for step in config.steps}
        for name, changed in ways.items():

            def streamed(changed: dict[str, Any] = changed) -> dict[str, Any]:
                found = adapted(
                    config, stream, trigrams, stream.batches(1), rollout=config.designed, **changed
                )
                return {"tokens_per_call": per_call(found), "by prompt": by_prompt(found)}

            follow.append(row(name, streamed))
        for rollout in values:
            for rate in RATES:
                name = f"ADED, c1 {rate}" + ("" if rollout else ", every visit counts 1")
                rows.append(row(name, partial(own, trigrams, c1=rate, rollout=rollout)))
        for iterations in config.iterations:
            rows.append(
                row(f"ADED, {iterations} visits", partial(own, trigrams, iterations=iterations))
            )
        for keep in config.keeps:
            pruned = Trigrams.of(documents, vocab, keep=keep)
            rows.append(row(f"ADED, {keep} successors", partial(own, pruned)))
    if config.out is not None:
        draw(Path(config.out) / "figure.png", rows, follow)
    return Report.of(claims, config, [*rows, *follow], seconds=finished.seconds)


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """The paper's, by rules fixed beforehand; intervals over prompts."""
    found = keyed(rows, "method")
    own, other = found["ADED"], found["retrieval"]
    still, moved = found[STILL], found[f"{STEPPED} {RELEASED}"]
    smaller = other["megabytes"] / own["megabytes"]
    return [
        Claim.tested(
            f"{MORE} times the tokens a call of retrieval from the same corpus",
            "acceptance about 20 % above retrieval",
            above(gain(own, other), f"{MORE}x"),
            measured=f"{own['tokens_per_call']:.2f} against {other['tokens_per_call']:.2f}",
            headline=True,
        ),
        Claim(
            f"The table is {SMALLER} times smaller than the datastore",
            "hundreds of megabytes instead of tens of gigabytes",
            f"{own['megabytes']:.1f} against {other['megabytes']:.1f} MB, {smaller:.2f}x",
            smaller >= SMALLER,
        ),
        Claim.tested(
            "Adaptation follows texts that the corpus lacks",
            "drafts adapt to the text",
            above(gain(moved, still), "1x"),
            measured=f"on records {moved['tokens_per_call']:.2f} tokens a call with adaptation, "
            f"{still['tokens_per_call']:.2f} with a table that nothing is added to",
        ),
    ]


def draw(path: Path, rows: list[dict[str, Any]], follow: list[dict[str, Any]]) -> None:
    """Methods, and the stream of shifted texts."""
    with figure(path, columns=2) as (methods, stream):
        spots = range(len(rows))
        methods.barh(spots, [row["tokens_per_call"] for row in rows])
        methods.set_yticks(spots, [row["method"] for row in rows], fontsize=7)
        methods.invert_yaxis()
        methods.set(xlabel="tokens per call")
        for row in follow:
            counts = row["by prompt"]
            means = np.divide(counts["emitted"], counts["passes"])
            width = min(5, len(means))
            smooth = np.convolve(means, np.ones(width) / width, "valid")
            name = row["method"].rpartition(", ")[2]
            stream.plot(np.arange(len(smooth)) + width, smooth, marker="", label=name)
        stream.set(xlabel="records read (means of 5)", ylabel="tokens per call")
