"""Reward models and texts against the live library. Run by `make parity`."""

from __future__ import annotations

import datetime
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from models.pooling import sequence_rewards
from models.reward_checkpoints import load_reward, save_reward
from models.tokenizer_files import load_tokenizer
from tests.models.reward_variants import (
    LENGTHS,
    VARIANTS,
    RewardVariant,
    build,
    expect,
    padded,
    rows,
    store,
)
from tests.models.test_reward_checkpoints import LENGTH, TOLERANCE, VALID, opened, run
from tests.models.vocabularies import TEXT, byte_level, sentencepiece, write

pytestmark = pytest.mark.parity
BY_NAME = [pytest.param(variant, id=variant.name) for variant in VARIANTS]
LIBRARY = [pytest.param(v, id=v.name) for v in VARIANTS if v.head in ("sequence", "token")]
SEED = 50


@pytest.mark.parametrize("variant", BY_NAME)
def test_outputs_of_other_seeds(variant: RewardVariant, tmp_path: Path):
    reference, tokens = build(variant, SEED), rows(variant, SEED)
    store(variant, reference, tmp_path / "model")
    expected = expect(variant, reference, tokens)
    model = opened(variant, tmp_path / "model")
    outputs = np.asarray(run(model, tokens, VALID))
    assert np.abs(outputs - expected["outputs"])[VALID].max() < TOLERANCE
    for side in ("alone", "left", "right") if variant.head == "sequence" else ():
        pad = variant.arguments["pad_token_id"]
        ours = sequence_rewards(model, jnp.asarray(tokens), LENGTH, pad)
        np.testing.assert_allclose(ours, expected[side], atol=TOLERANCE)


@pytest.mark.parametrize("variant", LIBRARY)
def test_the_library_opens_what_is_written(variant: RewardVariant, tmp_path: Path):
    import torch
    import transformers

    store(variant, build(variant, SEED), tmp_path / "theirs")
    reward = load_reward(tmp_path / "theirs", dtype="float32")
    save_reward(reward.model, tmp_path / "ours", pad=reward.pad, family=variant.family.lower())
    kinds = {"sequence": "SequenceClassification", "token": "TokenClassification"}
    opener = getattr(transformers, "AutoModelFor" + kinds[variant.head])
    model = opener.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    tokens, pad = rows(variant, SEED), variant.arguments["pad_token_id"]
    ids, mask = padded(tokens, pad, "right")
    with torch.no_grad():
        theirs = model(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    if variant.head == "sequence":
        ours = sequence_rewards(reward.model, jnp.asarray(tokens), LENGTH, pad)
        np.testing.assert_allclose(ours, theirs[:, 0], atol=TOLERANCE)
        return
    ours = np.asarray(run(reward.model, tokens, VALID))
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(ours[row, :length], theirs[row, :length], atol=TOLERANCE)


@pytest.mark.parametrize(
    ("inner", "config"),
    [
        (byte_level(), {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}),
        (sentencepiece(), {"bos_token": "<s>", "eos_token": "</s>"}),
    ],
    ids=["byte_level", "sentencepiece"],
)
def test_ids_and_texts(inner, config, tmp_path: Path):
    from transformers import AutoTokenizer

    config |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    write(tmp_path, inner, tokenizer_config=config)
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    assert (ours.bos, ours.eos, ours.pad) == (
        theirs.bos_token_id,
        (theirs.eos_token_id,),
        theirs.pad_token_id,
    )
    assert ours.vocab_size == len(theirs)
    for text in (TEXT, "", " a ", "a " + config["eos_token"] + "b"):
        for special in (True, False):
            ids = ours.encode(text, special)
            assert ids == theirs(text, add_special_tokens=special)["input_ids"]
            for skip in (True, False):
                plain = theirs.decode(
                    ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
                )
                assert ours.decode(ids, skip) == plain


TURNS = """{{- bos_token }}
{%- set ns = namespace(seen=false) %}
{%- for m in messages %}
    {%- if m.role == 'system' and not loop.first %}{{ raise_exception('late') }}{% endif %}
    {{- '<|' ~ m['role'] ~ '|>\n' + m['content'] | trim + '<end>' }}
    {%- if m.role == 'user' %}{% set ns.seen = true %}{% endif %}
{%- endfor %}
{% if ns.seen and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"""
TOOLS = """{% if tools %}
  {{ tools | tojson(indent=2) }}
{% endif %}
{% for m in messages if m.role != 'system' -%}
{% generation %}
{{ m.content | upper }}
{% endgeneration %}
{% if loop.index > 1 %}{% break %}{% endif %}
{%- endfor %}
{{ dict(a=messages | length) | tojson }}{{ unknown is defined }}{{ eos_token }}"""


@pytest.mark.parametrize("template", [TURNS, TOOLS], ids=["turns", "tools"])
@pytest.mark.parametrize("opening", [True, False])
def test_chats(template: str, opening: bool, tmp_path: Path):
    from transformers import AutoTokenizer

    config = {"bos_token": "<bos>", "eos_token": "<eos>", "chat_template": template}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    write(tmp_path, byte_level(), tokenizer_config=config)
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    talk = [
        {"role": "system", "content": " Be <brief> & 'kind'. "},
        {"role": "user", "content": "été?\n"},
        {"role": "assistant", "content": "你好"},
    ]
    tools = [{"name": "é", "arguments": {"x": [1, None, True]}}]
    text = ours.render_chat(talk, opening, tools=tools)
    options = {"add_generation_prompt": opening, "tools": tools}
    assert text == theirs.apply_chat_template(talk, tokenize=False, **options)
    ids = theirs.apply_chat_template(talk, tokenize=True, return_dict=False, **options)
    assert ours.encode_chat(talk, opening, tools=tools) == ids


def test_the_date_of_a_chat(tmp_path: Path):
    from transformers import AutoTokenizer

    config = {"chat_template": "{{ strftime_now('%d %b %Y') }}"}
    write(tmp_path, byte_level(), tokenizer_config=config)
    before = datetime.date.today()
    talk = [{"role": "user", "content": "hi"}]
    theirs = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(talk, tokenize=False)
    texts = [load_tokenizer(tmp_path).render_chat(talk, today=day) for day in (before, None)]
    assert theirs in texts
