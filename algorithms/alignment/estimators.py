"""Inference-time win rates from samples, none of them wasted.

From M responses of a policy and M' of the base, with any M, M' >= N, the win rate of best-of-N
against best-of-N is estimated without bias by the mean over all pairs of subsets:

    W = sum_k sum_l a_k b_l w(s_(k), s'_(l))

with s_(1) <= ... <= s_(M) and a_k the chance that the k-th is the best of N drawn (see
`jaxdecode.order`); for the worst of N the weights are mirrored. w is 1 for a win, 1/2 for a tie.
What ranks the responses within a procedure and what judges the outcome may be two rewards.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from algorithms.alignment.tilt import Floats
from jaxdecode.order import best_weights

Rule = Literal["best", "worst"]


def order_weights(drawn: int, samples: int, rule: Rule) -> Floats:
    """The chance of each order statistic, ascending, to be returned: f64[M].

    Raises:
      ValueError: unless 1 <= samples <= drawn, or for another rule.
    """
    if rule not in ("best", "worst"):
        raise ValueError(f"rule={rule!r} must be 'best' or 'worst'")
    weights = best_weights(drawn, samples)
    return weights if rule == "best" else weights[::-1]


def win(one: Floats, other: Floats) -> Floats:
    """1 where `one` is greater, 1/2 where they are equal, else 0; NaN where one of them is."""
    found = (one > other) + 0.5 * (one == other)
    return np.where(np.isnan(one) | np.isnan(other), np.nan, found)


def inference_win(
    policy: Floats,
    base: Floats,
    samples: int,
    rule: Rule = "best",
    policy_judged: Floats | None = None,
    base_judged: Floats | None = None,
    base_samples: int | None = None,
) -> Floats:
    """The unbiased estimate for every prompt, f64[P].

    Args:
      policy, base: f64[P, M] and f64[P, M'], rewards of independent responses, by which the
        procedure chooses.
      samples: N; 1 gives the standard win rate.
      base_samples: N of the base where it is another one.
      policy_judged, base_judged: what the judge says of the same responses, by default the same.
    Raises:
      ValueError: for fewer responses than `samples`, or rewards that are not finite.
    """
    judged = (
        policy if policy_judged is None else policy_judged,
        base if base_judged is None else base_judged,
    )
    names = ("policy", "base", "policy_judged", "base_judged")
    for name, array in zip(names, (policy, base, *judged), strict=True):
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: {np.sum(~np.isfinite(array))} rewards are not finite")
    sides = []
    sizes = samples, samples if base_samples is None else base_samples
    for ranked, values, size in zip((policy, base), judged, sizes, strict=True):
        order = np.argsort(ranked, axis=1, kind="stable")
        weights = order_weights(ranked.shape[1], size, rule)
        sides.append((np.take_along_axis(np.asarray(values, np.float64), order, axis=1), weights))
    (one, a), (other, b) = sides
    return np.einsum("k,l,pkl->p", a, b, win(one[:, :, None], other[:, None, :]))
