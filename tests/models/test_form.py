"""A model decodes in the form that suits its target, and is the same model in any."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.target import Target
from models.form import formed
from models.presets import LLAMA_3_1_8B, small
from models.transformer import Transformer, abstract
from tests.models.samples import perturbed

CONFIG = small(53, hidden=32, layers=2, heads=4, kv_heads=2)


def test_forms_turn_into_each_other() -> None:
    model = perturbed(CONFIG)
    written = formed(model, "written")
    assert written.written and not model.written
    again = formed(written, "scanned")
    assert not again.written and formed(model, "scanned") is model
    assert formed(written, "written") is written
    tokens = jnp.arange(6)[None]
    run = jax.jit(Transformer.forward)
    for other in (written, again):
        np.testing.assert_allclose(run(other, tokens)[0], run(model, tokens)[0], atol=1e-5)


def test_the_target_the_depth_and_the_size_choose() -> None:
    model = perturbed(CONFIG)
    assert formed(model).written, "on this CPU"
    assert formed(model, target=Target("tpu")).written
    assert not formed(model, target=Target("gpu")).written
    assert not formed(abstract(dataclasses.replace(CONFIG, layers=41))).written
    assert not formed(abstract(LLAMA_3_1_8B), target=Target("tpu")).written, "15 GB on one device"


def test_what_is_no_form_is_refused() -> None:
    wrong: Any = "unrolled"
    with pytest.raises(ValueError, match="form='unrolled': use auto, scanned or written"):
        formed(perturbed(CONFIG), wrong)
