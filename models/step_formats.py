"""How published process reward models want a question and its steps written.

Each function turns text into a `Solution`: ids, and where `ProcessReward` finds the steps in
them. The tag, the template, BOS and the reading position are the model's own; another model's
format scores noise.

    math_shepherd   a tag after every step; Wang et al. 2023 (arXiv:2312.08935)
    qwen_math       a tag after every step of the assistant's turn; Zhang et al. 2025
                    (arXiv:2501.07301)
    rlhflow         a step is the user's turn, "+" or "-" the assistant's; Xiong et al. 2024
                    (github.com/RLHFlow/RLHF-Reward-Modeling)
    skywork         a line break after every step; He et al. 2024 (Skywork-o1 Open series)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.process_rewards import Where
from models.text import Tokenizer

QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True)
class Solution:
    """A question and its steps, as a judge reads them.

    Attributes:
      ids: the tokens.
      separator: the tokens that end a step; see `ProcessReward`.
      at: where the score is read; see `ProcessReward`.
      first: where the solution begins; a separator before it is the question's.
      steps: how many there are.
    """

    ids: list[int]
    separator: tuple[int, ...]
    at: Where
    first: int
    steps: int

    def __post_init__(self) -> None:
        width = len(self.separator)
        ends = range(self.first + width, len(self.ids) + 1)
        found = sum(tuple(self.ids[end - width : end]) == self.separator for end in ends)
        if found != self.steps:
            raise ValueError(
                f"steps: {self.steps} were given, but {found} separators came out; a step, or "
                "the question, holds the separator itself, or a step is empty"
            )


def math_shepherd(
    tokenizer: Tokenizer, question: str, steps: Sequence[str], tag: str = "ки"
) -> Solution:
    """The question, a space, and lines that end in a tag.

    Judge by tokens 648 (+) and 387 (-) of its vocabulary, in which the tag is 12902.
    """
    _check(steps)
    lines = "\n".join(f"{step} {tag}" for step in steps)
    separator = tokenizer.encode(f"a {tag}", add_special=False)[-1:]
    return _solution(tokenizer.encode(f"{question} {lines}"), separator, steps)


def qwen_math(
    tokenizer: Tokenizer,
    question: str,
    steps: Sequence[str],
    tag: str = "<extra_0>",
    system: str = QWEN_SYSTEM,
) -> Solution:
    """A chat whose last turn has a tag after every step."""
    _check(steps)
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": question},
        {"role": "assistant", "content": "".join(step + tag for step in steps)},
    ]
    separator = tokenizer.encode(tag, add_special=False)
    return _solution(tokenizer.encode_chat(messages), separator, steps)


def rlhflow(
    tokenizer: Tokenizer, question: str, steps: Sequence[str], verdict: str = "+"
) -> Solution:
    """A chat in which every step is answered by a verdict; the first follows the question.

    The score is what the model would have said in the verdict's place.
    """
    _check(steps)
    messages: list[dict[str, str]] = []
    for index, step in enumerate(steps):
        content = f"{question} {step}" if index == 0 else step
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": verdict})
    template = tokenizer.chat_template
    closed, answered, whole = template.render([messages[:1], messages[:2], messages])
    (opened,) = template.render([messages[:1]], add_generation_prompt=True)
    if not (opened.startswith(closed) and answered.startswith(opened + verdict)):
        raise ValueError(
            "chat template: the assistant's turn does not begin as its generation prompt says; "
            "rlhflow cannot find the verdicts in it"
        )
    return _solution(
        tokenizer.encode(whole, add_special=False),
        tokenizer.encode(opened.removeprefix(closed) + verdict, add_special=False),
        steps,
        at="before",
    )


def skywork(tokenizer: Tokenizer, question: str, steps: Sequence[str]) -> Solution:
    """BOS, the question and a line break; then each step and a line break, encoded apart."""
    _check(steps)
    ids = [] if tokenizer.bos is None else [tokenizer.bos]
    ids += tokenizer.encode(question + "\n", add_special=False)
    line_break = tokenizer.encode("\n", add_special=False)[-1]
    first = len(ids)
    for step in steps:
        ids += [*tokenizer.encode(step, add_special=False), line_break]
    return Solution(ids, (line_break,), "separator", first, len(steps))


def _check(steps: Sequence[str]) -> None:
    if not steps or isinstance(steps, str):
        raise ValueError(f"steps={steps!r}: a list of one text or more is needed")


def _solution(
    ids: list[int], separator: list[int], steps: Sequence[str], at: Where = "separator"
) -> Solution:
    return Solution(ids, tuple(separator), at, 0, len(steps))
