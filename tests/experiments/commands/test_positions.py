"""Texts longer than a learned position table are refused, not clamped to its last row."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from flax import nnx

from algorithms.speculative.learning import Learning
from algorithms.speculative.token_recycling import token_recycling
from experiments.commands.decoding import decoders
from experiments.commands.decoding.decoders import Name, Rules
from experiments.commands.decoding.uses import UNMASKING
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.host import HostJudge
from jaxdecode.host_calls import Tokens
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.rows import check_start
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.stream import stream
from jaxdecode.testing.enumerable import EnumerableLM
from models.presets import GPT2, LLAMA_3_2_1B, OPT_125M
from models.rewards import RewardModel
from models.transformer import abstract

# 1024 positions, and a row for a placeholder; shapes only, for nothing may be computed.
LEARNED = abstract(replace(GPT2, rows=GPT2.vocab_size + 1))
REWARD = nnx.eval_shape(lambda: RewardModel.create(GPT2, rngs=nnx.Rngs(0)))
STOP = Stop.of([50256])
SAID = r"prompt.length\[1\]=5 and max_tokens=1020 exceed the model's 1024 positions; shorten"


def prompt(length: int) -> Prompt:
    return Prompt.of([[1, 2], [1] * length])


def generator(model=LEARNED, max_tokens: int = 1020) -> Generator:
    return Generator(model, Identity(), Greedy(), STOP, max_tokens)


@pytest.mark.parametrize("name", [name for name in get_args(Name) if name not in UNMASKING])
def test_every_decoder_of_the_command_line_refuses(name: Name) -> None:
    """Those of canvases, which other models fill, are refused in their own tests."""
    judged = "judge.py:worth" if name in decoders.JUDGED else None
    looks = 1.0 if name == "adadec" else None
    rules = Rules(
        max_tokens=1015 if name == "adadec" else 1020,  # which looks 5 tokens ahead
        budget=40 * 1024 if name == "speculative-rejection" else None,
        reward=decoders.LIKELIHOOD if name in decoders.SCORED else judged,
        process_reward="judge" if name in decoders.STEPWISE else None,
        threshold=looks,
        placeholder=GPT2.vocab_size if name == "lud" else None,
    )
    decoder = decoders.build(
        name,
        rules,
        LEARNED,
        STOP,
        scorer=HostJudge.of(len, Tokens()).scorer if judged else None,
        piece=lambda text: [198],
        stops=['"'] if name == "icn" else [],
        judge=REWARD if name in decoders.STEPWISE else None,
        threshold=looks,
    )
    decoder.check(prompt(4))
    # Planning counts what its prompt leaves of the positions.
    said = r"prompt.length\[1\]=5 exceeds the 4 tokens that fit" if name == "pg-td" else SAID
    with pytest.raises(ValueError, match=said):
        decode(decoder, 0, prompt(5))


def test_speculation_and_streams_refuse() -> None:
    speculator = token_recycling(generator())
    for decoder in (Autoregressive(speculator), Learning(speculator)):
        decoder.check(prompt(4))
        with pytest.raises(ValueError, match=SAID):
            decoder.check(prompt(5))
    with pytest.raises(ValueError, match=SAID):
        stream(generator(), 0, prompt(5))


def test_only_tables_have_an_end() -> None:
    """A rotation goes on past the context length; OPT's offset is no room of its own."""
    assert abstract(OPT_125M).max_positions == 2048
    assert abstract(LLAMA_3_2_1B).max_positions is None
    assert EnumerableLM.random(0, vocab=3).max_positions is None
    check_start(generator(abstract(LLAMA_3_2_1B), 200_000), prompt(5))
