"""Prompt lookup, retrieval and lookahead: what they draft, and how far it carries."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.drafters.lookahead import Lookahead
from algorithms.speculative.drafters.prompt_lookup import PromptLookup
from algorithms.speculative.drafters.retrieval import Datastore, Retrieval, Within
from algorithms.speculative.lookahead import lookahead
from algorithms.speculative.prompt_lookup import prompt_lookup
from algorithms.speculative.rest import rest
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode import struct
from jaxdecode.cache import Cache
from jaxdecode.decoder import decode
from jaxdecode.draft import Shape
from jaxdecode.drafter import Now
from jaxdecode.lm import ModelOutput, View
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.speculate import Speculator
from jaxdecode.testing.enumerable import EnumerableLM, next_logits
from jaxdecode.types import Array, Int
from tests.markov import MarkovLM, emitted, generator, rounds

CYCLE = MarkovLM.cycle(6)


def test_prompt_lookup_copies_from_the_second_time_on() -> None:
    """A cycle of 6 tokens: one occurrence with 4 tokens after it is all that is needed."""
    history = rounds(prompt_lookup(generator(CYCLE, 30), 4), Prompt.of([[0]]))
    assert emitted(history) == [1] * 6 + [5] * 4 + [4]
    assert history[-1].tokens[0].tolist() == [(i + 1) % 6 for i in range(30)]


@struct.dataclass
class Heard(MarkovLM):
    """Tells the width of every pass."""

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        jax.debug.callback(lambda: WIDTHS.append(tokens.shape[1]))
        return super().__call__(tokens, cache, view)


WIDTHS: list[int] = []


def test_a_round_that_finds_nothing_is_a_step_of_plain_decoding() -> None:
    """Narrow until something is found, and wide from then on; the text is the same."""
    speculator = prompt_lookup(generator(Heard(CYCLE.table), 16), 4)
    result = decode(Autoregressive(speculator), 0, Prompt.of([[0]]))
    jax.effects_barrier()
    # The prompt; the first round, which is not asked for; a cycle of narrow ones; two copies.
    assert sorted(WIDTHS[1:]) == [1] * 5 + [5] * 3
    assert result.tokens[0].tolist() == [(i + 1) % 6 for i in range(16)]
    assert int(result.usage.target_passes[0]) == len(WIDTHS) - 1 == result.usage.histogram.sum()


def test_what_is_asked_is_what_is_drafted() -> None:
    texts = np.random.default_rng(0).integers(0, 4, (64, 12)).tolist()
    prompt = Prompt.of([text[: 2 + i % 11] for i, text in enumerate(texts)], width=12)
    speculator = prompt_lookup(generator(CYCLE, 3), 2)
    rows = rounds(speculator, prompt)[0]
    drafter, (memory, _) = PromptLookup(2), rows.speculation
    limit = jnp.ones(rows.length.shape, jnp.int32)
    now = Now(rows.root, rows.cache.length, rows.length, limit, limit > 0, rows.cache,
              rows.transform, rows.key)  # fmt: skip
    draft, _ = drafter.propose(speculator.model, memory, now)
    drafted = draft.limited(limit).eligible.any(1)
    np.testing.assert_array_equal(drafter.finds(memory), drafted)
    assert 0 < drafted.sum() < 64


def test_a_row_that_finds_nothing_draws_what_it_draws_alone() -> None:
    """Beside a row whose draft is verified, and in rounds of its own."""
    target = EnumerableLM.random(1, 5, sharpness=1.0)
    decoder = Autoregressive(prompt_lookup(generator(target, 12, Categorical()), 3))
    texts = [[1, 2, 3, 1, 2, 3, 1], [4], [0, 2, 4, 1, 3]]
    together = decode(decoder, 7, Prompt.of(texts, width=8))
    for row, text in enumerate(texts):
        alone = decode(decoder, 7, Prompt.of([text], [row], width=8))
        assert alone.tokens[0].tolist() == together.tokens[row].tolist()
        assert int(alone.usage.target_passes[0]) == int(together.usage.target_passes[row])


def test_retrieval_follows_the_corpus_to_the_end_of_a_document() -> None:
    corpus = Corpus.of([[0, 1, 2, 3, 4, 5, 0, 1], [2, 3, 5, 5]], 6)
    history = rounds(rest(generator(CYCLE, 20), corpus), Prompt.of([[5, 0]]))
    # After 5 0 the document goes on with 1 and ends; after 0 1 2 with five tokens.
    assert emitted(history) == [2, 6, 6, 6]
    # Of the text's ends 5 0 1 occurs, but at the end of a document, where nothing follows.
    draft = jax.jit(lambda text: Datastore(corpus)(text).found)
    speculator = rest(generator(CYCLE, 5), corpus)
    rows = rounds(speculator, Prompt.of([[4, 5, 0, 1]]))[0]
    assert not draft(rows.speculation[0])[0]


def test_a_text_is_a_source_of_trees() -> None:
    text = [1, 2, 3, 1, 2, 4, 1, 2]
    speculator = Speculator(generator(CYCLE, 3), Retrieval(Within(length=2), 6), Match())
    rows = rounds(speculator, Prompt.of([text], width=8))[0]
    found = jax.device_get(Within(length=2)(rows.speculation[0]))
    assert found.tokens[0, :3].tolist() == [[3, 1], [4, 1], [-1, -1]]
    assert found.weight[0].sum() == 2


def test_the_window_sees_what_it_should() -> None:
    """The published mask of 3 columns and 4-grams: a row is a node, a sign what it sees."""
    drafter = Lookahead(9, window=3, size=4, guesses=1)
    seen = np.asarray(Shape.fixed(drafter.parents, 1).seen)[0]
    drawn = ["".join(".x"[int(s)] for s in row) for row in seen]
    assert drawn == [
        "x.......",
        "xx......",
        "..x.....",
        "x..x....",
        "xx..x...",
        "..x..x..",
        "x..x..x.",
        "xx..x..x",
    ]
    assert drafter.nodes == 3 + 8 and drafter.depth == 3


def naive_lookahead(
    model: EnumerableLM, prompt: list[int], window: int, size: int, guesses: int, count: int
) -> list[int]:
    """Tokens that each step of greedy lookahead emits, one row, in plain Python."""

    def say(text: list[int]) -> int:
        return int(np.argmax(next_logits(model, text)))

    held = [
        [prompt[(i * window + j) % len(prompt)] for j in range(window)] for i in range(size - 1)
    ]
    pool: dict[int, list[list[int]]] = {}
    text, steps = list(prompt), []
    while len(text) < len(prompt) + count:
        new: list[int] = []
        for gram in pool.get(text[-1], []):
            agreed: list[int] = []
            while len(agreed) < len(gram) and say([*text, *agreed]) == gram[len(agreed)]:
                agreed.append(gram[len(agreed)])
            new = max(new, agreed, key=len)
        held[0][0] = text[-1]
        said = [
            say([*text[:-1], *held[0][: column + 1], *[level[column] for level in held[1:]]])
            for column in range(window)
        ]
        for column in range(window):
            gram = [*[level[column] for level in held[1:]], said[column]]
            grams = pool.setdefault(held[0][column], [])
            if gram in grams:
                grams.remove(gram)
            grams.append(gram)
            del grams[:-guesses]
        held = [*held[1:], said]
        new.append(say([*text, *new]))
        text += new
        steps.append(len(new))
    return steps


@pytest.mark.parametrize(("window", "size", "guesses"), [(4, 3, 2), (3, 4, 5)])
def test_lookahead_emits_what_the_naive_one_emits(window: int, size: int, guesses: int) -> None:
    model = EnumerableLM.random(6, 4, max_positions=2, sharpness=2.0)
    prompts = [[1, 2, 3], [0]]
    speculator = lookahead(generator(model, 24), window, size, guesses)
    history = rounds(speculator, Prompt.of(prompts, width=4))
    for row, prompt in enumerate(prompts):
        expected = naive_lookahead(model, prompt, window, size, guesses, 24)
        expected[-1] -= sum(expected) - 24  # the last step is cut where the text ends
        found = [count for count in emitted(history, row) if count]
        assert found == expected and max(found) > 2


def test_bad_parts_are_refused() -> None:
    for length, longest, shortest in ((0, 3, 1), (5, 3, 0), (5, 1, 2)):
        with pytest.raises(ValueError, match="look for 1 <= shortest <= longest"):
            PromptLookup(length, longest, shortest)

    def stored(**ends: Any) -> Datastore:
        return Datastore(Corpus.of([[0, 1]], 2), **ends)

    wrong: list[dict[str, Any]] = [{"longest": 3, "shortest": 4}, {"shortest": 0}]
    for make in (Within, stored):
        for ends in wrong:
            with pytest.raises(ValueError, match=r"shortest=\d: look for 1 <= shortest"):
                make(**ends)
    with pytest.raises(ValueError, match="size=2, window=15"):
        Lookahead(9, size=2)
    with pytest.raises(ValueError, match="vocabulary has 9 tokens, the target's has 6"):
        rest(generator(CYCLE, 3), Corpus.of([[1, 2]], 9))
    with pytest.raises(ValueError, match="Residual needs the law"):
        Speculator(generator(CYCLE, 3), PromptLookup(), Residual())
