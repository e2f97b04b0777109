"""Losses on pairs against their definitions, on responses of known probability."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.train.preferences import (
    PairTerms,
    bonbon,
    bonbon_margin,
    dpo,
    imitation,
    ipo,
    pair_loss,
)
from jaxdecode.train.sequences import join
from tests.jaxdecode.train import bigrams

MODEL, BASE = bigrams.random(1), bigrams.random(0)
CHOSEN, REJECTED = np.array([3, 17, 40]), np.array([5, 60, 41])


def pairs() -> dict:
    def side(index: np.ndarray):
        tokens = jnp.asarray(bigrams.RESPONSES[index])
        return join(bigrams.prompts(len(index)), tokens, jnp.full(len(index), 2))

    reference = np.log(BASE.law())
    return {
        "chosen": side(CHOSEN),
        "rejected": side(REJECTED),
        "chosen_reference": jnp.asarray(reference[CHOSEN], jnp.float32),
        "rejected_reference": jnp.asarray(reference[REJECTED], jnp.float32),
    }


LOGP = np.log(MODEL.law())
RATIO = LOGP - np.log(BASE.law())
H = RATIO[CHOSEN] - RATIO[REJECTED]
SQUARED = np.mean((H - bonbon_margin(8)) ** 2)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (dpo(0.3), np.mean(np.log1p(np.exp(-0.3 * H)))),
        (ipo(0.3), np.mean((H - 1 / 0.6) ** 2)),
        (ipo(0.3, average=True), np.mean((H / 2 - 1 / 0.6) ** 2)),  # of two tokens each
        (bonbon(8), 0.005 * -LOGP[CHOSEN].mean() + 0.995 * SQUARED),
        (bonbon(8, 0.0, 2.5), np.mean((H - 2.5) ** 2)),
        (imitation(), -LOGP[CHOSEN].mean()),
    ],
    ids=["dpo", "ipo", "ipo, averaged", "bonbon", "bonbon, nearer", "imitation"],
)
def test_losses_are_their_definitions(terms: PairTerms, expected: float) -> None:
    found, metrics = pair_loss(MODEL, terms, **pairs())
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["margin"]) == pytest.approx(H.mean() / 2**terms.average, rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx((H > 0).mean())


def test_the_margin_of_eight_samples_is_the_published_constant() -> None:
    assert 0.5 / bonbon_margin(8) == pytest.approx(0.0275482094, abs=1e-10)
    assert bonbon_margin(2) == 1.0


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="samples=1: a best and a worst"):
        bonbon(1)
    for make in (dpo, ipo):
        with pytest.raises(ValueError, match="beta=0: the strength"):
            make(0)
