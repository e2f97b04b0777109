"""What the process reward model of arithmetic learns from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.tasks.arithmetic import Arithmetic, check_steps, right_so_far
from experiments.zoo import step_recipes
from experiments.zoo.step_recipes import PROMPT, RESPONSE, judged, labelled, question_of
from jaxdecode.train.steps import correctness
from models.presets import small
from models.rewards import RewardModel
from models.transformer import Transformer

TASK = Arithmetic()
CODEC = TASK.tokenizer()
QUESTION = "((3+4)*2)-5="


def test_reference_solutions_are_right_all_along():
    for example in TASK.sample(np.random.default_rng(0), 60, "train"):
        assert all(right_so_far(example.prompt, example.target, ended=True))
        cut = example.target[: len(example.target) // 2]
        assert right_so_far(example.prompt, cut, ended=True)[-1] is False


@pytest.mark.parametrize(
    ("completion", "first_wrong"),
    [
        ("3+4=7\n7*2=15\n", 11),  # the second digit of 15
        ("3+4=7\n7*2=14\n14-5=9\n#8", 21),
        ("3+4=7\n7*2=14\n14-5=9\n#9\n", 22),  # nothing may follow the answer
        ("3+5", 2),
        ("7", 0),
        ("3+4=7\n#7", 6),  # the answer before its time
        ("3+4\n", 3),
    ],
)
def test_the_first_wrong_character_is_found(completion, first_wrong):
    labels = right_so_far(QUESTION, completion, ended=False)
    assert labels == [place < first_wrong for place in range(len(completion))]


def test_ends_of_steps_have_the_label_of_the_step():
    for completion in ("3+4=7\n7*2=15\n15-5=10\n#10", "3+4=7\n7*2=14\n14-5=9\n#9"):
        labels = right_so_far(QUESTION, completion, ended=True)
        ends = [place for place, character in enumerate(completion) if character == "\n"]
        assert [labels[place] for place in ends] == check_steps(QUESTION, completion)
    row = labelled(CODEC, QUESTION, [*CODEC.encode("3+4=7\n7*2=15"), CODEC.eos_id])
    first = 1 + len(QUESTION)
    assert row["length"] == first + 13
    assert np.flatnonzero(row["ends"]).tolist() == [first + 5, first + 12]
    assert row["right"][row["ends"]].tolist() == [True, False]
    assert np.flatnonzero(row["loss_mask"]).tolist() == list(range(first, first + 13))


def test_batches_are_the_generators_own_answers(monkeypatch):
    """The batch of a step is a function of the step, whatever was drawn before."""
    for name, value in (("QUESTIONS", 2), ("ANSWERS", 2), ("SHARES", 2), ("RESPONSE", 6)):
        monkeypatch.setattr(step_recipes, name, value)
    shape = small(CODEC.vocab_size, hidden=32, layers=1)
    generator = Transformer(shape, rngs=nnx.Rngs(0))
    batches = judged(lambda: generator, "train", 0)
    found = [batches(step) for step in (0, 1, 2, 0)]
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[3][name], err_msg=name)
        assert len(values) == 2
    assert (found[0]["tokens"] != found[2]["tokens"]).any()
    whole = np.concatenate([found[0]["tokens"], found[1]["tokens"]])
    questions = {question_of(row) for row in whole.tolist()}
    assert len(questions) == 2  # each answered twice
    assert whole.shape[1] == PROMPT + 6 < PROMPT + RESPONSE

    judge = RewardModel.create(shape, rngs=nnx.Rngs(1), readout="sigmoid")
    batch = found[0]
    loss, metrics = jax.jit(correctness)(judge, **batch)
    p = np.asarray(judge.reward(judge.forward(jnp.asarray(batch["tokens"]))[0]), np.float64)
    right, mask, ends = batch["right"], batch["loss_mask"], batch["ends"]
    each = -np.where(right, np.log(p), np.log1p(-p))
    np.testing.assert_allclose(loss, each[mask].mean(), rtol=1e-4)
    hits = ((p > 0.5) == right)[ends]
    np.testing.assert_allclose(metrics["accuracy"], hits.sum() / max(1, len(hits)))
