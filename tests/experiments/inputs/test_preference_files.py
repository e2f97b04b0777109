"""Preference files are read whole or refused with their line, and train a reward model."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments.inputs.preference_files import PairBatches, read
from experiments.inputs.sources import Codec
from experiments.tasks.dialog import Dialog, Preference
from jaxdecode.train.fit import fit
from jaxdecode.train.losses import bradley_terry
from models.presets import small
from models.rewards import RewardModel
from models.text import Tokenizer
from models.tokenizer_files import load_tokenizer

DIALOG = Dialog(typical=24, longest=40)
HEAD = "\n\nHuman: hi\n\nAssistant: hm\n\nHuman: well?\n\nAssistant:"
GOOD = {"chosen": f"{HEAD} yes", "rejected": f"{HEAD} no"}


def write(path: Path, *lines: object) -> Path:
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(text) + "\n")
    return path


def test_dialogues_are_split_before_the_last_turn(tmp_path) -> None:
    own = {"prompt": "p", "chosen": "a", "rejected": "b"}
    found = read(write(tmp_path / "pairs.jsonl", GOOD, own))
    assert found == [Preference(HEAD, " yes", " no"), Preference("p", "a", "b")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", r"pairs.jsonl:2: no JSON .* expected an object with text under"),
        (
            '{"chosen": "x"',
            r":2: no JSON \(Expecting ',' delimiter: line 1 column 15 \(char 14\)\)",
        ),
        ([1], r":2: found a list; expected an object"),
        ({"chosen": "x"}, r':2: "rejected" is None; expected an object'),
        ({"chosen": " ", "rejected": "x"}, r""":2: "chosen" is ' '; expected"""),
        ({"chosen": "x", "rejected": "y"}, r':2: "chosen" has no turn'),
        (GOOD | {"rejected": f"{HEAD} yes"}, r":2: .* are equal; a preference takes two"),
        (GOOD | {"rejected": "\n\nAssistant: no"}, r":2: .* answer different dialogues"),
        (GOOD | {"prompt": 3}, r':2: "prompt" is 3; expected text'),
    ],
)
def test_what_cannot_be_used_is_an_error_with_its_line(tmp_path, line, message) -> None:
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "pairs.jsonl", GOOD, line, GOOD))


def test_an_empty_file_is_refused(tmp_path) -> None:
    (tmp_path / "pairs.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"pairs\.jsonl is empty: expected"):
        read(tmp_path / "pairs.jsonl")


def codec(folder: Path) -> Codec:
    words = DIALOG.tokenizer()
    words.save(folder)
    text: Tokenizer = load_tokenizer(folder)
    return Codec(text, words)


def test_a_file_trains_a_reward_model(tmp_path) -> None:
    """From lines on disk to a model that ranks them."""
    rng = np.random.default_rng(0)
    pairs = [pair._asdict() for pair in DIALOG.preferences(rng, 16, "train")]
    words = codec(tmp_path)
    batches = PairBatches(read(write(tmp_path / "pairs.jsonl", *pairs)), words, 16, 64)
    assert {name: array.shape for name, array in batches(0).items()} == {
        "chosen": (16, 64),
        "chosen_length": (16,),
        "rejected": (16, 64),
        "rejected_length": (16,),
    }
    np.testing.assert_array_equal(batches(3)["chosen"], batches(3)["chosen"])
    shape = small(DIALOG.tokenizer().vocab_size, hidden=16, layers=1)
    model = RewardModel.create(shape, rngs=nnx.Rngs(0))
    trained = fit(model, bradley_terry, batches, optax.adam(1e-2), 30)
    batch = {name: jnp.asarray(array) for name, array in batches(99).items()}
    assert float(bradley_terry(trained, **batch)[1]["accuracy"]) > 0.8


def test_a_pair_that_is_too_long_is_named(tmp_path) -> None:
    pairs = DIALOG.preferences(np.random.default_rng(0), 2, "train")
    with pytest.raises(ValueError, match=r"pairs\[0\] takes \d+ tokens, width=8; raise"):
        PairBatches(pairs, codec(tmp_path), 2, 8)
