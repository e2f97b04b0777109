"""The published families: how each spells its config and names its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.config import TransformerConfig
from models.families.diffusion import DREAM, EXPERTS, FAST_DLLM, LLADA, SDAR
from models.families.experts import MIXTRAL, OLMOE, QWEN3_MOE
from models.families.family import Family, Source
from models.families.fields import Fields
from models.families.foreign import refuse_foreign
from models.families.gemma import GEMMA, GEMMA2, GEMMA3, GEMMA3_MULTIMODAL
from models.families.llama import LLAMA, MISTRAL, PHI3, QWEN2, QWEN3
from models.families.opt import GPT2, OPT
from models.families.variations import GRANITE, OLMO2, SMOLLM3
from models.safetensors import brief

ENCODER_DECODER = "t5"
FAMILIES: tuple[Family, ...] = (
    LLAMA,
    MISTRAL,
    QWEN2,
    QWEN3,
    GEMMA,
    GEMMA2,
    GEMMA3,
    PHI3,
    SMOLLM3,
    OLMO2,
    GRANITE,
    MIXTRAL,
    QWEN3_MOE,
    OLMOE,
    OPT,
    GPT2,
    GEMMA3_MULTIMODAL,
    LLADA,
    DREAM,
    SDAR,
    FAST_DLLM,
)


def family_of(config: Mapping[str, Any], where: str = "config.json") -> Family:
    """The family that a config.json names; `where` names the file in errors."""
    kind = config.get("model_type")
    for family in FAMILIES:
        if family.model_type == kind:
            refuse_foreign(config, where, family.reads)
            return family
    if kind in EXPERTS:
        raise ValueError(
            f"{where}: model_type={kind!r} is a denoiser with a mixture of experts, which is "
            "not built; a dense one (LLaDA 8B, Dream 7B, SDAR up to 8B, Fast-dLLM v2) is"
        )
    if kind == ENCODER_DECODER:
        raise ValueError(
            f"{where}: model_type={kind!r} is an encoder-decoder, which answers a source; a causal "
            "model is needed here, and models.encoder_decoder.files opens this one"
        )
    known = ", ".join(family.model_type for family in FAMILIES)
    raise ValueError(f"{where}: model_type={brief(kind)} is not supported; known are {known}")


def architecture_of(config: Mapping[str, Any]) -> str:
    """The class that a config.json names, with its head; "" where it names none."""
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def from_hf(config: Mapping[str, Any]) -> TransformerConfig:
    """A `TransformerConfig` from the contents of a config.json."""
    return family_of(config).read(Fields(config))


def to_hf(config: TransformerConfig, family: Family | None = None) -> dict[str, Any]:
    """The config.json of a model, by default of the first family that can express it.

    Whether a family can is decided by reading back what it writes.
    """
    differing: dict[str, list[str]] = {}
    for candidate in FAMILIES if family is None else (family,):
        written = candidate.write(config) | {
            "architectures": [candidate.architecture],
            "model_type": candidate.model_type,
            # Not known here; null keeps a family's default ids from applying.
            **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
            "dtype": config.dtype,
            "torch_dtype": config.dtype,
        }
        try:
            found = differences(config, candidate.read(Fields(written)))
        except ValueError as error:
            found = [str(error)]
        if not found:
            return written
        differing[candidate.model_type] = found
    reasons = "; ".join(f"{name}: {', '.join(what)}" for name, what in differing.items())
    raise ValueError(f"the config cannot be written as a published family; differing: {reasons}")


def differences(ours: TransformerConfig, theirs: TransformerConfig) -> list[str]:
    """Fields that change what a model computes and that differ between two configs."""
    # The valid vocabulary is the tokenizer's affair; the rest is how, not what, is computed.
    aside = {"vocab_size", "longest", "dtype", "unroll", "remat"}
    names = [name for name in ours.__dataclass_fields__ if name not in aside]
    return [name for name in names if not _same(getattr(ours, name), getattr(theirs, name))]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-12 * max(abs(a), abs(b))
    return a == b


__all__ = ["FAMILIES", "Family", "Source", "architecture_of", "family_of", "from_hf", "to_hf"]
