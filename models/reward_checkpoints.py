"""Reward models in published folders.

A reward model is a backbone under its usual names and one of these heads:

    score.weight                            *ForSequenceClassification, no bias
    score.weight, score.bias                *ForTokenClassification
    score.{0,2}.{weight,bias}               Linear-ReLU-Linear: Qwen2.5-Math-PRM and -RM
    v_head.summary.{weight,bias}            Skywork-o1-PRM: a step's logit
    v_head.weight                           the value head of DeepSpeed-Chat

A judge that is a plain language model (Math-Shepherd, the PRMs of RLHFlow) is opened by
`models.checkpoints.load` and made one by `RewardModel.of_language_model`.

How outputs are read, unless said otherwise: one label is a score as it stands, except for
heads of steps, whose sigmoid is taken; of two labels it is the probability of the second.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import jax
import numpy as np

from models.checkpoints import load_backbone
from models.export import save
from models.families import architecture_of, family_of, to_hf
from models.families.fields import Fields
from models.reward_heads import Head, LinearHead, MlpHead
from models.rewards import Readout, RewardModel

LINEAR = ("score.weight",)
BIASED = ("score.weight", "score.bias")
DEEP = ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")
SUMMARY = ("v_head.summary.weight", "v_head.summary.bias")
VALUE = ("v_head.weight",)
LAYOUTS = (LINEAR, BIASED, DEEP, SUMMARY, VALUE)


@dataclass(frozen=True)
class PublishedReward:
    """A reward model, and the padding id by which its makers find the end of a text.

    Where `pad` is an end token, `models.pooling` says what follows from it.
    """

    model: RewardModel
    pad: int | None


def load_reward(
    folder: str | os.PathLike,
    *,
    readout: Readout | None = None,
    good: int | None = None,
    dtype: str | None = None,
    vocab_size: int | None = None,
    shardings: Mapping[str, jax.sharding.Sharding] | None = None,
    check_finite: bool = False,
) -> PublishedReward:
    """Open a published reward model.

    Args:
      readout, good: see `RewardModel`; the module says what they are by default.
      dtype, vocab_size, shardings, check_finite: see `models.checkpoints.load`.
    Raises:
      ValueError: see `models.checkpoints.load`; or the head is none of the known ones.
    """
    backbone = load_backbone(
        folder,
        dtype=dtype,
        vocab_size=vocab_size,
        shardings=shardings,
        check_finite=check_finite,
    )
    fields = Fields(backbone.config, f"{folder}: config.json")
    for name, tensor in backbone.extra.items():
        if check_finite and not np.isfinite(tensor.astype(np.float32)).all():
            raise ValueError(f"{folder}: the weights of {name} are not finite")
    layout = _layout(folder, architecture_of(backbone.config), backbone.extra)
    head = _head(folder, layout, backbone.extra, backbone.model.dtype)
    _check_labels(fields, head.labels)
    steps = layout == SUMMARY or "TokenClassification" in architecture_of(backbone.config)
    pad = backbone.config.get("pad_token_id")
    return PublishedReward(
        RewardModel(
            backbone.model,
            head,
            readout or _readout(fields, head.labels, steps),
            _good(fields, head.labels) if good is None else good,
        ),
        pad if isinstance(pad, int) and pad >= 0 else None,
    )


def save_reward(
    model: RewardModel,
    folder: str | os.PathLike,
    *,
    pad: int | None = None,
    family: str | None = None,
    tokenizer: str | os.PathLike | None = None,
    overwrite: bool = False,
) -> None:
    """Write a reward model as `load_reward` opens it, and `transformers` where it knows the head.

    Args:
      pad: written to config.json; `transformers` needs one to score more than one sequence.
      family, tokenizer, overwrite: see `models.export.save`.
    """
    head, (layout, purpose) = model.head, _published_as(model)
    arrays = [head.kernel, head.bias]
    if isinstance(head, MlpHead):
        arrays = [head.inner, head.inner_bias, *arrays]
    stored = [np.asarray(array[...].T) for array in arrays if array is not None]
    written = to_hf(model.config, None if family is None else family_of({"model_type": family}))
    base = written["architectures"][0].removesuffix("ForCausalLM").removesuffix("LMHeadModel")
    if written["model_type"] == "gemma3_text":
        base += "Text"  # without it the name is that of the multimodal class
    config: dict[str, Any] = {
        "architectures": [base + purpose],
        "num_labels": head.labels,
        "id2label": {str(i): f"LABEL_{i}" for i in range(head.labels)},
        "label2id": {f"LABEL_{i}": i for i in range(head.labels)},
        "reward_readout": model.readout,
        "reward_good": model.good,
    }
    if pad is not None:
        config["pad_token_id"] = pad
    save(
        model.backbone,
        folder,
        family=family,
        tokenizer=tokenizer,
        config=config,
        tensors=dict(zip(layout, stored, strict=True)),
        overwrite=overwrite,
    )


def _layout(
    folder: str | os.PathLike, architecture: str, extra: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    for layout in LAYOUTS:
        if extra.keys() == set(layout):
            return layout
    found = ", ".join(sorted(extra)[:4]) or "none"
    known = "; ".join(" and ".join(layout) for layout in LAYOUTS)
    raise ValueError(
        f"{folder}: {architecture or 'the model'} has no known reward head; tensors besides the "
        f"backbone's: {found}. Known are {known}. A language model that judges by its tokens is "
        "opened by models.checkpoints.load and RewardModel.of_language_model"
    )


def _head(
    folder: str | os.PathLike,
    layout: tuple[str, ...],
    extra: Mapping[str, np.ndarray],
    dtype: np.dtype,
) -> Head:
    """Stored matrices are [out, in]."""
    arrays = []
    for name in layout:
        tensor, rank = extra[name], 2 if name.endswith("weight") else 1
        if tensor.ndim != rank or 0 in tensor.shape or tensor.dtype.kind not in "fV":
            raise ValueError(
                f"{folder}: tensor {name!r} is {tensor.dtype}{tensor.shape}; floats of {rank} "
                "axes were expected"
            )
        arrays.append(jax.device_put(np.array(tensor.T, dtype)))
    return MlpHead(*arrays) if layout == DEEP else LinearHead(*arrays)


def _check_labels(fields: Fields, labels: int) -> None:
    said = fields.integer("num_labels", labels)
    if fields.has("id2label") and not fields.has("num_labels"):
        said = len(fields.table("id2label").data)
    if said != labels:
        raise ValueError(f"{fields.where}: {said} labels, but the head has {labels} outputs")


def _readout(fields: Fields, labels: int, steps: bool) -> Readout:
    natural: Readout = "softmax" if labels > 1 else "sigmoid" if steps else "score"
    said = fields.text("reward_readout", natural)
    for known in get_args(Readout):
        if said == known:
            return known
    raise ValueError(f"{fields.where}: reward_readout={said!r} is not known")


def _good(fields: Fields, labels: int) -> int:
    if labels > 2 and not fields.has("reward_good"):
        raise ValueError(f"good: which of {labels} labels is the good one must be said")
    return fields.integer("reward_good", labels - 1)


def _published_as(model: RewardModel) -> tuple[tuple[str, ...], str]:
    """Names of the head's tensors, and the end of the architecture's name."""
    match model.head:
        case MlpHead():
            return DEEP, "ForProcessRewardModel" if model.head.labels > 1 else "ForRewardModel"
        case LinearHead(cap=cap) if cap:
            raise ValueError(
                "model: its head caps logits as the language model does that it was taken from; "
                "save that one"
            )
        case LinearHead(bias=None):
            return LINEAR, "ForSequenceClassification"
        case LinearHead() if model.readout == "sigmoid":
            return SUMMARY, "ForPrmModel"
        case _:
            return BIASED, "ForTokenClassification"
