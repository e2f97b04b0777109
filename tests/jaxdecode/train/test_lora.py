"""Adapters begin at the base, are all that is trained and saved, and end as a plain model."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdecode.sharding import make_mesh, shard
from jaxdecode.train.checkpoints import Checkpoints
from jaxdecode.train.fit import fit
from jaxdecode.train.lora import Adapted, LoRA, merged
from jaxdecode.train.losses import next_token
from jaxdecode.train.policy_gradient import Reinforce
from jaxdecode.train.ppo import PPO
from jaxdecode.train.preferences import dpo, pair_loss
from jaxdecode.train.sequences import Sequences, logprobs
from models import checkpoints, export
from models.transformer import arrays_of
from tests.jaxdecode.train import bigrams, small
from tests.jaxdecode.train.test_policy_gradient import WORTH, batches

LORA = LoRA(rank=2, alpha=4.0, projections=("q", "v", "down"))
BATCH = {name: jnp.asarray(a) for name, a in small.padded([12, 9, 5, 7]).items()}


def train(steps: int, losses: list[float] | None = None, folder=None) -> Adapted:
    told = [] if losses is None else losses
    return fit(
        LORA.adapt(small.model()),
        next_token,
        lambda _: BATCH,
        optax.adam(0.02),
        steps,
        None if folder is None else Checkpoints(folder, 5),
        watch=lambda _, means: told.append(means["loss"]),
        watch_every=1,
    )


@pytest.fixture(scope="module")
def trained() -> tuple[Adapted, list[float]]:
    losses: list[float] = []
    return train(15, losses), losses


def test_training_begins_at_the_base_exactly() -> None:
    base, first = arrays_of(small.model()), arrays_of(LORA.adapt(small.model()).merge())
    for path, array in base.items():
        np.testing.assert_array_equal(first[path], array, err_msg=path)


def test_the_merged_model_is_the_base_and_a_low_rank_change(trained) -> None:
    adapted, losses = trained
    base, after = arrays_of(small.model()), arrays_of(adapted.merge())
    for path, array in base.items():
        change = np.asarray(after[path]) - np.asarray(array)
        if path.rpartition("/")[2] not in LORA.projections:
            assert not change.any(), path
            continue
        name = path.replace("/", ".")
        for layer in range(small.CONFIG.layers):
            down, up = adapted.down[name][layer], adapted.up[name][layer]
            np.testing.assert_allclose(change[layer], 2.0 * np.asarray(down @ up), atol=1e-6)
            size = np.linalg.svd(change[layer], compute_uv=False)
            assert size[1] > 1e-3 and size[2] < 1e-6
    assert losses[-1] < losses[0] - 0.1
    # What training saw is what the plain model says.
    again: list[float] = []
    train(16, again)
    assert float(next_token(adapted.merge(), **BATCH)[0]) == pytest.approx(again[15], rel=1e-5)


def test_only_adapters_are_saved_and_a_run_resumes(trained, tmp_path) -> None:
    train(10, folder=tmp_path)
    stored = json.loads((tmp_path / "10" / "default" / "_METADATA").read_text())
    saved = [path for path in stored["tree_metadata"] if "params" in path]
    assert len(saved) == 2 * len(LORA.projections)
    assert all("down" in path or "up" in path for path in saved)
    resumed = train(15, folder=tmp_path)
    for one, other in zip(jax.tree.leaves(resumed), jax.tree.leaves(trained[0]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_export_opens_as_a_plain_checkpoint(trained, tmp_path) -> None:
    model = trained[0].merge()
    export.save(model, tmp_path / "aligned")
    opened = arrays_of(checkpoints.load(tmp_path / "aligned"))
    for path, array in arrays_of(model).items():
        np.testing.assert_array_equal(opened[path], array)


TABLE = LoRA(rank=4, projections=("table",))


@pytest.mark.parametrize("learner", [Reinforce(), PPO(width=9)], ids=["rloo", "ppo"])
def test_policies_are_aligned_by_adapters(learner: Any) -> None:
    """The reference is the base: the KL is nothing at first."""
    seen: list[dict[str, float]] = []
    module = fit(
        learner.module(TABLE.adapt(bigrams.random())),
        learner.loss,
        batches(0.5),
        optax.adam(0.03),
        60,
        watch=lambda _, means: seen.append(dict(means)),
        watch_every=1,
        rollout=learner.rollout,
        updates=learner.updates,
    )
    policy = merged(learner.policy(module))
    assert isinstance(policy, bigrams.Bigrams)
    base = bigrams.random()
    assert policy.law() @ WORTH > base.law() @ WORTH + 0.3
    assert np.linalg.matrix_rank(policy.table[...] - base.table[...], tol=1e-4) == 4
    assert seen[0]["kl"] == pytest.approx(0, abs=1e-6) and seen[-1]["kl"] > 0.05
    if isinstance(learner, PPO):
        assert np.abs(module.kernel[...]).max() > 1e-3, "the value's head is trained in full"


def test_preferences_are_learnt_by_adapters() -> None:
    def sequences(words: list[int]) -> Sequences:
        tokens = jnp.array([[bigrams.START, *words]])
        return Sequences(tokens, jnp.array([3]), jnp.array([[False, True, True]]))

    base, good, bad = bigrams.random(), sequences([1, 2]), sequences([3, 4])
    batch = {
        "terms": dpo(0.1),
        "chosen": good,
        "rejected": bad,
        "chosen_reference": logprobs(base, good),
        "rejected_reference": logprobs(base, bad),
    }
    seen: list[float] = []
    fit(
        TABLE.adapt(base),
        pair_loss,
        lambda _: batch,
        optax.adam(0.05),
        20,
        watch=lambda _, means: seen.append(means["loss"]),
        watch_every=1,
    )
    assert seen[0] == pytest.approx(np.log(2), rel=1e-6) and seen[-1] < 0.6


def test_a_narrow_base_is_adapted_in_wide_numbers() -> None:
    """A base in bfloat16 halves its memory; what is trained is float32 all the same."""
    base = jax.tree.map(lambda w: w.astype(jnp.bfloat16), bigrams.random())
    given = TABLE.adapt(base)
    batch = {"tokens": BATCH["tokens"] % 8, "loss_mask": BATCH["loss_mask"], "length": [12] * 4}
    batch = {name: np.asarray(value) for name, value in batch.items()}
    after = fit(given, next_token, lambda _: batch, optax.adam(0.05), 5, compute="bfloat16")
    assert after.up["table"].dtype == jnp.float32
    assert after.merge().table.dtype == jnp.bfloat16
    assert np.abs(np.asarray(after.merge().table[...] - base.table[...])).max() > 0.01


def test_adapters_lie_where_their_weights_lie() -> None:
    model = shard(small.model(), make_mesh(1, 1, jax.devices()[:1]))
    adapted = LoRA(rank=2, projections=("q", "o")).adapt(model)
    spec = {
        name: (adapted.down[name][...].sharding.spec, adapted.up[name][...].sharding.spec)
        for name in adapted.down
    }
    assert [[tuple(s) for s in spec[f"layers.{name}"]] for name in ("q", "o")] == [
        [(None, None, None), (None, None, "model")],
        [(None, "model", None), (None, None, None)],
    ]


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (LoRA(projections=("q", "query")), "the model has no 'query'; it has .*down, .*gate"),
        (LoRA(rank=9), r"rank=9: layers\.q is 8 x 8; use 1\.\.8"),
        (LoRA(rank=0), r"rank=0: layers\.q is 8 x 8"),
    ],
)
def test_bad_adapters_are_refused(lora: LoRA, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lora.adapt(small.model())
