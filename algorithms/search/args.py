"""ARGS: reward-guided search (Khanov et al. 2024, arXiv 2402.01694).

    score(z) = log p(z | s) + w r([s, z])        over the k most probable tokens z

with r a reward model of whole responses, applied to the unfinished one. Greedy takes the best;
stochastic draws from softmax(score / temperature). Which of the two is the generator's sampler;
its transform edits p. The reward model's cache follows the winner.
"""

from __future__ import annotations

from jaxdecode.autoregress import Generator
from jaxdecode.guide import Guided
from jaxdecode.logits.transform import check_number
from jaxdecode.prefix_values import PrefixScores
from jaxdecode.scoring import Scorer
from jaxdecode.types import Array, Float


def args(
    generator: Generator,
    scorer: Scorer,
    weight: float = 1.5,
    candidates: int = 10,
    temperature: Float[Array, ""] | float = 0.7,
) -> Guided:
    """ARGS over the model of `generator`: greedy with the sampler `Greedy`, else stochastic.

    Args:
      weight: w; the paper's is 1.5 or 1.
      candidates: k.
      temperature: of the stochastic rule; without effect on the greedy one.
    Raises:
      ValueError: for a weight or a temperature that is not positive and finite, or k < 1.
    """
    check_number("weight", weight, 0.0, above=True)
    return Guided(generator, PrefixScores(scorer), candidates, 1.0 / weight, temperature)
