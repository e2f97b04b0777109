"""The options of `plan`, and the job that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.commands.decoding.uses import DRAFTS, LIKELIHOOD, USES, Name, is_function

Recipe = Literal["ctrl"]
Dtype = Literal["bfloat16", "float16", "float32"]
SAMPLED = {
    "best-of-n": 16,
    "self-certainty": 16,
    "controlled-decoding": 4,
    "smcg-td": 16,
}
"""Decoders whose rows are drawn, and how many if it is not said."""
BEAMS = {"beam-search": 4, "diverse-beam-search": 4, "stochastic-beam-search": 4}
STEADY = ("sample", "greedy", "momentum", *BEAMS, *SAMPLED)
"""Decoders of which every pass emits a token on every row; what others do depends on the text."""
COMPILED = ("greedy", "sample")
"""Decoders that the TPU's compiler is asked about."""
LOOKUP, LOOKED_UP, WRITTEN = "prompt-lookup", 10, 4
"""What drafts without a model, and tokens of a draft if it is not said, without and with one."""


@dataclass(frozen=True)
class Options:
    """Will it fit, and how fast at most?"""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|PATH")]
    """A published shape (llama-3.1-8b, qwen3-4b, ...), a zoo name, a folder or a .gguf file; a
    folder needs no weights, its config.json is enough."""
    topology: Annotated[str, tyro.conf.arg(metavar="CHIPS")]
    """TPUs by their shape (v5e:4x4, v5p:2x2x1, v6e:2x2), GPUs by their number (h200, h100x8)."""
    decoder: Name = "greedy"
    """How responses are found."""
    recipe: Recipe | None = None
    """Plan training instead: a policy, its reference, a reward and Adam."""
    mesh: Annotated[str | None, tyro.conf.arg(metavar="DATAxMODEL")] = None
    """Groups of a batch x parts of a model; all that divide are tried if not given."""
    batch: int = 16
    """Prompts at a time, on all chips together."""
    prompt_tokens: int = 1024
    """Of a prompt."""
    max_tokens: int = 256
    """Of a response."""
    dtype: Dtype = "bfloat16"
    """Of weights, values and cache; of training, what is computed in."""
    samples: int | None = None
    """Responses to a prompt, where a decoder draws several (its own number if not given)."""
    beams: int | None = None
    """Rows of a beam search (4 if not given)."""
    wave: int | None = None
    """Responses drawn at a time, which bounds memory; a divisor of --samples."""
    draft: Annotated[str | None, tyro.conf.arg(metavar="NAME|PATH|prompt-lookup")] = None
    """Speculate: a smaller model that writes drafts in a row, or prompt-lookup."""
    draft_tokens: int | None = None
    """Of a draft (4 of a model, 10 looked up)."""
    acceptance: float | None = None
    """The chance that a drafted token is accepted where those before it were."""
    reward: Annotated[str | None, tyro.conf.arg(metavar="NAME|PATH")] = None
    """A reward model that reads every response."""
    group: int = 8
    """Training: responses to a prompt."""
    parts: int = 1
    """Training: in how many parts a step's gradient is taken."""
    fsdp: bool = True
    """Training: weights, gradient and moments are split over all chips, or those of a model."""
    spare: float = 0.05
    """The share of a chip's memory that is left to its runtime."""
    compile: tyro.conf.FlagCreatePairsOff[bool] = False
    """Ask the TPU's own compiler as well (plain decoding; needs the `tpu` extra)."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the plan goes as JSON."""
    page: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html")] = None
    """Where the plan goes as a page."""


def check(options: Options) -> None:
    """Refuse what cannot be planned, before a model is looked at.

    Raises:
      ValueError: naming the option, its value and what to do.
    """
    o = options
    for name in ("batch", "prompt_tokens", "max_tokens", "samples", "beams", "wave",
                 "draft_tokens", "parts"):  # fmt: skip
        value = getattr(o, name)
        if value is not None and not 1 <= value < 2**31:
            raise ValueError(f"--{name.replace('_', '-')} {value}: give 1 or more")
    if not 0 <= o.spare < 1:
        raise ValueError(f"--spare {o.spare}: give a share, at least 0 and below 1")
    if o.reward is not None and is_function(o.reward):
        raise ValueError(f"--reward {o.reward}: a function costs no chip anything; leave it out")
    if o.recipe is not None:
        _check_training(o)
    else:
        _check_decoding(o)


def _check_training(o: Options) -> None:
    if o.group < 2:
        raise ValueError(f"--group {o.group}: a response's baseline is made of the others'; give 2")
    for name in ("samples", "beams", "wave", "draft", "draft_tokens", "acceptance"):
        if getattr(o, name) is not None:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} does nothing for --recipe {o.recipe}; leave it out")
    if o.decoder != "greedy":
        raise ValueError(
            f"--decoder {o.decoder} does nothing for --recipe {o.recipe}, which samples; leave it "
            "out"
        )
    if o.compile:
        raise ValueError(f"--compile is for plain decoding, not for --recipe {o.recipe}")


def _check_decoding(o: Options) -> None:
    if o.decoder not in STEADY:
        raise ValueError(
            f"--decoder {o.decoder}: how many passes it takes depends on the text; what can be "
            f"planned is {', '.join(STEADY)}"
        )
    for name in ("samples", "beams", "reward", "wave", "draft"):
        used = [user for user in STEADY if name in USES[user]]
        if getattr(o, name) is not None and o.decoder not in used:
            raise ValueError(
                f"--{name} does nothing for --decoder {o.decoder}; it is for {', '.join(used)}"
            )
    for name in ("draft_tokens", "acceptance"):
        if o.draft is None and getattr(o, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} does nothing without --draft")
    if o.draft is not None:
        if o.draft in DRAFTS and o.draft != LOOKUP:
            raise ValueError(
                f"--draft {o.draft}: what can be planned are drafts in a row; give a smaller "
                "model, or prompt-lookup"
            )
        if o.acceptance is None or not 0 <= o.acceptance <= 1:
            raise ValueError(
                f"--draft {o.draft} needs --acceptance, 0 to 1, the chance that a drafted token is "
                f"accepted{'' if o.acceptance is None else f'; {o.acceptance} is none'}; "
                "what `generate --output FILE` stores counts those of a run"
            )
    lines = lines_of(o)
    if o.wave is not None and lines % o.wave:
        raise ValueError(f"--wave {o.wave} does not divide --samples {lines}; give a divisor")
    if o.compile and (o.decoder not in COMPILED or o.draft is not None):
        raise ValueError(
            f"--compile is for --decoder {' or '.join(COMPILED)} without --draft; leave it out"
        )
    for name, usual in (("group", 8), ("parts", 1)):
        value = getattr(o, name)
        if value != usual:
            raise ValueError(f"--{name} {value} is for training; give --recipe ctrl as well")
    if not o.fsdp:
        raise ValueError("--no-fsdp is for training; give --recipe ctrl as well")


def lines_of(options: Options) -> int:
    """Rows of a prompt, all waves together."""
    if options.decoder in BEAMS:
        return options.beams or BEAMS[options.decoder]
    return options.samples or SAMPLED.get(options.decoder, 1)


def model_of(reward: str | None) -> str | None:
    """The reward model that is to be held beside the generator; None for its own likelihood."""
    return None if reward in (None, LIKELIHOOD) else reward
