"""Decoders that choose token by token keep what every decoder must; what they cannot is named."""

from __future__ import annotations

from typing import Any

import pytest

from algorithms.tokens.adadec import AdaDec
from algorithms.tokens.ead import EAD
from algorithms.tokens.exact_extract import ExactExtract
from algorithms.tokens.icn import ICN
from algorithms.tokens.lud import LUD
from algorithms.tokens.rules.acceptance import Confident
from algorithms.tokens.rules.switches import RollingEntropy
from algorithms.tokens.rules.triggers import Uncertain
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Temperature, TopP, chain
from jaxdecode.passage import Whole
from jaxdecode.sampling import Categorical
from jaxdecode.testing import conformance
from jaxdecode.testing.conformance import CHECKS, Subject

# A part of the passage and the end token come back, whatever ends rows elsewhere.
FREE_OF_RULES = (conformance.check_status,)


def rules(model, stop, max_tokens) -> Generator:
    return Generator(model, chain(Temperature(0.9), TopP(0.95)), Categorical(), stop, max_tokens)


def adadec(model, stop, max_tokens):
    return AdaDec(rules(model, stop, max_tokens), Uncertain(1.2), 2, 2)


def ead(model, stop, max_tokens):
    """The large model twice: the log-probability that is checked is that under one model."""
    switch = RollingEntropy(1.3, 2, 1, start_large=True)
    return EAD(rules(model, stop, max_tokens), model, switch, stride=3)


def lud(model, stop, max_tokens):
    return LUD(rules(model, stop, max_tokens), 5, 3, Confident(0.3))


def icn(model, stop, max_tokens):
    """Six tokens and three runs of two: the last items begin with what is left."""
    return ICN.of(rules(model, stop, max_tokens), [[5], [5, 4]] * 2 + [[5]], 3, 2, [3])


def exact_extract(model, stop, max_tokens):
    return ExactExtract(model, Whole(), 0, max_tokens - 1, 2)


ROWS: dict[str, dict[str, Any]] = {
    "adadec": {"make": adadec},
    "ead": {"make": ead},
    "lud": {"make": lud},
    "icn": {"make": icn, "pooled": True},
    "exact_extract": {"make": exact_extract},
}


@pytest.mark.parametrize("name", ROWS)
def test_conformance(name) -> None:
    subject = Subject(**ROWS[name])
    for check in CHECKS:
        if name != "exact_extract" or check not in FREE_OF_RULES:
            check(subject)
