"""PEARL on two devices beside PEARL on one; see `test_overlap.py`.

    python -m tests.algorithms.overlap_worker

A process of its own, because the number of devices is fixed when jax starts. Writes JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax

from algorithms.speculative.overlap import Overlap
from algorithms.speculative.pearl import pearl
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import RepetitionPenalty, Temperature, chain
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM

TARGET = EnumerableLM.random(3, 5)
PROMPT = Prompt.of([[1, 2, 3], [4], [2, 2], [0, 1, 4, 1]], [7, 2, 9, 3], 4)


def told(result: Result) -> dict[str, Any]:
    usage = result.usage
    return {
        "tokens": result.tokens.tolist(),
        "length": result.length.tolist(),
        "status": result.status.tolist(),
        "accepted": usage.accepted.tolist(),
        "passes": usage.histogram.sum(1).tolist(),
        "draft_passes": usage.draft_passes.tolist(),
        "devices": [device.id for device in result.tokens.devices()],
    }


def main() -> None:
    one, two = jax.devices()
    found = {}
    transform = chain(RepetitionPenalty(1.2, 5), Temperature(0.9))
    for name, sampler in (("greedy", Greedy()), ("sampling", Categorical())):
        generator = Generator(TARGET, transform, sampler, Stop.of((3,)), 14)
        spec = pearl(generator, TARGET.perturbed(1, 0.4), window=3)
        found[name] = {
            "one": told(decode(Autoregressive(spec), 5, PROMPT)),
            "two": told(Overlap(spec, two, one)(jax.random.key(5), PROMPT)),
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
