"""Which decoder of the command line uses which options, and which it cannot do without.

An option that would do nothing is refused, not ignored. Nothing heavy is imported.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from experiments.commands.decoding.rules import Rules

Unmasking = Literal[
    "fast-dllm",
    "factor",
    "entropy-bounded",
    "fixed-k",
    "left-to-right",
    "learn2pd",
    "freedave",
]
Name = Literal[
    "sample",
    "greedy",
    "momentum",
    "contrastive-search",
    "adadec",
    "icn",
    "lud",
    "beam-search",
    "diverse-beam-search",
    "stochastic-beam-search",
    "superposed-decoding",
    "best-of-n",
    "speculative-rejection",
    "self-certainty",
    "controlled-decoding",
    "transfer-q-star",
    "a-star-decoding",
    "particle-filtering",
    "step-beams",
    "dvts",
    "pg-td",
    "smcg-td",
    Unmasking,
]
RANKED = (
    "greedy",
    "momentum",
    "contrastive-search",
    "adadec",
    "icn",
    "lud",
    "beam-search",
    "diverse-beam-search",
    "superposed-decoding",
    "pg-td",
)
"""Decoders that draw nothing."""
SCORED = ("best-of-n", "speculative-rejection", "controlled-decoding", "transfer-q-star")
STEPWISE = ("a-star-decoding", "particle-filtering", "step-beams", "dvts")
JUDGED = ("pg-td", "smcg-td")  # by a function of a completed text
UNMASKING: tuple[str, ...] = get_args(Unmasking)
"""Decoders of masked diffusion models, which fill a canvas; all others go from left to right."""
LIKELIHOOD = "likelihood"  # as a reward: the generator's own, of prompt and response

# Edits of the logits, in the order in which they are applied.
EDITED = (
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "dry",
    "no_repeat_ngram_size",
    "bad_words",
    "allowed_token_ids",
    "choices",
    "min_tokens",
    "top_n_sigma",
    "smoothing",
    "dynamic_temperature",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical",
    "epsilon",
    "eta",
    "xtc",
    "mirostat",
    "mirostat_top_k",
    "begin_with",
)
# Searches are changed by these alone.
RANKING = (
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "dry",
    "no_repeat_ngram_size",
    "bad_words",
    "allowed_token_ids",
    "choices",
    "min_tokens",
    "begin_with",
)
# Ways of drafting, in the order of what they need: nothing, a placeholder that the model learned,
# text, a smaller model, a head.
DRAFTS = (
    "prompt-lookup",
    "token-recycling",
    "lookahead",
    "stand",
    "placeholders",
    "rest",
    "aded",
    "chain",
    "specinfer",
    "spectr",
    "rsd-c",
    "rsd-s",
    "dyspec",
    "dyspec-threshold",
    "pearl",
    "specdec-pp",
    "medusa",
    "clover",
    "eagle",
    "eagle2",
    "kangaroo",
    "rasd",
)
UNITS = ("placeholder", "confidence", "span")  # of lexical units, said at once
DRAFTING = ("draft", "draft_tokens", "draft_model", "head", "corpus", "policy", *UNITS)
CANVAS = ("block", "cache")
STEPS = ("process_reward", "step_end", "step_tokens", "steps")
USES: dict[str, tuple[str, ...]] = {
    "sample": (*EDITED, *DRAFTING),
    "greedy": (*RANKING, *DRAFTING),
    "momentum": (*RANKING, *DRAFTING, "candidates", "penalty"),
    "contrastive-search": (*RANKING, "candidates", "penalty"),
    "adadec": (*RANKING, "threshold", "candidates", "ahead"),
    "icn": (*RANKING, "samples", "wave", "candidates", "between"),
    "lud": (*RANKING, *UNITS),
    "beam-search": (*RANKING, "beams", "length_penalty"),
    "diverse-beam-search": (*RANKING, "beams", "groups", "strength"),
    "stochastic-beam-search": (*EDITED, "beams"),
    "superposed-decoding": ("beams",),
    "best-of-n": (*EDITED, *DRAFTING, "samples", "wave", "reward"),
    "speculative-rejection": (*EDITED, *DRAFTING, "samples", "reward", "budget", "alpha", "rule"),
    "self-certainty": (*EDITED, "samples", "wave", "measure"),
    "controlled-decoding": (*EDITED, "samples", "reward", "block"),
    "transfer-q-star": (*EDITED, "samples", "reward", "alpha", "aligned", "candidates"),
    "a-star-decoding": (*EDITED, *STEPS, "samples", "expansions"),
    "particle-filtering": (*EDITED, *STEPS, "samples"),
    "step-beams": (*EDITED, *STEPS, "samples", "beams"),
    "dvts": (*EDITED, *STEPS, "samples", "beams"),
    "pg-td": ("reward", "samples", "candidates"),
    "smcg-td": (*EDITED, "reward", "samples"),
    "fast-dllm": (*CANVAS, "threshold"),
    "factor": (*CANVAS, "threshold"),
    "entropy-bounded": (*CANVAS, "threshold"),
    "fixed-k": (*CANVAS, "steps", "temperature"),
    "left-to-right": (*CANVAS, "steps", "temperature"),
    "learn2pd": (*CANVAS, "threshold", "lessons"),
    "freedave": (*CANVAS, "steps", "temperature", "drafts"),
}
GROUPS: dict[str, tuple[str, ...]] = {
    "tokens": ("max_tokens", *EDITED),
    "drafting": DRAFTING,
    "choosing": ("samples", "wave", "reward", "budget", "alpha", "rule", "measure", "block",
                 "aligned", "candidates", "penalty", "threshold", "ahead", "between"),
    "searching": ("beams", "length_penalty", "groups", "strength", *STEPS, "expansions"),
    "canvas": ("cache", "drafts", "lessons"),
}  # fmt: skip


def check(name: Name, rules: Rules) -> None:
    """Refuse options that `name` does not use or cannot do without.

    Raises:
      ValueError: naming the option and what would use it.
    """
    if name not in get_args(Name):
        raise ValueError(f"--decoder {name}: choose one of {', '.join(get_args(Name))}")
    for option in rules.given:
        if option not in USES[name]:
            users = ", ".join(user for user, used in USES.items() if option in used)
            flag = option.replace("_", "-")
            raise ValueError(f"--{flag} does nothing for --decoder {name}; it is for {users}")
    drafting = [option for option in DRAFTING if option != "draft" and "draft" in USES[name]]
    for option in drafting:
        if getattr(rules, option) is not None and rules.draft is None:
            raise ValueError(f"--{option.replace('_', '-')} does nothing without --draft")
    if name in SCORED and rules.reward is None:
        raise ValueError(
            f"--decoder {name} needs --reward: a reward model, FILE.py:FUNCTION of prompt and "
            f'response, or "{LIKELIHOOD}" for the model\'s own'
        )
    if name in JUDGED and (rules.reward is None or not is_function(rules.reward)):
        raise ValueError(
            f"--decoder {name} needs --reward FILE.py:FUNCTION, a function of prompt and "
            "response with values in [0, 1]"
        )
    if name in STEPWISE and rules.process_reward is None:
        raise ValueError(
            f"--decoder {name} needs --process-reward, a model that scores every step: the zoo "
            "has arithmetic-steps for arithmetic"
        )
    if name == "adadec" and rules.threshold is None:
        raise ValueError(
            f"--decoder {name} needs --threshold: nats of entropy, or the file that `python -m "
            "experiments threshold MODEL TEXTS --out FILE` learned"
        )
    if name == "lud" and rules.placeholder is None:
        raise ValueError(
            f"--decoder {name} needs --placeholder, the id of the row beyond the vocabulary that "
            "the model learned to say lexical units from"
        )
    _check_canvas(name, rules)
    if name == "speculative-rejection" and rules.budget is None:
        width = rules.samples or 16
        raise ValueError(
            f"--decoder {name} needs --budget, cache tokens per prompt: at least {width} times "
            f"the prompt and a few tokens, below {width} times the prompt and "
            f"{rules.max_tokens} tokens"
        )


def _check_canvas(name: Name, rules: Rules) -> None:
    """Refuse what no canvas can be filled by.

    Raises:
      ValueError: naming the option and the fix.
    """
    if name not in UNMASKING:
        return
    if name == "learn2pd" and rules.lessons is None:
        raise ValueError(
            "--decoder learn2pd needs --lessons, a file of prompts: its filter is trained by how "
            "this model fills their canvases one place a pass, for which 30 are enough"
        )
    share, value = name in ("fast-dllm", "learn2pd"), rules.threshold
    if isinstance(value, str) or not 0 <= (value or 0) <= (1 if share else float("inf")):
        raise ValueError(
            f"--threshold {value}: for --decoder {name} give "
            f"{'a probability, 0 to 1' if share else '0 or more; 0 fills one place a pass'}"
        )
    places, block = rules.max_tokens, rules.block
    for option in ("max_tokens", "block", "steps", "drafts"):
        given = getattr(rules, option)
        if given is not None and given < 1:
            raise ValueError(f"--{option.replace('_', '-')} {given}: give at least 1")
    if block is not None and places % block:
        raise ValueError(f"--block {block} does not divide --max-tokens {places}; give a divisor")


def is_function(reward: str) -> bool:
    """Whether a reward is given as FILE.py:FUNCTION."""
    file, colon, function = reward.rpartition(":")
    return bool(colon) and file.endswith(".py") and function.isidentifier()


def settings(name: Name, rules: Rules) -> dict[str, Any]:
    """Everything that was set, for the record."""
    return {"decoder": name, "max_tokens": rules.max_tokens, **rules.given}
