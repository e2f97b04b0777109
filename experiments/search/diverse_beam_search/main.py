"""Diverse beam search: lists whose members differ, for the price of beam search.

Claim (Vijayakumar et al. 2016, arXiv 1610.02424): groups of beams that are penalised for the
tokens of earlier groups give lists with 2-3 times as many distinct 4-grams as beam search and a
better best member (oracle), often also a better first; strengths from 0.2 to 0.8 do, as many
groups as beams are best, and the plain Hamming term is as good as any.

    python -m experiments diverse_beam_search --preset cpu

The zoo's model of the standard library's source goes on from 32 tokens of held-out files with
20 of its own; a text is as good as it is similar to what is really there (1 - edit distance of
tokens over length). Strength, rank penalty and the weight of what is likely without the passage
(MMI, for the first 5 tokens) are chosen on validation passages by the oracle, as published;
claims are judged on test passages, by 95 % bootstrap intervals over them. Distinct-n
is distinct n-grams of a list over its tokens, which cannot exceed 1 as the published numbers do.
About 3 minutes on two cores. To expect: an oracle of 27 % against beam search's 22 % and 2.4
times its distinct 4-grams, no better first member, and no likelier one, since the first group
is a search by a single beam; the best strength is 0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from algorithms.search.beam_search import BeamSearch
from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.inputs.sources import open_model
from experiments.search.diverse_beam_search.findings import claims, draw, kept, summary
from experiments.search.diverse_beam_search.setting import Config, Lists, Setting, best
from experiments.tasks.task import Split
from jaxdecode.decoder import Decoder

PRESETS = {
    "smoke": Config(
        test=8, validation=8, beams=4, groups=(4,), strengths=(0.5,), terms=(), rates=(0.5,),
        weights=(0.25,), weighed=2, max_tokens=8, batch=8,
    ),
    "cpu": Config(),
    "paper": Config(
        generator="Llama-3.1-8B",
        test=5000, validation=1000, beams=20, groups=(2, 4, 10, 20), prefix=64,
        terms=("cumulative", "2-grams", "4-grams", "embedding", "embedded 2-grams"),
    ),
}  # fmt: skip


def run(config: Config) -> Report:
    """Strengths and rates on validation passages, then every method on test passages."""
    return study(Setting(config, open_model(config.generator)))


def study(setting: Setting) -> Report:
    """`run` with the model at hand."""
    config = setting.config
    steps = (len(config.strengths)) * (2 + len(config.terms)) + len(config.rates)
    steps += len(config.weights)
    steps += 5 + len(config.terms) + len(config.groups)
    with Resumption(config) as finished, Progress("diverse beam search", steps) as progress:

        def row(key: str, split: Split, build: Callable[[], Decoder]) -> Lists:
            found = finished.row(f"{split}: {key}", lambda: setting.measure(build(), split))
            progress.advance(note=key)
            return found

        top = config.beams
        tuned = {
            term: [
                row(f"{term} {s}", "validation", partial(setting.diverse, s, top, term))
                for s in config.strengths
            ]
            for term in ("Hamming", *config.terms)
        }
        others = {
            "sibling ranks": (config.rates, setting.ranked),
            "MMI": (config.weights, setting.informed),
        }
        rates = {
            name: best(
                values,
                [row(f"{name} {v}", "validation", partial(make, v)) for v in values],
            )
            for name, (values, make) in others.items()
        }
        chosen = {term: best(config.strengths, found) for term, found in tuned.items()}
        test: dict[str, Lists] = {
            "beam search": row(
                "beam search", "test", lambda: BeamSearch(setting.generator, top, spare=False)
            )
        }
        for name, (_, make) in others.items():
            test[name] = row(name, "test", partial(make, rates[name]))
        test["sampling"] = row("sampling", "test", setting.sampling)
        for s in config.strengths:
            key = f"Hamming {s}"
            test[key] = row(key, "test", partial(setting.diverse, s, top))
        for term in config.terms:
            s = chosen[term]
            test[f"{term} {s}"] = row(term, "test", partial(setting.diverse, s, top, term))
        for groups in config.groups[:-1]:
            s = chosen["Hamming"]
            key = f"{groups} groups"
            test[key] = row(key, "test", partial(setting.diverse, s, groups))
    return analyse(config, tuned, chosen, rates, test, finished.seconds)


def analyse(
    config: Config,
    tuned: dict[str, list[Lists]],
    chosen: dict[str, float],
    rates: dict[str, float],
    test: dict[str, Lists],
    seconds: float,
) -> Report:
    """Claims, table and figure."""
    rows = [{"method": name} | summary(found, config.beams) for name, found in test.items()]
    for row in rows:
        if row["method"] in rates:
            row["method"] = f"{row['method']} {rates[row['method']]:g}"
    own = test[f"Hamming {chosen['Hamming']}"]
    if config.out is not None:
        draw(Path(config.out) / "figure.png", config, tuned, chosen, test, own)
    return Report.of(claims, config, kept(chosen, test, own), rows, seconds)
