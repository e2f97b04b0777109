"""Samplers and deterministic decoders by the names of the command line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.commands.decoding import decoders
from experiments.commands.decoding.decoders import Name, Rules
from jaxdecode.decoder import decode
from jaxdecode.prompt import Prompt
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM

MODEL = EnumerableLM.random(3, 5)
DRAFT = MODEL.perturbed(1, 0.4)
PROMPT = Prompt.of([[1, 2, 3], [4]])
STOP = Stop.of(0)


def piece(text: str) -> list[int]:
    if text not in "ab\n":
        raise ValueError(f"{text!r} is not in the vocabulary")
    return [1 + "ab\n".index(text)]


def texts(name: Name, **options) -> np.ndarray:
    rules = Rules(max_tokens=8, **options)
    decoder = decoders.build(name, rules, MODEL, STOP, piece=piece)
    return np.asarray(decode(decoder, 0, PROMPT).tokens)


def test_all_at_once() -> None:
    """Every sampler in one chain; each edits something on its own."""
    each = {
        "dry": (1.5, 1.75, 1),
        "top_n_sigma": 0.9,
        "smoothing": (0.4, 1.5),
        "dynamic_temperature": (0.3, 2.0),
        "xtc": (1.0, 0.1),
        "mirostat": (1.2, 0.5),
        "mirostat_top_k": (1.2,),
    }
    texts("sample", **each)
    row = jnp.log(jnp.array([[0.4, 0.25, 0.15, 0.12, 0.08]]))
    for name, value in each.items():
        rules = Rules(max_tokens=8, **{name: value})
        edit = decoders.generator("sample", rules, MODEL, STOP, piece).transform
        edited = jax.jit(lambda edit: edit.apply(edit.init(Prompt.of([[1, 2, 1, 2, 1]])), row))(
            edit
        )
        law = jax.nn.softmax(edited)
        assert not np.allclose(law, jax.nn.softmax(row), atol=1e-3), name


def test_a_draft_leaves_mirostat_to_the_target() -> None:
    rules = Rules(max_tokens=8, mirostat=(1.2,), temperature=0.9, draft="small")
    decoder = decoders.build("sample", rules, MODEL, STOP, draft=DRAFT)
    assert (np.asarray(decode(decoder, 0, PROMPT).usage.drafted) > 0).all()


def test_momentum_and_contrastive_search() -> None:
    greedy = texts("greedy")
    assert (texts("momentum", penalty=0.0) == greedy).all()
    assert (texts("contrastive-search", candidates=1) == greedy).all()
    momentum = texts("momentum")
    assert (momentum != greedy).any() and (texts("contrastive-search") != greedy).any()
    assert (texts("momentum", draft="prompt-lookup") == momentum).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sample", {"mirostat": (9.0,)}, "no law over 5 tokens has more than 2.32 bits"),
        ("sample", {"mirostat": ()}, "BITS"),
        ("sample", {"xtc": (0.5,)}, "PROBABILITY THRESHOLD"),
        ("sample", {"dry": (1.0, 1.75, 2.5)}, "whole number"),
        ("greedy", {"mirostat": (1.0,)}, "it is for sample"),
        ("momentum", {"candidates": 9}, "k=9"),
        ("contrastive-search", {"candidates": 9}, "k=9"),
        ("contrastive-search", {"draft": "prompt-lookup"}, "does nothing for --decoder"),
        ("sample", {"penalty": 0.2}, "it is for momentum, contrastive-search"),
    ],
)
def test_refusals(name, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        texts(name, **options)
