"""The formats of `models.step_formats` as tags, for a search that judges steps as they are drawn.

Each function gives what stands around the question and behind each step (`Tags`). Pieces are
encoded apart, so that a tokenizer which merges characters across their borders reads other
tokens there than from the whole text.
"""

from __future__ import annotations

from jaxdecode.tagged_reward import Tags
from models.step_formats import QWEN_SYSTEM
from models.text import Tokenizer

QUESTION, STEP = "QUESTION-OF-THE-USER", "STEP-OF-A-SOLUTION"  # stand-ins in a template


def math_shepherd(tokenizer: Tokenizer, tag: str = "ки") -> Tags:
    """A space and a tag after every step, on a line of its own."""
    return Tags.of(
        _bos(tokenizer),
        _encode(tokenizer, " "),
        _encode(tokenizer, f" {tag}"),
        _encode(tokenizer, "\n"),
    )


def qwen_math(tokenizer: Tokenizer, tag: str = "<extra_0>", system: str = QWEN_SYSTEM) -> Tags:
    """A tag after every step of the assistant's one turn."""
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": STEP},
    ]
    opening, closing, _ = _split(tokenizer.chat_template.render([messages])[0], QUESTION, STEP)
    return Tags.of(
        _encode(tokenizer, opening), _encode(tokenizer, closing), _encode(tokenizer, tag)
    )


def rlhflow(tokenizer: Tokenizer, verdict: str = "+") -> Tags:
    """A turn of the user for every step, answered by a verdict in whose place the score is."""
    answered = {"role": "assistant", "content": verdict}
    first = {"role": "user", "content": f"{QUESTION} {STEP}"}
    second = {"role": "user", "content": STEP}
    template = tokenizer.chat_template
    (opened,) = template.render([[first]], add_generation_prompt=True)
    (whole,) = template.render([[first, answered, second, answered]])
    opening, closing, separator = _split(opened, QUESTION, STEP)
    if not whole.startswith(opened + verdict):
        raise ValueError(
            "chat template: the assistant's turn does not begin as its generation prompt says; "
            "rlhflow cannot find the verdicts in it"
        )
    joint, _ = _split(whole.removeprefix(opened + verdict), STEP)
    pieces = (_encode(tokenizer, text) for text in (opening, closing, separator + verdict, joint))
    return Tags.of(*pieces, at="before")


def skywork(tokenizer: Tokenizer) -> Tags:
    """A line break after the question and after every step."""
    line_break = _encode(tokenizer, "\n")
    return Tags.of(_bos(tokenizer), line_break, line_break[-1:])


def chat_frame(tokenizer: Tokenizer) -> tuple[int, int]:
    """How many tokens a generator's chat template puts before and after the user's words."""
    messages = [{"role": "user", "content": QUESTION}]
    (text,) = tokenizer.chat_template.render([messages], add_generation_prompt=True)
    before, after = _split(text, QUESTION)
    return len(_encode(tokenizer, before)), len(_encode(tokenizer, after))


def _bos(tokenizer: Tokenizer) -> list[int]:
    return [] if tokenizer.bos is None else [tokenizer.bos]


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special=False) if text else []


def _split(text: str, *marks: str) -> list[str]:
    """What stands around the stand-ins, each of which is to occur once and in order."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise ValueError("chat template: it does not write the contents of messages as given")
        pieces.append(before)
    return [*pieces, text]
