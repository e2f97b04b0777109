"""What the experiment on Clover measures: tokens a pass, costs, accuracies by place."""

from __future__ import annotations

from typing import Any

from algorithms.speculative.drafters.heads import DraftHeads, Heads
from algorithms.speculative.drafters.nucleus import Nucleus
from algorithms.speculative.verifiers.match import Match
from experiments.harness.report import Resumption
from experiments.speculative.clover.setting import LESSON, Config
from experiments.speculative.speculation import Field, agreement, decode_field, pass_seconds
from experiments.speculative.trained_heads import score
from jaxdecode.plain import Autoregressive
from jaxdecode.speculate import Speculator


def head_cost(field: Field, head: DraftHeads, guesses: float) -> float:
    """Of a step, in passes of the target over one token, by parameters."""
    spent = guesses * head.guessing.parameters + head.absorbing.parameters
    return spent / field.target.cost.parameters


def measure(config: Config, field: Field, head: DraftHeads, size: int, plain) -> dict[str, Any]:
    """Decode the prompts with trees of at most `size` tokens."""
    drafter = Heads(head, Nucleus(size))
    decoder = Autoregressive(Speculator(field.generator(), drafter, Match()))
    found = decode_field(field, decoder, config.batch, config.seed)
    guesses = float(found.draft_tokens.sum() / found.passes.sum())
    return {
        "extra": found.per_call - 1,
        "tree": float(found.drafted.sum() / found.passes.sum()),
        "head_cost": head_cost(field, head, guesses),
        "same_text": agreement(found, plain),
        "by prompt": found.by_prompt(),
    }


def passes(field: Field, batch: int, size: int) -> dict[str, float]:
    """T(size + 1) / T(1) at a batch size."""
    seconds = pass_seconds(field.target, (1, size + 1), batch)
    return {"verify": seconds[size + 1] / seconds[1]}


def accuracies(
    config: Config, finished: Resumption, field: Field, heads: dict[str, Any]
) -> list[dict[str, Any]]:
    """One row for each kind and head."""
    found = finished.row("accuracy", lambda: score(field.target, heads, LESSON, config.training))
    return [
        {
            "study": "accuracy",
            "kind": kind,
            "head": index + 1,
            "top1": found[f"{kind}/accuracy_{index}"],
            "top5": found[f"{kind}/top5_{index}"],
        }
        for kind in heads
        for index in range(config.heads)
    ]
