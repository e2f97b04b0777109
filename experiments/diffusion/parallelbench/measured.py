"""The trained denoiser on lists of one length: its accuracy by places a step, and its divergence.

With the law p of right answers, of which the question leaves all equally likely, and the
denoiser's q, in bits:

    in one step          KL(p || product of the q_i at once)       at least C, whatever the model
    one at a time        KL(p || chain of q in a random order)     the model's own error

Their difference is what deciding at once costs beyond the model's error; C where it has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.diffusion.parallelbench import Operation, law, sampled_accuracy
from experiments.diffusion.parallelbench.setting import MEASURED, Setting
from experiments.tasks.canvas.lists import parse
from experiments.tasks.task import Example
from jaxdecode.choose import Fixed, Top
from jaxdecode.finite_law import FiniteLaw
from jaxdecode.likelihood import Texts, in_order
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.train.masked import predictions

DRAWS = 2  # texts of each question's law, for the chain
LAWS: dict[str, Operation] = {"replace_random": "replace_random", "shuffle": "shuffle"}
_in_order = jax.jit(in_order)
_predictions = jax.jit(predictions)


def ideal(operation: str) -> Operation:
    """The law by name; those with one right answer are as copying."""
    return LAWS.get(operation, "copy")


def accuracies(setting: Setting, k: int) -> dict[str, list[bool]]:
    """Which answers are right, drawn k places a step in a random order, by operation."""
    config, n = setting.config, setting.config.items
    examples = {name: setting.questions(name, config.asked, n) for name in MEASURED}
    prompt = setting.prompts([e for some in examples.values() for e in some])
    chooser = Top(Fixed(jnp.int32(k)), "random")
    un = setting.unmasker(chooser, n, n, Categorical())
    texts, _ = setting.answers(un, prompt, k)
    found = {}
    for index, (name, some) in enumerate(examples.items()):
        said = texts[index * config.asked : (index + 1) * config.asked]
        found[name] = setting.right(name, some, said)
    return found


def row(setting: Setting, k: int, operation: str, right: Sequence[bool]) -> dict[str, Any]:
    """For the table; the closed form of a shuffle lets it change nothing, which is not right here:
    one order of n!, by which the two laws differ."""
    expected = sampled_accuracy(ideal(operation), setting.config.items, k)  # type: ignore[arg-type]
    return {
        "part": "denoiser",
        "task": operation,
        "policy": "random order, drawn",
        "k": k,
        "accuracy": float(np.mean(right)),
        "closed form": expected,
    }


def divergences(setting: Setting, operation: str) -> dict[str, Any]:
    """Both divergences of every question, in bits, and C."""
    config, n = setting.config, setting.config.items
    examples = setting.questions(operation, config.asked, n)
    found = law(ideal(operation), n, identity=operation != "shuffle")
    rng = np.random.default_rng(config.seed)
    prompt = setting.prompts(examples)
    width = prompt.tokens.shape[1] + n
    once, chain = [], []
    texts = [spelled(setting, operation, example, found) for example in examples]
    once = at_once(setting, prompt, width, found, texts)
    drawn = rng.choice(len(found.support), (len(examples), DRAWS), p=found.probability)
    tokens = np.stack([texts[q][drawn[q]] for q in range(len(examples))])
    chain = one_by_one(setting, prompt, width, tokens, rng) + np.log2(found.probability)[
        drawn
    ].mean(axis=1)
    return {
        "part": "divergence",
        "task": operation,
        "bound": found.correlation(),
        "at once": once.tolist(),
        "one by one": chain.tolist(),
    }


def spelled(setting: Setting, operation: str, example: Example, found: FiniteLaw) -> np.ndarray:
    """i64[N, n], tokens of every text of the law on this question's items."""
    question = parse(example.prompt)
    words = [*question.items, question.word]
    if ideal(operation) == "copy":  # there is one answer
        words = example.target.split()
    ids = np.array([_token(setting, word) if word else -1 for word in words])
    return ids[found.support]


def _token(setting: Setting, word: str) -> int:
    (token,) = setting.text.encode(word, add_special=False)
    return token


def canvases(prompt: Prompt, width: int, answers: np.ndarray) -> Texts:
    """Prompts with `answers` i[B, n] right behind them."""
    length = np.asarray(prompt.length)
    tokens = np.zeros((len(length), width), np.int32)
    tokens[:, : prompt.tokens.shape[1]] = np.asarray(prompt.tokens)
    place = np.arange(answers.shape[1]) + length[:, None]
    np.put_along_axis(tokens, place, answers, axis=1)
    answer = np.zeros(tokens.shape, bool)
    np.put_along_axis(answer, place, True, axis=1)
    return Texts(jnp.asarray(tokens), jnp.asarray(answer), jnp.asarray(length + answers.shape[1]))


def at_once(
    setting: Setting, prompt: Prompt, width: int, found: FiniteLaw, texts: list[np.ndarray]
) -> np.ndarray:
    """KL(p || product of marginals) of every question, in bits."""
    mask = np.full((prompt.batch, found.length), setting.denoiser.mask_id)
    canvas = canvases(prompt, width, mask)
    laws = np.asarray(_predictions(setting.denoiser, canvas.tokens, canvas.length))
    entropy = -np.sum(found.probability * np.log2(found.probability))
    place, bits = np.arange(found.length), []
    for row, (length, every) in enumerate(zip(np.asarray(prompt.length), texts, strict=True)):
        logs = laws[row, length + place[None, :], every].sum(axis=1) / np.log(2)
        bits.append(-np.sum(found.probability * logs) - entropy)
    return np.array(bits)


def one_by_one(
    setting: Setting, prompt: Prompt, width: int, tokens: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Mean over draws of -log2 q of texts i[B, DRAWS, n], filled in random orders."""
    bits = []
    for draw in range(tokens.shape[1]):
        canvas = canvases(prompt, width, tokens[:, draw])
        rank = np.zeros(canvas.tokens.shape, np.int32)
        order = np.argsort(rng.random((len(tokens), tokens.shape[2])), axis=1)
        place = np.arange(tokens.shape[2]) + np.asarray(prompt.length)[:, None]
        np.put_along_axis(rank, place, order, axis=1)
        bits.append(np.asarray(_in_order(setting.denoiser, canvas, jnp.asarray(rank))) / np.log(2))
    return np.mean(bits, axis=0)
