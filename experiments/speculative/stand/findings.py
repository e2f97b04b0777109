"""What the experiment on STAND makes of its measurements."""

from __future__ import annotations

from typing import Any

from experiments.harness.report import Claim
from experiments.speculative.stand.measures import LEVEL


def claims(found: dict[str, dict[str, Any]], plain, shared, p: float) -> list[Claim]:
    """The paper's, judged by rules fixed beforehand."""
    recycled, own = found["token recycling"], found["STAND, drawn tokens, fitted tree"]
    likeliest, drawn = found["STAND, likeliest tokens"], found["STAND, drawn tokens"]
    rise = own["last"] - own["first"]
    flat = recycled["last"] - recycled["first"]
    return [
        Claim(
            "More tokens a call than token recycling over 16 samples",
            "3.67 against 2.75",
            f"{own['tokens_per_call']:.2f} against {recycled['tokens_per_call']:.2f}",
            own["tokens_per_call"] > recycled["tokens_per_call"],
        ),
        Claim(
            "The gain from earlier samples is larger than token recycling's",
            "STAND rises with the number of samples, token recycling is flat",
            f"from the first sample to the mean of the later half {rise:+.2f} against {flat:+.2f}",
            rise > flat,
        ),
        Claim(
            "Drawn tokens are accepted more than the likeliest, in the same tree",
            "3.24 against 2.94 tokens a call; 65-71 % against 60-64 % accepted",
            f"{drawn['tokens_per_call']:.2f} against {likeliest['tokens_per_call']:.2f}",
            drawn["tokens_per_call"] > likeliest["tokens_per_call"],
        ),
        Claim(
            "A tree fitted to counts beats the guessed one",
            "64.99 against 59.96 tokens a second",
            f"{own['tokens_per_call']:.2f} against {drawn['tokens_per_call']:.2f} tokens a call",
            own["tokens_per_call"] > drawn["tokens_per_call"],
        ),
        Claim(
            "Solutions are as often right as plain samples",
            "lossless",
            f"{shared['right']} against {plain['right']} of {plain['solutions']}, p = {p:.2f}",
            p > LEVEL,
        ),
    ]
