"""Texts that are never written, against a search in the bytes of every possible next text."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from models.ban_strings import BanStrings
from models.stop_strings import StopStrings
from models.text import Tokenizer
from models.token_bytes import token_bytes
from tests.markov import MarkovLM
from tests.models.vocabularies import byte_level, characters, sentencepiece

TOKENIZERS = {kind.__name__: Tokenizer(kind()) for kind in (byte_level, sentencepiece, characters)}


def spells(before: bytes, token: bytes, strings: list[str]) -> bool:
    """Whether a string ends within the token, wherever it begins."""
    text = before + token
    for string in map(str.encode, strings):
        ends = (i + len(string) for i in range(len(text)) if text.startswith(string, i))
        if any(end > len(before) for end in ends):
            return True
    return False


@jax.jit
def banned(ban: BanStrings, prompt: Prompt, output: jax.Array) -> jax.Array:
    state = ban.init(prompt)
    for token in output.T:
        state = ban.observe(state, jnp.maximum(token, 0), token >= 0)
    return jnp.isneginf(ban.apply(state, jnp.zeros((prompt.batch, ban.after.shape[2]))))


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("crossing", [True, False])
def test_every_spelling_is_excluded_and_nothing_else(name: str, crossing: bool) -> None:
    tokenizer, rng = TOKENIZERS[name], np.random.default_rng(0)
    strings = ["abab", "bc", " d", "aa"] if name == "characters" else ["the", "cat", "é", "atat"]
    table = token_bytes(tokenizer, skip_special=True)
    likely = [
        i for i, token in enumerate(table) if not token or set(token) & set(b"abthe c\xc3\xa9")
    ]
    rows = [rng.choice(likely, 6).tolist() for _ in range(24)]
    if name == "characters":
        rows = [tokenizer.encode(t, False) for t in ("abcaba", "aaaaab", "ccc aa", "abab c")]
    prompt = Prompt.of([row[:3] for row in rows])
    output = jnp.asarray([row[3:] for row in rows])
    found = np.asarray(banned(BanStrings.of(tokenizer, strings, crossing=crossing), prompt, output))
    some = 0
    for row, ids in enumerate(rows):
        before = b"".join(table[i] for i in (ids if crossing else ids[3:]))
        expected = [spells(before, token, strings) for token in table]
        np.testing.assert_array_equal(found[row], expected)
        some += sum(expected)
    assert some >= len(rows)  # with less the test would see nothing


def test_for_a_while_and_on_rows_that_run() -> None:
    tokenizer = TOKENIZERS["characters"]
    ban = BanStrings.of(tokenizer, ["ab"], tokens=2)
    a, b = tokenizer.encode("ab", add_special=False)
    prompt = Prompt.of([[a], [a], [b]])
    first = banned(ban, prompt, jnp.asarray([[a], [-1], [b]]))
    assert first[:, b].tolist() == [True, True, False]
    late = banned(ban, prompt, jnp.asarray([[a, a], [a, -1], [a, a]]))
    assert late[:, b].tolist() == [False, True, False]


def test_a_special_token_hides_nothing_and_spells_nothing_but_its_name() -> None:
    """A shown text has none, so that a string goes on behind it; an end token named after a
    forbidden word still ends."""
    tokenizer = TOKENIZERS["byte_level"]
    ids = {name: tokenizer.inner.token_to_id(name) for name in ("<end>", "<pad>", "c", "d", "e")}
    assert not tokenizer.decode([ids["<pad>"]])
    prompt = Prompt.of([[ids["c"]]] * 2)
    output = jnp.asarray([[ids["d"], ids["<pad>"]], [ids["<pad>"], ids["c"]]])
    found = banned(BanStrings.of(tokenizer, ["de", "end", "c<pad>"]), prompt, output)
    assert found[:, ids["e"]].tolist() == [True, False]
    assert found[:, ids["<pad>"]].tolist() == [False, True]
    assert not found[:, ids["<end>"]].any()
    # Rows are also stopped by names, and shown texts cut: neither is to happen too early.
    early = BanStrings.of(tokenizer, ["de", "end"], tokens=9, crossing=False)
    found = banned(early, prompt, output)
    assert found[:, ids["<end>"]].all() and found[:, ids["e"]].tolist() == [True, False]


def test_a_table_is_as_long_as_the_models() -> None:
    tokenizer = TOKENIZERS["characters"]
    for size in (5, 12):
        ban = BanStrings.of(tokenizer, ["a"], vocab_size=size)
        edited = ban.apply(ban.init(Prompt.of([[1]])), jnp.zeros((1, size)))
        assert jnp.isneginf(edited)[0].nonzero()[0].tolist() == tokenizer.encode("a", False)


def test_a_row_is_not_stopped_before_its_least_length() -> None:
    """Stop strings spelled within the first tokens would end a text that is to be longer."""
    tokenizer, least = TOKENIZERS["byte_level"], 6
    stops = ["e", "th", " "]
    model = MarkovLM(jnp.zeros((tokenizer.vocab_size, tokenizer.vocab_size)))
    kept = BanStrings.of(tokenizer, stops, tokens=least, crossing=False)
    prompt = Prompt.of([[1]] * 64, list(range(64)))

    def lengths(transform) -> np.ndarray:
        stop = StopStrings.of(tokenizer, stops)
        generator = Generator(model, transform, Categorical(), stop, 40)
        return np.asarray(decode(Autoregressive(generator), 0, prompt).length)

    assert lengths(BanStrings.of(tokenizer, ["\x00"])).min() <= least
    assert lengths(kept).min() > least


@pytest.mark.parametrize(
    ("strings", "options", "message"),
    [
        ([], {}, "strings: none given"),
        (["a", ""], {}, r"strings\[1\] has 0 bytes"),
        (["a" * 300], {}, r"strings\[0\] has 300 bytes"),
        (["a"], {"tokens": -1}, "tokens=-1"),
    ],
)
def test_refusals(strings, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        BanStrings.of(TOKENIZERS["byte_level"], strings, **options)


def test_another_models_vocabulary_is_refused() -> None:
    ban = BanStrings.of(TOKENIZERS["characters"], ["ab"])
    state = ban.init(Prompt.of([[1]]))
    with pytest.raises(
        ValueError, match="vocab_size=8 of the strings' table, but the logits have 9"
    ):
        ban.apply(state, jnp.zeros((1, 9)))
    assert ban.apply(state, jnp.zeros((1, 5))).shape == (1, 5)  # a table with fewer rows
