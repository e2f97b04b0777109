"""Every agent loop keeps what every loop must: equal calls, one result a seed, rows apart.

A loop on the host is no `Decoder`, for what it asks next depends on a verifier outside; these
checks stand in for the decoders' own. The model below reads its feedback.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import pytest

from algorithms.agents.agent import Review, Verdict
from algorithms.agents.iad import IAD
from algorithms.selection.best_of_n import BestOfN
from experiments.agents.iad.agents import ModelAgent
from experiments.inputs.sources import Codec
from experiments.tasks.tokenizer import characters
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Temperature
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import FunctionScorer
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM
from models.text import Tokenizer

STRICT = characters("abcd|")
CODEC = Codec(Tokenizer(STRICT.inner, STRICT.bos_id, (STRICT.eos_id,), STRICT.pad_id), STRICT)
PROMPTS, IDS = ["ab", "c", "dd", "abc", "d"], [3, 11, 0, 8, 5]
ROUNDS, SAMPLES = 3, 2


def write(review: Review) -> str:
    """The prompt, then the start of the best and of the worst."""
    shown = [attempt.text[:3] for attempt in (review.best, review.worst) if attempt is not None]
    return "|".join([review.prompt, *shown])


def worth(prompt: str, text: str) -> Verdict:
    """Many values, and a refusal."""
    if text.startswith("dd"):
        raise ValueError("two in a row")
    return Verdict(sum((i + 2) * ord(letter) for i, letter in enumerate(prompt + text)) % 17)


@pytest.fixture(scope="module")
def agent() -> ModelAgent:
    model = EnumerableLM.random(0, STRICT.vocab_size, sharpness=1.0)
    stop = Stop.of((STRICT.eos_id, STRICT.bos_id, STRICT.pad_id))
    generator = Generator(model, Temperature(0.9), Categorical(), stop, max_tokens=6)
    return ModelAgent(generator, CODEC, write, seed=4, batch=3, width=16)


@dataclass(frozen=True)
class Row:
    """A loop, and the calls it must spend on a prompt."""

    make: Callable[[Any], IAD]
    calls: int = ROUNDS * SAMPLES
    judged: int = ROUNDS * SAMPLES


ROWS = {
    "iad": Row(lambda agent: IAD(agent, worth, ROUNDS, SAMPLES)),
    "iad, always replacing": Row(lambda agent: IAD(agent, worth, ROUNDS, SAMPLES, "always")),
    "iad, one at a time": Row(lambda agent: IAD(agent, worth, ROUNDS * SAMPLES, 1)),
    "iad, one round: best of N": Row(lambda agent: IAD(agent, worth, 1, ROUNDS * SAMPLES)),
}


@pytest.mark.parametrize("name", ROWS)
def test_equal_calls_one_result_and_rows_apart(name, agent):
    row = ROWS[name]
    found = row.make(agent)(PROMPTS, IDS)
    assert any(o.best is not None and o.best.text for o in found)
    for outcome in found:
        assert outcome.spent.agent_calls == row.calls
        assert outcome.spent.verifier_calls == row.judged
        attempts = [attempt for turn in outcome.rounds for attempt in turn.attempts]
        assert len(attempts) == row.calls
        assert all(attempt.valid != bool(attempt.error) for attempt in attempts)
        assert outcome.spent.read > 0 and outcome.spent.written > 0
    assert row.make(agent)(PROMPTS, IDS) == found
    assert row.make(agent)(PROMPTS[::-1], IDS[::-1]) == found[::-1]
    assert row.make(agent)(PROMPTS[1:2], IDS[1:2]) == found[1:2]


def test_another_seed_or_id_is_another_draw(agent):
    make = ROWS["iad"].make
    found = make(agent)(PROMPTS, IDS)
    assert make(replace(agent, seed=5))(PROMPTS, IDS) != found
    assert make(agent)(PROMPTS, [i + 1 for i in IDS]) != found


def test_feedback_is_read(agent):
    deaf = replace(agent, write=lambda review: review.prompt)
    one, other = (IAD(a, worth, ROUNDS, SAMPLES)(PROMPTS, IDS) for a in (agent, deaf))
    assert [o.rounds[0] for o in one] == [o.rounds[0] for o in other]
    assert [o.rounds[1:] for o in one] != [o.rounds[1:] for o in other]


def test_one_round_draws_what_the_decoder_best_of_n_draws(agent):
    """Token for token; and a model deaf to feedback draws the same in any number of rounds."""
    samples = ROUNDS * SAMPLES
    decoder = BestOfN(agent.generator, FunctionScorer(lambda p, n, t, length: length), samples)
    prompt = Prompt.of([CODEC.prompt(text) for text in PROMPTS], IDS, width=16)
    pool = jax.device_get(decode(decoder, jax.random.key(agent.seed), prompt)).trace
    texts = [
        [
            CODEC.decode(tokens[:length].tolist())
            for tokens, length in zip(row, lengths, strict=True)
        ]
        for row, lengths in zip(pool.tokens, pool.length, strict=True)
    ]
    deaf = replace(agent, write=lambda review: review.prompt)
    for rounds in (1, ROUNDS):
        loop = IAD(deaf, worth, rounds, samples // rounds)
        drawn = [
            [attempt.text for turn in outcome.rounds for attempt in turn.attempts]
            for outcome in loop(PROMPTS, IDS)
        ]
        assert drawn == texts
