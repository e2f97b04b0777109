"""The paper's claims on momentum decoding, by rules fixed before measuring."""

from __future__ import annotations

from typing import Any

from experiments.harness.judging.claim import Bar, Claim, above, below
from experiments.harness.statistics import bootstrap, difference
from experiments.tokens.momentum_decoding.findings import (
    CONSTANT,
    OTHER,
    OWN,
    PEOPLE,
    Findings,
    Floats,
)
from experiments.tokens.momentum_decoding.measures import Config

# Nats that count as no loss: a token of code spells four characters at most, on average.
AS_COHERENT = {"token": 0.1, "character": 0.025}
COST = 1.1  # times greedy decoding
REPEATED = 0.02  # percent of 4-grams


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """From what a record keeps; intervals are over contexts, those of times over rounds."""
    found = Findings.of(config, evidence)
    loss, unit = AS_COHERENT[config.coherence], f"nats a {config.coherence}"
    return [
        _compared(
            found,
            "its text is out of greedy decoding's loops: at least as diverse as people's",
            "diversity 96.6 to 98.1 % (GPT2-XL); people 93.6, greedy 5.4 % (GPT2-large)",
            (OWN, PEOPLE),
        ),
        _compared(
            found, "which greedy text is not", "diversity 5.4 % against 93.6", (PEOPLE, "greedy")
        ),
        _compared(
            found,
            "more diverse than contrastive search",
            "diversity .981 / .933, .966 / .941, .973 / .935 in three domains",
            (OWN, OTHER),
            headline=True,
        ),
        Claim.tested(
            f"hardly a 4-gram is repeated (at most {REPEATED} %)",
            f"{REPEATED} % and less; contrastive search 0.3 to 1.1 %",
            below(bootstrap(_mean, found.values(OWN, "rep-4"), unit="%"), f"{REPEATED} %"),
            measured=f"contrastive search {found.mean(OTHER, 'rep-4'):.2f} %, people "
            f"{found.mean(PEOPLE, 'rep-4'):.2f} %; its own",
        ),
        _compared(
            found,
            f"as coherent as contrastive search (at most {loss} {unit} less)",
            "people prefer 40.7 / 51.3, 50.0 / 42.7, 46.7 / 46.7 % of the texts",
            (OWN, OTHER),
            ("coherence", "nats"),
            -loss,
        ),
        _compared(
            found,
            "and more coherent than nucleus sampling",
            "contrastive search -1.52, nucleus sampling -2.88 nats; momentum on par with the first",
            (OWN, found.nucleus),
            ("coherence", "nats"),
        ),
        _spent(found),
        Claim.tested(
            f"at no more than {COST} times greedy decoding's time",
            "as fast as greedy decoding",
            below(bootstrap(_mean, found.ratios[OWN], unit="x"), f"{COST}x"),
            measured=f"contrastive search {found.ratios[OTHER].mean():.2f} times; its own",
        ),
        _compared(
            found,
            "depth is what leaves loops: a constant resistance leaves text less diverse",
            "an ablation of its program; not measured",
            (OWN, CONSTANT),
        ),
        _nearer(found),
        Claim.tested(
            "most tokens are still the likeliest",
            "greedy ratio in a table of the paper; not at hand",
            above(bootstrap(_mean, 100 * found.values(OWN, "likeliest"), unit="%"), "50 %"),
            measured=f"contrastive search {100 * found.mean(OTHER, 'likeliest'):.0f} %; alpha "
            f"{config.alpha:g}",
        ),
    ]


def _mean(values: Floats) -> float:
    return float(values.mean())


def _compared(
    found: Findings,
    claim: str,
    paper: str,
    pair: tuple[str, str],
    what: tuple[str, str] = ("diversity", ""),
    least: float = 0.0,
    headline: bool = False,
) -> Claim:
    """The first of two methods above the second by more than `least`, on the same contexts."""
    name, unit = what
    one, two = (found.values(method, name) for method in pair)
    bar: Bar = above(difference(one, two, unit), f"{least:g} {unit}")
    measured = f"{one.mean():.3f} against {two.mean():.3f}"
    return Claim.tested(claim, paper, bar, measured=measured, headline=headline)


def _spent(found: Findings) -> Claim:
    """By construction: what fails it is a fault of ours."""
    methods = ("greedy", OWN, OTHER)
    spent = {name: (found.rows[name]["passes"], found.rows[name]["read"]) for name in methods}
    return Claim(
        "it reads what greedy decoding reads: one token in one pass, for each token written",
        "greedy decoding's cost; contrastive search reads k candidates a token",
        ", ".join(
            f"{n}: {passes:.2f} passes, {read:.2f} tokens" for n, (passes, read) in spent.items()
        ),
        spent[OWN] == spent["greedy"],
        sanity=True,
    )


def _nearer(found: Findings) -> Claim:
    """Distance of the mean diversity to that of people."""
    own, other, greedy, people = (
        found.values(name, "diversity") for name in (OWN, OTHER, "greedy", PEOPLE)
    )

    def far(one: Floats, people: Floats) -> float:
        return abs(float(one.mean() - people.mean()))

    gain = bootstrap(lambda a, b, p: far(b, p) - far(a, p), own, other, people)
    return Claim.tested(
        "its diversity is nearer to people's than contrastive search's",
        "people .936; momentum .966 to .981, contrastive search .933 to .941: not claimed",
        above(gain, "0"),
        measured=f"from {people.mean():.3f}: momentum {far(own, people):.3f}, contrastive search "
        f"{far(other, people):.3f}, greedy {far(greedy, people):.3f}; gain",
    )
