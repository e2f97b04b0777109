"""Translating config.json, in both directions."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import presets
from models.config import TransformerConfig
from models.families import FAMILIES, differences, from_hf, to_hf
from models.parameters import count
from models.rope import Rope
from tests.models.variants import VARIANTS

FIXTURES = Path(__file__).parent / "fixtures"
STORED = {
    variant.name: json.loads((FIXTURES / variant.name / "config.json").read_text())
    for variant in VARIANTS
}
PRESETS = {
    name: value for name, value in vars(presets).items() if isinstance(value, TransformerConfig)
}

# Parameters in millions, as published or as the library counts them.
MILLIONS = {
    "LLAMA_2_7B": 6738,
    "LLAMA_3_2_1B": 1236,
    "LLAMA_3_2_3B": 3213,
    "LLAMA_3_1_8B": 8030,
    "LLAMA_3_1_70B": 70554,
    "TINYLLAMA_1B": 1100,
    "MISTRAL_7B": 7242,
    "QWEN2_5_0_5B": 494,
    "QWEN2_5_1_5B": 1544,
    "QWEN2_5_3B": 3086,
    "QWEN2_5_7B": 7616,
    "QWEN2_5_14B": 14770,
    "QWEN3_0_6B": 596,
    "QWEN3_1_7B": 1721,
    "QWEN3_4B": 4022,
    "QWEN3_8B": 8191,
    "GEMMA_2B": 2506,
    "GEMMA_7B": 8538,
    "GEMMA_2_2B": 2614,
    "GEMMA_2_9B": 9242,
    "GEMMA_2_27B": 27227,
    "GEMMA_3_1B": 1000,
    "GEMMA_3_4B": 3880,
    "PHI_3_MINI_4K": 3821,
    "SMOLLM3_3B": 3075,
    "OLMO_2_1B": 1485,
    "OLMO_2_7B": 7299,
    "GRANITE_3_3_2B": 2534,
    "GRANITE_3_3_8B": 8171,
    "MIXTRAL_8X7B": 46703,
    "MIXTRAL_8X22B": 140630,
    "QWEN3_30B_A3B": 30532,
    "QWEN3_235B_A22B": 235094,
    "OLMOE_1B_7B": 6919,
    "OPT_125M": 125,
    "OPT_1_3B": 1316,
    "OPT_6_7B": 6658,
    "GPT2": 124,
    "GPT2_MEDIUM": 355,
    "GPT2_LARGE": 774,
    "GPT2_XL": 1558,
}


def test_every_published_shape_is_counted():
    assert PRESETS.keys() == MILLIONS.keys()


@pytest.mark.parametrize("name", MILLIONS)
def test_published_shapes(name: str):
    config = PRESETS[name]
    assert round(count(config) / 1e6) == MILLIONS[name]
    assert differences(config, from_hf(to_hf(config))) == []


@pytest.mark.parametrize("name", STORED)
def test_what_is_written_is_read_back(name: str):
    config = from_hf(STORED[name])
    kind = next(f for f in FAMILIES if f.model_type == STORED[name]["model_type"])
    assert differences(config, from_hf(to_hf(config, kind))) == []
    assert json.loads(json.dumps(to_hf(config, kind))) == to_hf(config, kind)


@pytest.mark.parametrize("name", STORED)
def test_a_null_is_a_missing_field(name: str):
    """As long as the field is not one that null turns off."""
    off = {"sliding_window", "attn_logit_softcapping", "final_logit_softcapping"}
    nulls = {field for field, value in STORED[name].items() if value is None} - off
    absent = {k: v for k, v in STORED[name].items() if k not in nulls}
    assert from_hf(STORED[name] | dict.fromkeys(nulls)) == from_hf(absent)


def test_a_window_of_mistral_is_off_when_null_and_present_when_missing():
    stored = STORED["mistral"]
    assert from_hf(stored).window == 8
    assert from_hf(stored | {"sliding_window": None}).window == 0
    assert from_hf({k: v for k, v in stored.items() if k != "sliding_window"}).window == 4096


def test_the_windows_of_qwen():
    stored = {k: v for k, v in STORED["qwen2_sliding"].items() if k != "layer_types"}
    assert from_hf(stored).sliding == (False, True)
    assert from_hf(stored | {"use_sliding_window": False}).sliding == ()
    assert from_hf(stored | {"max_window_layers": 2}).window == 0


def test_the_layers_of_gemma():
    two = {k: v for k, v in STORED["gemma2"].items() if k != "layer_types"}
    assert from_hf(two).sliding == (True, False)
    three = {k: v for k, v in STORED["gemma3"].items() if k != "layer_types"}
    assert from_hf(three).sliding == (True,) * 5 + (False, True)


def test_a_multimodal_config_may_leave_out_nearly_everything():
    config = from_hf({"model_type": "gemma3", "text_config": {"hidden_size": 2560}})
    assert (config.heads, config.kv_heads, config.head_dim, config.rows) == (8, 4, 256, 262208)
    assert config.rope is not None
    assert config.rope_local is not None
    assert (config.rope.theta, config.rope_local.theta) == (1e6, 1e4)
    assert config.tied


def test_both_spellings_of_rotary_settings():
    base = {k: v for k, v in STORED["llama"].items() if not k.startswith("rope")}
    scaling = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    expected = Rope(8, 5e5, "llama3", 8.0, 8192)
    old = {"rope_theta": 5e5, "rope_scaling": scaling | {"rope_type": "llama3"}}
    older = {"rope_theta": 5e5, "rope_scaling": scaling | {"type": "llama3"}}
    new = {"rope_parameters": scaling | {"rope_type": "llama3", "rope_theta": 5e5}}
    for spelling in (old, older, new, old | new):
        assert from_hf(base | spelling).rope == expected
    assert from_hf(base).rope == Rope(8, 1e4)
    assert from_hf(base | {"rope_theta": 7e4, "rope_scaling": None}).rope == Rope(8, 7e4)


def test_which_layers_of_smollm3_rotate():
    """By a list, or by an interval; a list that is too short is refused."""
    stored = STORED["smollm3"]
    assert from_hf(stored).rotated == (True, True, True, False)
    assert from_hf(stored | {"no_rope_layer_interval": 2}).rotated == (True, False) * 2
    assert from_hf(stored | {"no_rope_layers": [0, 1, 1, 1, 0]}).rotated == (
        False,
        True,
        True,
        True,
    )
    assert from_hf(stored | {"no_rope_layers": [1] * 4}).rotated == ()
    for wrong in ([1, 1, 1], [1, 1, 1, 2], [True] * 4, "1111", 4, []):
        with pytest.raises(ValueError, match=r"no_rope_layers=.* must be a list of 0 and 1"):
            from_hf(stored | {"no_rope_layers": wrong})
    with pytest.raises(ValueError, match="no_rope_layer_interval=0 must be at least 1"):
        from_hf(stored | {"no_rope_layer_interval": 0})


@pytest.mark.parametrize("value", [0, -1, "2", [1], 1e400])
def test_the_numbers_of_granite_are_positive(value):
    names = ("embedding", "attention", "residual")
    for name in (*(f"{x}_multiplier" for x in names), "logits_scaling"):
        with pytest.raises(ValueError, match=f"{name}="):
            from_hf(STORED["granite"] | {name: value})
        with pytest.raises(ValueError, match=f"{name}=.* asks for another forward pass"):
            from_hf(STORED["llama"] | {name: 0.5})


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("mixtral", {"num_experts_per_tok": 5}, r"num_experts_per_tok=5 must be in 1\.\.4"),
        ("mixtral", {"num_experts_per_tok": 0}, r"num_experts_per_tok=0 must be in 1\.\.4"),
        ("mixtral", {"num_experts_per_tok": "2"}, "num_experts_per_tok='2' must be an integer"),
        ("mixtral", {"num_local_experts": 0}, r"num_local_experts=0 must be an integer in 1\.\."),
        ("mixtral", {"num_local_experts": 10**12}, "num_local_experts=1000000000000 must be"),
        ("mixtral", {"n_routed_experts": 4}, "n_routed_experts=4 asks for another forward pass"),
        ("qwen3_moe", {"mlp_only_layers": [1]}, r"mlp_only_layers=\[1\] must be \[\]"),
        ("qwen3_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step=2 must be 1"),
        ("qwen3_moe", {"use_sliding_window": True}, "use_sliding_window=True must be False"),
        ("qwen3_moe", {"moe_intermediate_size": 2**40}, "moe_intermediate_size=1099511627776"),
        ("qwen3_moe", {"num_experts": -1}, "num_experts=-1 must be an integer"),
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv=8.0 asks for another forward pass"),
        ("olmoe", {"head_dim": 16}, "head_dim=16 must be 8"),
        ("llama", {"num_experts": 4}, "num_experts=4 asks for another forward pass"),
    ],
)
def test_experts_that_are_not_built_are_refused(name: str, changes: dict, named: str):
    with pytest.raises(ValueError, match=named):
        from_hf(STORED[name] | changes)


def test_experts_are_counted_by_either_name():
    stored = {k: v for k, v in STORED["mixtral"].items() if k != "num_local_experts"}
    assert from_hf(stored | {"num_experts": 4}) == from_hf(STORED["mixtral"])
    assert (from_hf(stored).experts, from_hf(stored).experts_per_token) == (8, 2)
    plain = {k: v for k, v in STORED["qwen3_moe"].items() if k != "norm_topk_prob"}
    assert from_hf(STORED["qwen3_moe"]).renormalize and not from_hf(plain).renormalize


def test_amplitudes():
    base = {k: v for k, v in STORED["phi3"].items() if not k.startswith("rope")}
    base |= {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096}
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    rope = from_hf(base | {"rope_scaling": {"type": "longrope"} | factors}).rope
    assert rope is not None
    assert rope.amplitude == pytest.approx(1.190238, abs=1e-6)
    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}
    rope = from_hf(STORED["llama"] | {"rope_parameters": yarn}).rope
    assert rope is not None
    assert rope.amplitude == pytest.approx(1.138629, abs=1e-6)
    paired = yarn | {"mscale": 0.7, "mscale_all_dim": 1.0}
    rope = from_hf(STORED["llama"] | {"rope_parameters": paired}).rope
    assert rope is not None
    assert rope.amplitude == pytest.approx((0.07 * 1.3862944 + 1) / 1.1386294, abs=1e-6)


JUNK = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers() | st.text(max_size=3), max_size=3)
    | st.dictionaries(st.sampled_from(["rope_type", "factor", "rope_theta"]), st.floats())
)


@given(data=st.data())
def test_no_config_crashes_the_reader(data):
    """Whatever stands in a field, the answer is a config or a ValueError."""
    stored = copy.deepcopy(data.draw(st.sampled_from(list(STORED.values()))))
    inner = stored.get("text_config", stored)
    for field in data.draw(st.lists(st.sampled_from(sorted(inner)), min_size=1, max_size=3)):
        if field != "model_type":
            inner[field] = data.draw(JUNK)
    try:
        config = from_hf(stored)
    except ValueError:
        return
    assert count(config) > 0
