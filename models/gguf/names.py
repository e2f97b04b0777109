"""How GGUF names and lays out the tensors of each architecture that is read.

What llama.cpp's converters change on the way in is changed back: they interleave the two halves
that rotary encoding pairs (Llama only), add 1 to Gemma's norms, and turn GPT-2's matrices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
SANDWICH = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
FUSED = {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
MIXTRAL = {
    "ffn_gate_inp": "block_sparse_moe.gate",
    "ffn_gate_exps": "block_sparse_moe.experts.{e}.w1",
    "ffn_up_exps": "block_sparse_moe.experts.{e}.w3",
    "ffn_down_exps": "block_sparse_moe.experts.{e}.w2",
}
EXPERTS = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.{e}.gate_proj",
    "ffn_up_exps": "mlp.experts.{e}.up_proj",
    "ffn_down_exps": "mlp.experts.{e}.down_proj",
}
GPT2_LAYER = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
GPT2_OUTSIDE = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
# Read with the config: factors of the rotary frequencies.
ROTARY = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
NAME = re.compile(r"(?:blk\.(\d{1,4})\.)?([a-z_]+)\.(weight|bias)")


@dataclass(frozen=True)
class Architecture:
    """One `general.architecture`.

    Attributes:
      model_type: of config.json.
      layer, outside: stems of tensors' names within a layer and without -> the published ones,
        in which `{e}` stands for an expert: one tensor here has all of a layer.
      prefix: of the published names within a layer.
      interleaved: queries' and keys' rows have the two halves of a head interleaved.
      plus_one: norms are stored with 1 added.
      turned: the published matrices within a layer are [in, out].
    """

    model_type: str
    layer: Mapping[str, str]
    outside: Mapping[str, str]
    prefix: str = "model.layers."
    interleaved: bool = False
    plus_one: bool = False
    turned: bool = False

    def published(self, name: str) -> str | None:
        """The published name of a tensor; None for one that this architecture has not."""
        found = NAME.fullmatch(name)
        if found is None:
            return None
        layer, stem, kind = found.groups()
        theirs = (self.outside if layer is None else self.layer).get(stem)
        if theirs is None:
            return None
        return f"{theirs}.{kind}" if layer is None else f"{self.prefix}{layer}.{theirs}.{kind}"


# What is left of a layer without its MLP.
DENSE = {stem: name for stem, name in LAYER.items() if not name.startswith("mlp.")}
# Mixtral goes by Llama's name.
LLAMA_EXPERTS = Architecture("mixtral", DENSE | MIXTRAL, OUTSIDE, interleaved=True)
ARCHITECTURES = {
    "llama": Architecture("llama", LAYER, OUTSIDE, interleaved=True),
    "qwen2": Architecture("qwen2", LAYER, OUTSIDE),
    "qwen3": Architecture("qwen3", LAYER | HEAD_NORMS, OUTSIDE),
    "gemma": Architecture("gemma", LAYER, OUTSIDE, plus_one=True),
    "gemma2": Architecture("gemma2", LAYER | SANDWICH, OUTSIDE, plus_one=True),
    "gemma3": Architecture("gemma3_text", LAYER | HEAD_NORMS | SANDWICH, OUTSIDE, plus_one=True),
    "phi3": Architecture("phi3", LAYER | FUSED, OUTSIDE),
    "qwen3moe": Architecture("qwen3_moe", DENSE | HEAD_NORMS | EXPERTS, OUTSIDE),
    "olmoe": Architecture("olmoe", DENSE | HEAD_NORMS | EXPERTS, OUTSIDE),
    "gpt2": Architecture("gpt2", GPT2_LAYER, GPT2_OUTSIDE, "transformer.h.", turned=True),
}
