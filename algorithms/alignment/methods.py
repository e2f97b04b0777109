"""The methods of `algorithms.alignment.align`, by what they learn from."""

from __future__ import annotations

from typing import Literal, get_args

Drawing = Literal["ctrl", "rloo", "ppo", "grpo"]
"""Methods that learn from draws of the policy, by their reward."""
Paired = Literal["dpo", "ipo", "bonbon", "sft"]
"""Methods that learn from pairs of responses."""
Method = Literal[Drawing, Paired]
DRAWING: tuple[str, ...] = get_args(Drawing)
PAIRED: tuple[str, ...] = get_args(Paired)
METHODS: tuple[str, ...] = (*DRAWING, *PAIRED)
