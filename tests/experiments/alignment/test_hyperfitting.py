"""The experiment on hyperfitting at its smallest, its claims, and its published size as shapes."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from experiments import zoo
from experiments.alignment.hyperfitting.findings import Findings, claims
from experiments.alignment.hyperfitting.main import PRESETS, run, study
from experiments.alignment.hyperfitting.setting import Config, Setting
from experiments.inputs.sources import Codec, bound
from jaxdecode.train.losses import next_token
from models.presets import TINYLLAMA_1B, small
from models.tokenizer_files import load_tokenizer
from models.transformer import Transformer, abstract

TINY = Config(
    cap=200_000,
    updates=8,
    texts=16,
    width=16,
    sizes=(8,),
    orders=2,
    stages=2,
    contexts=8,
    context=8,
    tokens=8,
    counted=8,
)


@pytest.fixture(scope="module")
def codec() -> Codec:
    shipped = zoo.load("stdlib-draft")
    return Codec(load_tokenizer(shipped.folder), shipped.tokenizer)


@pytest.mark.slow
def test_smoke(tmp_path) -> None:
    report = run(replace(PRESETS["smoke"], out=tmp_path))
    verdict = {claim.claim.partition(":")[0]: claim.holds for claim in report.claims}
    assert verdict["hyperfitted, the greedy text is lexically richer than the original's"]
    assert verdict["validation loss has long been rising by then"]
    assert verdict["predictions become certain"] and verdict["certainty alone does nothing"]
    assert report.claims[5].holds  # more than fresh texts do
    rows = {row["method"]: row for row in report.rows}
    assert rows["hyperfitted"]["training loss"] < 0.1 < rows["fresh texts"]["training loss"]
    assert rows["no citations"]["longest overlap"] <= 5 < rows["hyperfitted"]["longest overlap"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert not (tmp_path / "trained").exists()


@pytest.mark.slow
def test_stopped_anywhere_it_goes_on_to_the_same(tmp_path, codec, monkeypatch) -> None:
    """Stopped before every one of its measurements in turn."""
    model = bound(Transformer(small(1024, hidden=32, layers=1, heads=1), rngs=nnx.Rngs(0)))
    whole = study(Setting(TINY, model, codec))
    measure, done = Setting.measure, 0

    def stopping(self, *args, **rules):
        nonlocal done
        done += 1
        if done % 2 == 0:
            raise KeyboardInterrupt
        return measure(self, *args, **rules)

    monkeypatch.setattr(Setting, "measure", stopping)
    setting = Setting(replace(TINY, out=tmp_path), model, codec)
    for attempt in range(6):
        try:
            report = study(setting)
            break
        except KeyboardInterrupt:
            assert attempt < 5
    assert attempt > 2 and report.rows == whole.rows and report.claims == whole.claims


def findings(better: bool) -> Findings:
    """What the paper says, or a training that changed nothing."""
    config = Config(sizes=(8, 16), stages=2, updates=150, orders=2)

    def row(ttr: float, **more) -> dict:
        shared = {"ttr": np.full(8, ttr), "diversity": np.full(8, ttr), "overlap": np.full(8, 4)}
        return {**shared, "train_loss": 2.0, "loss": 2.0, "entropy": 2.0, "mass1": 0.5, **more}

    base, last = row(0.1), row(0.1)
    if better:
        last = row(0.4, train_loss=0.01, loss=4.0, entropy=1.0, mass1=0.8)
    low = last["train_loss"]
    rows = {name: base for name in ("original", "nucleus", "fresh texts", "lowest validation loss")}
    rows |= {"hyperfitted": last, "order 1": row(0.4, train_loss=low), "human": row(0.45)}
    rows |= {"no citations": row(0.4 if better else 0.05), "8 texts": base}
    rows |= {"16 texts": row(0.3 if better else 0.1)}
    if not better:
        last["overlap"] = np.full(8, 30)
    agreement = np.eye(3) if better else np.ones((3, 3))
    middle = row(0.2, train_loss=0.5) if better else base
    return Findings(config, rows, [base, middle, last], agreement, 0.5, float(better))


def test_claims_are_decided_by_what_was_found() -> None:
    good, bad = (findings(better) for better in (True, False))
    verdicts = [claim.verdict for claim in claims(good.config, good.evidence())]
    # The original has the lowest validation loss: nothing else does less than hyperfitting.
    assert verdicts == ["holds"] * 6 + ["not measurable here", "holds", "sanity"] + ["holds"] * 5
    verdicts = [claim.verdict for claim in claims(bad.config, bad.evidence())]
    assert set(verdicts) == {"fails", "not resolved", "not measurable here"}
    assert verdicts.count("fails") >= 6


def test_texts_are_cut_from_files(tmp_path, codec) -> None:
    for split in ("train", "test"):
        lines = [json.dumps({"text": f"def {split}_{i}(a, b):\n    return a\n"}) for i in range(9)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    setting = Setting(replace(TINY, data=tmp_path), None, codec)
    assert setting.texts.shape == (16, 16) and setting.held_out.shape == (8, 16)
    assert set(setting.texts[:, 0]) == {setting.begin[0]} and len(setting.begin) == 1
    assert setting.recipe().unpredicted == 2
    assert "test" in codec.decode(setting.windows("test", 1, 40)[0].tolist())
    with pytest.raises(ValueError, match="of which 16 texts of 599 cannot be cut"):
        setting.windows("train", 16, 600)
    (tmp_path / "train.jsonl").write_text('{"text": "x"}\n{"words": 1}\n')
    with pytest.raises(ValueError, match=r"train.jsonl:2: not an object with a \"text\""):
        setting.windows("train", 1, 4)
    with pytest.raises(ValueError, match=r"there is no train.jsonl"):
        Setting.of(replace(TINY, data=tmp_path / "absent"))


def test_the_published_setting_traces(codec) -> None:
    """A step of TinyLlama on 8 texts, and text after 300 contexts: shapes only."""
    config = PRESETS["paper"]
    recipe = Setting(config, None, codec).recipe()
    assert (recipe.rate, recipe.updates, recipe.batch) == (1e-6, 5000, 8)
    model = abstract(TINYLLAMA_1B)
    batch = recipe.batches(np.zeros((config.texts, config.width), np.int32))(0)
    gradient, _ = jax.eval_shape(
        lambda m, b: nnx.grad(next_token, has_aux=True)(m, **b), model, batch
    )
    assert len(jax.tree.leaves(gradient)) == len(jax.tree.leaves(nnx.state(model)))
    setting = Setting(config, model, codec)
    setting.__dict__["held_out"] = np.zeros((config.contexts, config.context), np.int32)
    decoder = setting.decoder(model)
    result = jax.eval_shape(lambda d, k, p: d(k, p), decoder, jax.random.key(0), setting.prompt())
    assert result.tokens.shape == (300, 224) and config.context + config.tokens == 256


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": 3},
        {"counted": 9},
        {"sizes": ()},
        {"sizes": (4,)},
        {"sizes": (16,)},
        {"orders": 1},
    ],
)
def test_refusals(changes) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))}="):
        replace(TINY, **changes)
