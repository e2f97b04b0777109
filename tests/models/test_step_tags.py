"""A* under judges that read published formats: every reward is that of the text as published."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from algorithms.search.a_star_decoding import AStar
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Allow
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from jaxdecode.tagged_reward import TaggedReward, Tags
from models import step_formats, step_tags
from models.presets import small
from models.process_rewards import ProcessReward
from models.rewards import RewardModel
from models.transformer import Transformer
from tests.models.test_step_formats import TOKENIZER, tokenizer

QUESTION, LONGEST, WIDTH = "why?", 12, 192
VOCAB = TOKENIZER.inner.get_vocab_size()
END = VOCAB - 1  # of a response; no format writes it
BREAK = TOKENIZER.encode(";;", add_special=False)
LETTERS = TOKENIZER.encode("abc;", add_special=False)
FORMATS: dict[str, tuple[Any, Any]] = {
    "math_shepherd": (step_tags.math_shepherd, step_formats.math_shepherd),
    "qwen_math": (step_tags.qwen_math, step_formats.qwen_math),
    "rlhflow": (step_tags.rlhflow, step_formats.rlhflow),
    "skywork": (step_tags.skywork, step_formats.skywork),
}


@pytest.fixture(scope="module")
def steps() -> StepSampler:
    """Steps of one to four of a few letters, most cut for length."""
    model = Transformer(small(VOCAB, hidden=16, layers=1), rngs=nnx.Rngs(0))
    generator = Generator(model, Allow.of([*LETTERS, END]), Categorical(), Stop.of(END), LONGEST)
    return StepSampler(generator, Stop.of((), [BREAK]), width=4, depth=3)


@pytest.fixture(scope="module")
def judge() -> RewardModel:
    model = Transformer(small(VOCAB, hidden=16, layers=1), rngs=nnx.Rngs(1))
    model = jax.tree.map(lambda weight: 4 * weight, model)
    return RewardModel.of_language_model(model, ids=LETTERS[:2], good=LETTERS[0])


def pieces(tokens: list[int], ends: list[int]) -> list[str]:
    """The steps as text, without what delimits or ends them."""
    found = [tokens[first:last] for first, last in zip([0, *ends], ends, strict=False)]
    texts = []
    for step in found:
        step = step[:-1] if step[-1] == END else step
        step = step[:-2] if step[-2:] == BREAK else step
        texts.append(TOKENIZER.decode(step))
    return texts


@pytest.mark.parametrize("name", FORMATS)
def test_a_search_reads_what_was_published(name, steps, judge) -> None:
    tags, written = FORMATS[name]
    reward = TaggedReward(
        judge, tags(TOKENIZER), jnp.asarray(BREAK), jnp.asarray([END]), skip=(1, 0)
    )
    asked = [TOKENIZER.bos or 0, *TOKENIZER.encode(QUESTION, add_special=False)]
    prompt = Prompt.of([asked, [*asked, LETTERS[0]]], width=8)
    search = AStar(steps, reward, children=3, expansions=4).search
    arena, _, _ = jax.device_get(jax.jit(type(search).run)(search, jax.random.key(2), prompt))
    rewards, solutions = [], []
    for row, question in enumerate((QUESTION, QUESTION + "a")):
        for node in range(1, int(arena.nodes[row])):
            path = [int(n) for n in arena.path[row, node] if n > 0]
            ends = [int(arena.length[row, n]) for n in path]
            texts = pieces(arena.tokens[row, node, : ends[-1]].tolist(), ends)
            if not all(texts):
                continue  # a step of nothing but its delimiter; no format can write it
            solutions.append(written(TOKENIZER, question, texts))
            rewards.append(arena.reward[row, node])
    ids = np.zeros((search.nodes * 2, WIDTH), np.int32)
    for row, solution in zip(ids, solutions, strict=False):
        row[: len(solution.ids)] = solution.ids
    length, first, counts = (
        np.asarray([of(one) for one in solutions] + [0] * (len(ids) - len(solutions)))
        for of in (lambda one: len(one.ids), lambda one: one.first, lambda one: one.steps)
    )
    read = ProcessReward.of(judge, solutions[0].separator, solutions[0].at)
    scores, found = jax.jit(type(read).__call__, static_argnums=3)(read, ids, length, 3, first)
    np.testing.assert_array_equal(found, counts)
    several = len(solutions)
    last = np.asarray(scores)[np.arange(several), counts[:several] - 1]
    np.testing.assert_allclose(rewards, last, rtol=2e-4)
    assert {1, 2} <= set(counts.tolist())
    assert (arena.usage.scorer_passes == arena.nodes - 1).all()


def test_frames_of_a_chat() -> None:
    chat = [{"role": "user", "content": QUESTION}]
    ids = TOKENIZER.encode_chat(chat, add_generation_prompt=True)
    front, back = step_tags.chat_frame(TOKENIZER)
    assert TOKENIZER.decode(ids[front : len(ids) - back]) == QUESTION


def test_refusals() -> None:
    with pytest.raises(ValueError, match="separator: without a token"):
        Tags.of([1], [2], [])
    with pytest.raises(ValueError, match="at='after'"):
        Tags.of([1], [2], [3], at="after")  # pyright: ignore[reportArgumentType]
    silent = tokenizer("{{ bos_token }}{% for m in messages %}{{ m.role }}{% endfor %}")
    with pytest.raises(ValueError, match="does not write the contents"):
        step_tags.qwen_math(silent)
    hasty = tokenizer(
        "{% for m in messages %}{{ m.content }}|{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    with pytest.raises(ValueError, match="does not begin as its generation prompt"):
        step_tags.rlhflow(hasty)
