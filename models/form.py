"""The form in which a model decodes: its layers scanned, or written out.

A scan keeps compilation short at any depth. Written out, every layer has arrays of its own,
and nothing is copied or sliced before use: on a CPU a step at batch 1 is 1.5-2 times as fast,
and a TPU's compiler fetches the weights of one product while it computes another. What that
costs is compilation, in proportion to the depth, and a second copy of the weights for a moment.
"""

from __future__ import annotations

from typing import Literal

import jax

from jaxdecode.target import Target, target_of
from models.transformer import Transformer, arrays_of

Form = Literal["auto", "scanned", "written"]

DEPTH = {"cpu": 40, "tpu": 40, "gpu": 0}
"""Layers that are written out at most; on a GPU a scan copies nothing."""
BYTES = 2**33  # of weights on one device that are copied at most, unless it is asked for


def formed(model: Transformer, form: Form = "auto", target: Target | None = None) -> Transformer:
    """The same weights in a form, by default the one that decodes faster on the target, which
    is where the weights lie. For training keep the layers scanned.

    Raises:
      ValueError: for a form that is none.
    """
    if form not in ("auto", "scanned", "written"):
        raise ValueError(f"form={form!r}: use auto, scanned or written")
    if form == "auto":
        target = target_of(model) if target is None else target
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(model))
        deep = model.config.layers > DEPTH.get(target.platform, 0)
        form = "scanned" if deep or size > BYTES * target.devices else "written"
    if form == "written":
        return model if model.written else model.unstacked()
    return Transformer(model.config, arrays=arrays_of(model)) if model.written else model
