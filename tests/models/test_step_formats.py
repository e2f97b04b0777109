"""The formats of published process reward models, spelled out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.chat import ChatTemplate
from models.step_formats import Solution, math_shepherd, qwen_math, rlhflow, skywork
from models.text import Tokenizer
from tests.models.vocabularies import byte_level

TURNS = """{{ bos_token }}{% for m in messages %}<{{ m.role }}>
{{ m.content }}<end>
{% endfor %}{% if add_generation_prompt %}<assistant>
{% endif %}"""


def tokenizer(template=TURNS) -> Tokenizer:
    inner = byte_level()
    inner.add_special_tokens(["<extra_0>", "<user>", "<assistant>", "<system>"])
    bos = inner.token_to_id("<bos>")
    return Tokenizer(inner, bos=bos, template=ChatTemplate(template, {"bos_token": "<bos>"}))


TOKENIZER = tokenizer()
STEPS = ["the cat + 1.", "so 2", "at 3"]


def marked(solution: Solution) -> list[str]:
    """The text up to and with each separator."""
    width, text = len(solution.separator), []
    for end in range(solution.first + width, len(solution.ids) + 1):
        if tuple(solution.ids[end - width : end]) == solution.separator:
            text.append(TOKENIZER.decode(solution.ids[:end], skip_special=False))
    return text


def test_math_shepherd():
    solution = math_shepherd(TOKENIZER, "why?", STEPS)
    assert marked(solution) == [
        "<bos>why? the cat + 1. ки",
        "<bos>why? the cat + 1. ки\nso 2 ки",
        "<bos>why? the cat + 1. ки\nso 2 ки\nat 3 ки",
    ]
    assert (solution.at, solution.steps) == ("separator", 3)


def test_qwen_math():
    solution = qwen_math(TOKENIZER, "why?", STEPS, system="S")
    head = "<bos><system>\nS<end>\n<user>\nwhy?<end>\n<assistant>\n"
    assert marked(solution)[2] == head + "the cat + 1.<extra_0>so 2<extra_0>at 3<extra_0>"
    assert len(solution.separator) == 1
    assert TOKENIZER.decode(solution.ids, False).endswith("<extra_0><end>\n")


def test_rlhflow():
    solution = rlhflow(TOKENIZER, "why?", STEPS)
    one, two, _ = marked(solution)
    assert one == "<bos><user>\nwhy? the cat + 1.<end>\n<assistant>\n+"
    assert two == one + "<end>\n<user>\nso 2<end>\n<assistant>\n+"
    # The "+" within a step is no verdict.
    plus = TOKENIZER.encode("+", add_special=False)[-1]
    assert solution.ids.count(plus) == 4
    assert solution.separator[-1] == plus
    assert solution.at == "before"


def test_skywork():
    solution = skywork(TOKENIZER, "a\nb", STEPS)
    assert marked(solution)[1] == "<bos>a\nb\nthe cat + 1.\nso 2\n"
    assert TOKENIZER.decode(solution.ids[: solution.first], False) == "<bos>a\nb\n"


@pytest.mark.parametrize("build", [math_shepherd, qwen_math, rlhflow, skywork])
def test_every_format_refuses_what_has_no_steps(build):
    for steps in ([], "one"):
        with pytest.raises(ValueError, match="a list of one text or more"):
            build(TOKENIZER, "why?", steps)


def test_separators_within_steps_are_refused():
    with pytest.raises(ValueError, match="2 were given, but 3 separators"):
        qwen_math(TOKENIZER, "why?", ["a<extra_0>", "b"])
    with pytest.raises(ValueError, match="1 were given, but 2 separators"):
        skywork(TOKENIZER, "why?", ["a\nb"])
    with pytest.raises(ValueError, match="1 were given, but 2 separators"):
        rlhflow(TOKENIZER, "why?", ["a<end>\n<assistant>\n+"])


def test_a_template_that_opens_turns_in_two_ways_is_refused():
    odd = tokenizer(TURNS.replace("<assistant>\n{% endif", "<assistant> {% endif"))
    with pytest.raises(ValueError, match="rlhflow cannot find"):
        rlhflow(odd, "why?", STEPS)
    with pytest.raises(ValueError, match="no chat template"):
        rlhflow(replace(TOKENIZER, template=None), "why?", STEPS)
