"""T5 against what the published library computed: logits, greedy answers, the best of all parts."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from algorithms.tokens.exact_extract import ExactExtract
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.lm import LanguageModel, extend, prefill
from jaxdecode.logits import Identity
from jaxdecode.passage import Between
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from models import checkpoints
from models.encoder_decoder.attention import bucket
from models.encoder_decoder.files import load_encoder_decoder
from models.encoder_decoder.model import EncoderDecoder
from tests.models.t5_reference import (
    ANSWERED,
    END,
    LEFT,
    LENGTHS,
    NEW,
    OPENING,
    RIGHT,
    START,
    TOLERANCE,
    VARIANTS,
    sources,
)

FIXTURES = Path(__file__).parent / "t5_fixtures"
RULE = Between.of([LEFT], [RIGHT])


def opened(variant: str) -> tuple[EncoderDecoder, dict[str, np.ndarray], list[list[int]]]:
    """The model, what is expected of it, and its sources."""
    expected = dict(np.load(FIXTURES / variant / "expected.npz"))
    model = load_encoder_decoder(FIXTURES / variant, dtype="float32")
    return model, expected, sources(int(expected["seed"]))


def without(model: EncoderDecoder, path: str) -> EncoderDecoder:
    """The model with one weight at 0."""
    state = nnx.to_flat_state(nnx.state(model, nnx.Param))
    found = {"/".join(map(str, place)): weight[...] for place, weight in state}
    return EncoderDecoder(model.config, found | {path: jnp.zeros_like(found[path])})


@partial(jax.jit, static_argnames="capacity")
def answered(model: EncoderDecoder, prompt: Prompt, answers: jax.Array, capacity: int) -> jax.Array:
    """Logits behind every token of answers, START included, through the cache."""
    read = prefill(model, prompt, capacity)
    return extend(model, answers, read.cache).logits


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_the_published_model(variant: str) -> None:
    """Sources of different lengths in one batch: of what is given, and step by step."""
    model, expected, texts = opened(variant)
    assert isinstance(model, LanguageModel) and (model.head is None) == (variant == "t5")
    prompt, room = model.asked(texts), max(LENGTHS) + 1 + ANSWERED
    logits = answered(model, prompt, jnp.asarray(expected["answers"]), room)
    np.testing.assert_allclose(logits, expected["logits"], atol=TOLERANCE, rtol=0)
    for blind in ("encoder/bias", "decoder/bias", "encoder/norm", "decoder/cross_norm"):
        other = without(model, blind)
        moved = answered(other, prompt, jnp.asarray(expected["answers"]), room)
        assert np.abs(moved - expected["logits"]).max() > 100 * TOLERANCE, blind
    plain = Generator(model, Identity(), Greedy(), Stop.of(()), NEW)
    found = decode(Autoregressive(plain), 0, model.asked(texts, [OPENING]))
    assert np.array_equal(found.tokens, expected["greedy"])


def test_the_best_part_of_a_source_is_the_best_of_all() -> None:
    """Against the library's scores of every part, each in a pass of its own."""
    model, expected, texts = opened("t5_gated")
    search = ExactExtract(model, RULE, END, max(LENGTHS), chunk=7)
    found = jax.device_get(decode(search, 0, model.asked(texts, [OPENING])))
    for row, scores in enumerate(expected["scores"]):
        first, count = np.unravel_index(np.argmax(scores), scores.shape)
        assert (found.trace.first[row], found.trace.count[row]) == (first, count)
        assert abs(found.logprob[row] - scores.max()) < 1e-4
        part = texts[row][1 + first : 1 + first + count]
        assert found.tokens[row, : count + 1].tolist() == [*part, END]


def test_buckets_of_distances() -> None:
    """Worked by hand for 8 buckets up to 20: each way has 4, two of them single distances."""
    distance = jnp.array([0, 1, 2, 3, 6, 7, 20, 99, -1, -2, -6, -7, -99])
    both = bucket(distance, 8, 20, both_ways=True)
    assert both.tolist() == [0, 5, 6, 6, 6, 7, 7, 7, 1, 2, 2, 3, 3]
    back = bucket(distance, 8, 20, both_ways=False)
    assert back.tolist() == [0] * 8 + [1, 2, 5, 5, 7]


def test_what_no_t5_has_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "t5"
    shutil.copytree(FIXTURES / "t5", folder)
    config = json.loads((folder / "config.json").read_text())

    def told(match: str, **changes: object) -> None:
        kept = {k: v for k, v in (config | changes).items() if v is not None}
        (folder / "config.json").write_text(json.dumps(kept))
        with pytest.raises(ValueError, match=match):
            load_encoder_decoder(folder)

    told("model_type='llama' is no encoder-decoder", model_type="llama")
    told("d_model", d_model=None)
    told("feed_forward_proj='gated-magic'", feed_forward_proj="gated-magic")
    told("wi_0.weight' is missing; it holds encoder/gate", feed_forward_proj="gated-gelu")
    told("relative_attention_num_buckets=6", relative_attention_num_buckets=6)
    told("relative_attention_max_distance=3", relative_attention_max_distance=3)
    told("decoder_start_token_id=500", decoder_start_token_id=500)
    told("has shape .* but config.json asks for", num_heads=4)
    told("block.1.* is in no t5", num_layers=1)
    told("is_encoder_decoder", is_encoder_decoder=False)
    with pytest.raises(ValueError, match=r"'t5' is an encoder-decoder, .* a causal model"):
        checkpoints.load(FIXTURES / "t5")
    model = load_encoder_decoder(FIXTURES / "t5")
    for source, match in (([], "no tokens"), ([5, START], f"token {START}; a source")):
        with pytest.raises(ValueError, match=match):
            model.asked([[4], source])
