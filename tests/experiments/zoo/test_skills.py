"""What cards say that models can do, and what knows nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import zoo
from experiments.tasks import tokenizer
from experiments.tasks.dialog import Dialog
from experiments.tasks.task import Example
from experiments.zoo.recipe import HELD_OUT_STEPS
from experiments.zoo.skills.answers import Answers, counted, written
from experiments.zoo.skills.drafts import Accepted, Constant, Foreseen
from experiments.zoo.skills.judges import Pairs, Steps, area, everywhere, rewards
from experiments.zoo.skills.skill import Skill, Skills
from experiments.zoo.skills.tokens import Frequencies, Nats, by_place, by_word
from jaxdecode.train.foresight import acceptance
from models.presets import small
from models.transformer import Transformer

GOOD, BAD = Skill(0.9, 0.1, 20), Skill(0.2, 0.3, 10)


def test_a_card_is_what_was_measured():
    skills = Skills("share", "nothing", {"easy": GOOD, "hard": BAD})
    assert Skills.of_card({"skills": skills.card(), "recipe": ""}) == skills
    assert skills.gain("easy") == pytest.approx(0.8)
    assert skills.told() == (
        "share: best easy 0.9 (nothing known: 0.1); worst hard 0.2 (nothing known: 0.3)"
    )
    less = Skills("nats", "nothing", {"hard": BAD}, less=True)
    assert less.gain("hard") == pytest.approx(0.1)
    assert less.told() == "nats: hard 0.2 (nothing known: 0.3)"


def test_a_card_without_is_refused():
    with pytest.raises(ValueError, match="name one"):
        Skills("share", "nothing", {})
    with pytest.raises(ValueError, match=r"nothing of the kinds \['hard'\]"):
        Skills("share", "nothing", {"hard": Skill(0.0, 0.0, 0)})
    with pytest.raises(ValueError, match="zoo score sql"):
        Skills.of_card({"recipe": "python -m experiments zoo train sql"})


@pytest.mark.parametrize("name", zoo.names())
def test_a_shipped_model_knows_something(name):
    skills = Skills.of_card(json.loads((zoo.WEIGHTS / name / "card.json").read_text()))
    assert max(map(skills.gain, skills.of)) > 0


@dataclass(frozen=True)
class Alike:
    """Questions "x 1", all answered "a", and questions "y 1", "y 2", ... answered "b", "c", ..."""

    name: str = "alike"

    def sample(self, rng: np.random.Generator, count: int, split: str) -> list[Example]:
        one = [Example("x 1", "a", {"sort": 1}) for _ in range(count // 2)]
        letters = "bcdefgh"
        return one + [Example(f"y {i}", letters[i], {"sort": 2}) for i in range(count - count // 2)]

    def verify(self, prompt: str, completion: str) -> float:
        right = "a" if prompt[0] == "x" else "bcdefgh"[int(prompt[-1])]
        return float(completion == right)

    def extract(self, completion: str) -> str | None:
        return completion


def test_the_answer_to_another_question_knows_nothing():
    codec = tokenizer.words([*"abcdefghxy", *"0123456789"])
    model = Transformer(small(codec.vocab_size, hidden=32, layers=1), rngs=nnx.Rngs(0))
    able = Answers(Alike(), counted("sort", "sorts"), codec, written(codec, 2), drawn=10)
    found = able(model)
    assert {kind: (one.baseline, one.asked) for kind, one in found.of.items()} == {
        "sorts: 1": (1.0, 5),
        "sorts: 2": (0.0, 5),
    }
    said = able._texts(model, Alike().sample(np.random.default_rng(0), 10, "test"))
    right = np.mean([Alike().verify("x 1", text) for text in said[:5]])
    assert found.of["sorts: 1"].model == right


def batch(step: int) -> dict[str, np.ndarray]:
    tokens = np.random.default_rng(step).integers(0, 4, (3, 6)).astype(np.int32)
    mask = np.arange(6) > np.array([0, 1, 2])[:, None]
    return {"tokens": tokens, "loss_mask": mask, "length": np.full(3, 6, np.int32)}


def test_frequencies_are_counted_and_are_the_baseline_of_nats():
    blind = Frequencies.counted(lambda: batch, 5, exits=2)
    counts = np.ones(5)
    for step in range(16):
        np.add.at(counts, batch(step)["tokens"][batch(step)["loss_mask"]], 1)
    np.testing.assert_allclose(np.exp(blind.law[...]), counts / counts.sum(), rtol=1e-5)
    able = Nats(lambda: batch, lambda: batch, by_place(2), 5)
    found = able(Frequencies(blind.law[...]))
    assert list(found.of) == ["tokens 0 to 1", "tokens from 2"]
    for one in found.of.values():
        assert one.model == pytest.approx(one.baseline)
    first = [batch(s)["tokens"][r, r + 1 : r + 3] for s in range(HELD_OUT_STEPS) for r in range(3)]
    law = np.log(counts / counts.sum())
    assert found.of["tokens 0 to 1"].asked == sum(map(len, first))
    expected = -law[np.concatenate(first)].mean()
    assert found.of["tokens 0 to 1"].model == pytest.approx(expected, rel=1e-5)


def test_kinds_of_words():
    codec = tokenizer.words(["def", "name", "7", "(", "True"])
    ids = codec.encode("def name 7 ( True")
    kinds = by_word(codec)({"tokens": np.array([ids])})
    assert kinds.tolist() == [["keywords", "names and words", "numbers", "marks", "keywords"]]


def test_acceptance_is_told_draft_by_draft():
    def score(model) -> dict[str, float]:
        low = isinstance(model, Frequencies)
        return {"acceptance_0": 0.1 if low else 0.5, "acceptance_1": 0.1 if low else 0.3,
                "weight": 12.0}  # fmt: skip

    found = Accepted(score, lambda: batch, 5, exits=2)(object())
    assert found.of == {
        "draft token 1": Skill(0.5, 0.1, 12 * HELD_OUT_STEPS),
        "draft token 2": Skill(0.3, 0.1, 12 * HELD_OUT_STEPS),
    }


def test_no_constant_foresees_better_than_the_baseline():
    label = jnp.array([[0.9, 0.5, 0.8, 0.1]])
    lesson = (jnp.zeros((1, 4, 2)), label, jnp.array([[True, True, True, False]]))

    def score(model) -> dict[str, float]:
        loss, metrics = acceptance(model, *lesson, rejection=3.0)
        return {"loss": float(loss), **{name: float(value) for name, value in metrics.items()}}

    blind = Foreseen(score, 3.0)(Constant(0.0)).of["draft tokens"]
    assert blind.asked == 3 * HELD_OUT_STEPS
    others = [score(Constant(x))["loss"] for x in np.linspace(-3, 3, 41)]
    assert blind.baseline < min(others) + 1e-6


class Judge:
    """Rewards that a function of (tokens, place) gives."""

    def __init__(self, worth) -> None:
        self.worth = worth

    def forward(self, tokens, valid):
        return self.worth(tokens), None

    def reward(self, outputs):
        return outputs


def test_judges_are_read_where_they_should_be(monkeypatch):
    tokens, length = jnp.array([[1, 2, 3], [4, 5, 0]]), np.array([3, 2])
    monkeypatch.setattr("jax.jit", lambda run: run)
    judge = Judge(lambda tokens: tokens * 10)
    np.testing.assert_array_equal(everywhere(judge, tokens, length)[0], [10, 20, 30])
    np.testing.assert_array_equal(rewards(judge, tokens, length), [30, 50])
    right = np.array([True, False, True])
    assert area(right, np.array([2.0, 1.0, 0.5])) == 0.5
    assert area(right, np.array([1.0, 1.0, 2.0])) == 0.75


def test_steps_are_compared_within_a_question(monkeypatch):
    """Two questions of two answers: steps end at places 1 and 3."""
    monkeypatch.setattr("jax.jit", lambda run: run)
    right = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
    rows = {
        "tokens": np.array([[7, 0, 0, 0], [7, 1, 1, 1], [8, 2, 2, 2], [8, 3, 3, 3]], np.int32),
        "length": np.full(4, 4, np.int32),
        "ends": np.tile([False, True, False, True], (4, 1)),
        "right": right,
    }

    def able(worth) -> dict[str, Skill]:
        return dict(Steps(lambda: rows, lambda row: (row[0],))(Judge(worth)).of)

    perfect = able(lambda tokens: jnp.asarray(right[: len(tokens)], jnp.float32))
    # Answers are equally long; the wrong steps are the second of one and the first of another.
    assert perfect["answers of a question"] == Skill(1.0, 0.5, 2)
    assert perfect["steps of a question"] == Skill(1.0, (1.0 - 1 / 6 + 0.25) / 2, 2)
    blind = able(lambda tokens: jnp.full(tokens.shape, 0.5))
    assert blind["answers of a question"].model == blind["steps of a question"].model == 0.5


def test_longer_replies_are_the_baseline_of_pairs(monkeypatch):
    monkeypatch.setattr("jax.jit", lambda run: run)
    task = Dialog(typical=24, longest=40)
    long = Judge(lambda tokens: jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape))
    found = Pairs(task, 64, drawn=30)(long)
    assert [one.asked for one in found.of.values()] == [10, 10, 10]
    for one in found.of.values():
        # A row is as long as its prompt and its reply, and a pair shares its prompt.
        assert one.model == one.baseline
