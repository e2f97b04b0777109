"""Configs that carry a family's name and ask for another forward pass.

A switch that a family's published code does not have is ignored there, and set only by code of
the checkpoint's own: weights trained with it are another model, which would load without a word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

# Name -> the values that change nothing; a null or an absent field never does.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "is_causal": (True,),
    "is_encoder_decoder": (False,),
    "bidirectional": (False,),
    "use_bidirectional_attention": (False,),
    "causal": (True,),
    "no_rope_layers": ([],),
    "no_rope_layer_interval": (0,),
    "alibi": (False,),
    "use_alibi": (False,),
    "position_embedding_type": ("absolute", "rope", "rotary"),
    "residual_multiplier": (1,),
    "embedding_multiplier": (1,),
    "attention_multiplier": (),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "scale_depth": (),
    "scale_emb": (1,),
    "dim_model_base": (),
    "parallel_attn": (False,),
    "use_parallel_residual": (False,),
    "parallel_residual": (False,),
    "attention_sinks": (),
    "kv_lora_rank": (),
    "num_local_experts": (0,),
    "num_experts": (0,),
    "n_routed_experts": (0,),
    "clip_qkv": (),
    "qkv_clip": (),
    "block_auto_adjust_ff_dim": (False,),
    "cross_layer_attention": (False,),
    "cla_share_factor": (1,),
}
# Published classes of embedding models that see both ways under a causal family's name.
BOTH_WAYS = r"(Bi|Bidirectional|Encoder)(Model|For\w+)?$"

PLAIN = (
    "open the release that is not quantised, or write one where the library that made it runs: "
    "model.dequantize() and save_pretrained, of transformers"
)


def refuse_foreign(
    config: Mapping[str, Any], where: str = "config.json", reads: Collection[str] = ()
) -> None:
    """Refuse what no family here computes, but for the switches that this one `reads`.

    Raises:
      ValueError: naming the field, its value and what to do.
    """
    _quantised(config, where)
    names = config.get("architectures")
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str) and re.search(BOTH_WAYS, name):
            raise ValueError(
                f"{where}: architectures names {name[:80]}, which sees both ways; only causal "
                "models are built"
            )
    nested = config.get("text_config")
    for data in (config, nested) if isinstance(nested, Mapping) else (config,):
        for field, neutral in NEUTRAL.items():
            value = data.get(field)
            alike = any(value == one and type(value) is not str for one in neutral)
            if value is None or alike or value in neutral or field in reads:
                continue
            if field == "no_rope_layers" and isinstance(value, list) and value == [1] * len(value):
                continue  # here a 1 says that a layer has it
            raise ValueError(
                f"{where}: {field}={str(value)[:80]} asks for another forward pass than a "
                f"{str(config.get('model_type'))[:80]} has, which is not built; the model cannot "
                "be opened"
            )


def _quantised(config: Mapping[str, Any], where: str) -> None:
    for field in ("quantization_config", "compression_config"):
        how = config.get(field)
        if how is not None:
            method = how.get("quant_method") if isinstance(how, Mapping) else None
            named = f"{method} " if isinstance(method, str) and method.isascii() else ""
            raise ValueError(
                f"{where}: {field} says that the weights are {named[:40]}quantised, which is not "
                f"built; {PLAIN}"
            )
