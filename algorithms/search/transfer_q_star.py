"""Transfer Q* (Chakraborty, Ghosal et al. 2024, arXiv 2405.20495).

The token law that maximises E[Q*] - alpha KL(. || p) is p(z | s) exp(Q*(s, z) / alpha). Q* is that
of the optimum for the reward r, which an aligned model rho stands for:

    direct     rho is aligned to r:      Q* = mean of r over rho's completions of [s, z]
    indirect   rho is aligned to r_rho:  Q* = sum w r / sum w,  w = exp((r - r_rho) / beta)

with beta the KL strength rho was aligned with. The reference p is rho itself (the authors' code)
or another model, such as the one rho was aligned from: it is the generator's.

Deliberate differences from the authors' code: weights are self-normalised, which needs no
partition function; several sampled rollouts in place of a greedy one of 20 tokens, which is
`Rollouts(scorer, samples=1, horizon=20, sampler=Greedy())`; and a text ends at its end token.
"""

from __future__ import annotations

from jaxdecode.autoregress import Generator
from jaxdecode.guide import Guided
from jaxdecode.lm import LanguageModel
from jaxdecode.paper import Paper
from jaxdecode.rollouts import Rollouts
from jaxdecode.scoring import Scorer
from jaxdecode.types import Array, Float

PAPER = Paper(
    slug="transfer_q_star",
    title="Transfer Q Star: Principled Decoding for LLM Alignment",
    authors=(
        "Souradip Chakraborty",
        "Soumya Suvra Ghosal",
        "Ming Yin",
        "Dinesh Manocha",
        "Mengdi Wang",
        "Amrit Singh Bedi",
        "Furong Huang",
    ),
    year=2024,
    arxiv="2405.20495",
    venue="NeurIPS 2024",
    claim="guiding by the values of an aligned policy's completions earns up to 1.45 times the "
    "reward of controlled decoding",
    losslessness="not-applicable",
)


def direct(
    generator: Generator,
    scorer: Scorer,
    alpha: Float[Array, ""] | float = 1.0,
    policy: LanguageModel | None = None,
    candidates: int = 10,
    samples: int = 4,
    horizon: int | None = None,
) -> Guided:
    """Direct transfer.

    Args:
      generator: the reference; its model is rho where there is no `policy`. Its sampler is
        `Greedy` for the argmax of log p + Q / alpha, `Categorical` to draw from the tilted law.
      scorer: r.
      policy: rho, where the reference is another model.
      candidates, samples, horizon: k, and the rollouts; see `Rollouts`.
    """
    rollouts = Rollouts(scorer, policy, samples=samples, horizon=horizon)
    return Guided(generator, rollouts, candidates, alpha)


def indirect(
    generator: Generator,
    scorer: Scorer,
    baseline: Scorer,
    beta: Float[Array, ""] | float,
    alpha: Float[Array, ""] | float = 1.0,
    policy: LanguageModel | None = None,
    candidates: int = 10,
    samples: int = 4,
    horizon: int | None = None,
) -> Guided:
    """Indirect transfer: `baseline` is r_rho, `beta` the strength rho was aligned with; the rest
    as in `direct`.

    Raises:
      ValueError: for fewer than two samples: the weight of a single one cancels.
    """
    rollouts = Rollouts(scorer, policy, baseline, beta, samples=samples, horizon=horizon)
    return Guided(generator, rollouts, candidates, alpha)
