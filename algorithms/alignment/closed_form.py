"""Which decoders are calibrated procedures of known form, as far as can be seen."""

from __future__ import annotations

from typing import Any

from algorithms.alignment.adversary import Negated
from algorithms.alignment.calibration import plain
from algorithms.alignment.procedures import BestOf, Procedure, Single, WorstOf
from algorithms.selection.best_of_n import BestOfN
from jaxdecode.autoregress import Generator
from jaxdecode.fingerprint import fingerprint
from jaxdecode.plain import Autoregressive
from jaxdecode.scoring import Scorer


def closed_form(procedure: Any, scorer: Scorer, generator: Generator) -> Procedure | None:
    """The calibrated procedure that a decoder is, if it is one.

    Best-of-N is one if it chooses by this very reward among draws of the very base law: the same
    model, with neither a temperature nor a filter, and the same ends. One that draws otherwise
    returns other quantiles, and is estimated. Plain decoding by that law is one sample.
    """
    if isinstance(procedure, Autoregressive):
        return Single() if same_law(procedure.generator, generator) else None
    if isinstance(procedure, BestOfN):
        if not same_law(procedure.generator, generator):
            return None
        if procedure.scorer is scorer:
            return BestOf(procedure.samples)
        if isinstance(procedure.scorer, Negated) and procedure.scorer.scorer is scorer:
            return WorstOf(procedure.samples)
        return None
    return procedure if hasattr(procedure, "density") else None


def same_law(one: Any, other: Generator) -> bool:
    """Whether two generators draw responses from one law, as far as can be seen."""
    if not isinstance(one, Generator):  # one that speculates, exactly or not
        return False
    if one is other:
        return True
    return fingerprint(plain(one)) == fingerprint(plain(other))
