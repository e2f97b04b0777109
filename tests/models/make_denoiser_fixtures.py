"""Write the stored parity fixtures of denoisers.

    python -m tests.models.make_denoiser_fixtures CODE

CODE is a folder with the released modelling files of LLaDA, Dream and SDAR in packages of their
own (`llada/modeling_llada.py`, ...); torch and transformers below 5 run them. Nothing of them is
part of this project: what is stored is tiny random weights, and the logits that the code gives.
Where a file imports kernels of a GPU, plain functions of the same meaning stand in.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.denoiser_variants import LENGTHS, VARIANTS, VOCABULARY, Variant

FIXTURES = Path(__file__).parent / "denoiser_fixtures"


def stand_ins() -> None:
    """Modules that the released files import for GPUs only."""
    import torch

    def module(name: str, **content: Any) -> None:
        made = types.ModuleType(name)
        made.__dict__.update(content)
        made.__spec__ = importlib.machinery.ModuleSpec(name, None)  # type: ignore[attr-defined]
        sys.modules[name] = made

    def rms(x: Any, weight: Any, bias: Any, eps: float) -> Any:
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)

    def attention(q: Any, k: Any, v: Any, causal: bool, softmax_scale: float) -> Any:
        turned = [x.transpose(1, 2) for x in (q, k, v)]
        made = torch.nn.functional.scaled_dot_product_attention(
            *turned, scale=softmax_scale, enable_gqa=True
        )
        return made.transpose(1, 2)

    module("flash_attn", flash_attn_func=attention, flash_attn_varlen_func=None)
    padding = dict.fromkeys(("index_first_axis", "pad_input", "unpad_input"))
    module("flash_attn.bert_padding", **padding)
    module("flash_attn.ops")
    module("flash_attn.ops.triton")
    module("flash_attn.ops.triton.layer_norm", rms_norm_fn=rms)
    loss = {"FusedLinearDiffusionCrossEntropyLoss": None}
    module("sdar.fused_linear_diffusion_cross_entropy", **loss)


def build(variant: Variant, seed: int) -> Any:
    """A perturbed model whose weights are exact in bfloat16."""
    import torch

    assert variant.code is not None
    package = variant.code[0].removeprefix("modeling_")
    configs = importlib.import_module(f"{package}.configuration_{package}")
    kind = next(
        c
        for n, c in vars(configs).items()
        if n.endswith("Config") and n != "ModelConfig" and n != "PretrainedConfig"
    )
    fields = {k: v for k, v in variant.config.items() if k not in ("model_type", "architectures")}
    config = kind(**fields)
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    made = getattr(importlib.import_module(f"{package}.{variant.code[0]}"), variant.code[1])
    if package == "llada":
        base = importlib.import_module("llada.modeling_llada")
        inner = base.create_model_config_from_pretrained_config(config)
        inner.init_device = "cpu"
        model = made(config, model=base.LLaDAModel(inner, init_params=True))
    else:
        model = made(config)
    model = model.eval().float()
    for parameter in model.parameters():
        noisy = parameter.data + 0.15 * torch.randn_like(parameter)
        parameter.data = noisy.to(torch.bfloat16).float()
    return model


def run(variant: Variant, model: Any, row: np.ndarray) -> np.ndarray:
    import torch

    ids = torch.tensor(row[None], dtype=torch.long)
    size = variant.canvas.causal_blocks
    with torch.no_grad():
        if size is None:
            return model(ids).logits[0].numpy()
        block = torch.arange(len(row)) // size
        seen = (block[:, None] >= block[None, :])[None]
        place = torch.arange(len(row))[None]
        return (
            model(ids, attention_mask=seen, position_ids=place, use_cache=False).logits[0].numpy()
        )


def main() -> None:
    import torch
    from safetensors.torch import save_file

    sys.path.insert(0, sys.argv[1])
    for name in ("llada", "dream", "sdar"):
        package = types.ModuleType(name)  # its __init__ may ask for more than is needed
        package.__path__ = [str(Path(sys.argv[1]) / name)]
        sys.modules[name] = package
    stand_ins()
    for seed, variant in enumerate(VARIANTS):
        if variant.code is None:
            continue
        folder = FIXTURES / variant.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model = build(variant, seed)
        rows = np.random.default_rng(seed).integers(3, VOCABULARY, (len(LENGTHS), max(LENGTHS)))
        logits = np.zeros((*rows.shape, VOCABULARY), np.float32)
        for row, length in enumerate(LENGTHS):
            logits[row, :length] = run(variant, model, rows[row, :length])
        state = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
        if variant.config.get("weight_tying"):
            state.pop("model.transformer.ff_out.weight", None)
        save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(variant.config, indent=1) + "\n")
        np.savez_compressed(
            folder / "expected.npz", allow_pickle=False, tokens=rows.astype(np.int32), logits=logits
        )
        print(f"{variant.name}: logits to {np.abs(logits).max():.1f}")


if __name__ == "__main__":
    main()
