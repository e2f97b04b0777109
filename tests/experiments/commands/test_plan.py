"""Plans against numbers worked out by hand, what they refuse, and how they must move."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter

import jax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import zoo
from experiments.commands.plan import compiler, fit
from experiments.commands.plan.chips import CHIPS, GIB
from experiments.commands.plan.decode import Decoding, Guess
from experiments.commands.plan.main import main, run
from experiments.commands.plan.named import config_of
from experiments.commands.plan.options import Options
from experiments.commands.plan.plan import planned
from experiments.commands.plan.share import Cost, Share, Split
from experiments.commands.plan.topology import Topology, topology_of
from experiments.commands.plan.train import Training
from experiments.commands.pods.main import BUDGET
from models.parameters import count, matmul_count
from models.presets import (
    GEMMA_2_2B,
    GPT2,
    LLAMA_3_1_8B,
    LLAMA_3_2_1B,
    MIXTRAL_8X7B,
    OPT_1_3B,
    small,
)
from models.transformer import Transformer

ONE = Split(1, 1)
WEIGHTS = 16_060_522_496  # of Llama-3.1-8B in bfloat16
TABLE = 128_256 * 4_096 * 2  # its embeddings
TOKEN = 2 * 32 * 8 * 128 * 2  # keys and values of a token, 131,072 bytes
H200 = CHIPS["h200"]


def test_weights_and_cache_of_a_published_model_are_those_of_its_card() -> None:
    share = Share(LLAMA_3_1_8B, ONE, "gpu")
    assert share.held == WEIGHTS
    assert share.row(1000) == 1000 * TOKEN == 131_072_000
    parted = Share(LLAMA_3_1_8B, Split(2, 4), "tpu")
    norms = (2 * 32 + 1) * 4096 * 2  # whole on every chip
    assert parted.held == (WEIGHTS - norms) // 4 + norms
    assert parted.row(1000) == 1024 * TOKEN // 4, "slots are filled up to whole tiles of 128"
    many = Share(LLAMA_3_1_8B, Split(1, 16), "gpu")
    assert many.row(1000) == 1000 * TOKEN, "8 heads do not divide over 16 chips"


@pytest.mark.parametrize("config", [LLAMA_3_2_1B, GPT2, GEMMA_2_2B, OPT_1_3B, MIXTRAL_8X7B])
def test_one_chip_holds_and_multiplies_all(config) -> None:
    share = Share(config, ONE, "gpu")
    assert (share.numbers, share.multiplied) == (count(config), matmul_count(config))


def test_a_model_that_is_there_takes_what_was_planned() -> None:
    config = small(96, hidden=64, layers=2)
    model = Transformer(config, rngs=nnx.Rngs(0))
    share = Share(config, ONE, "cpu")
    assert share.held == sum(leaf.nbytes for leaf in jax.tree.leaves(model))
    assert 3 * share.row(40) == model.init_cache(3, 40).nbytes


def test_a_step_reads_all_weights_but_the_embeddings() -> None:
    """One row on one H200: 4.8 TB/s over 16.06 GB less the embeddings, and the keys and values."""
    job = Decoding(LLAMA_3_1_8B, "gpu", prompt=1000, new=1)
    step = job.step(ONE, 1)
    read = WEIGHTS - TABLE + 4096 * 2 + 1001 * TOKEN  # of 1,000 tokens, and one is written
    assert step.cost.bytes == read == 15_141_060_608
    assert step.rate(H200) == pytest.approx(4.8e12 / read) and step.tokens == 1
    assert step.cost.flops == 2 * matmul_count(LLAMA_3_1_8B) + 4 * 4096 * 32 * 1000
    assert step.cost.sent == step.cost.collectives == 0
    limits = step.cost.limits(H200)
    assert limits["bandwidth"] > limits["arithmetic"] > limits["links"] == 0


def test_a_step_reads_the_experts_that_its_tokens_pick() -> None:
    """Two of eight for one token, all but 8 * .75 ** 8 of them for eight."""
    share = Share(MIXTRAL_8X7B, ONE, "gpu")
    expert = 3 * 4096 * 14336 * 32 * 2  # bytes in all layers
    read = [share.once(rows, 1, 1).bytes for rows in (1, 8)]
    beside = 7 * (2 * 32 * 8 * 128 * 2 + 4096 * 2 + 2 * 32 * 8 * 128 * 2)  # of seven more rows
    assert read[1] - read[0] - beside == pytest.approx((6 - 8 * 0.75**8) * expert)
    flops = [share.once(rows, 1, 1).flops for rows in (1, 8)]
    assert flops[1] == 8 * flops[0]


def test_a_layer_with_a_window_reads_no_more() -> None:
    share = Share(GEMMA_2_2B, ONE, "gpu")
    assert share.seen(10_000) == 13 * 10_000 + 13 * 4096


def test_collectives_are_those_that_the_compiler_was_seen_to_make() -> None:
    held = json.loads(BUDGET.read_text())["greedy"]
    made = sum((Counter(held["layer_collectives"]) for _ in range(2)), Counter())
    made += Counter(held["step_collectives"])
    share = Share(LLAMA_3_1_8B.part(0, 2), Split(1, 4), "tpu")
    assert share.once(16, 1, 96).collectives == made.total() == 7


def test_what_is_sent_is_a_ring_of_sums_and_rows_of_logits() -> None:
    cost = Share(LLAMA_3_1_8B, Split(1, 4), "tpu").once(16, 1, 1024)
    sums = 65 * 16 * 4096 * 2 * 2 * 3 / 4
    rows = 16 * 128_256 / 4 * 4 * 3 / 4
    assert cost.sent == sums + rows


def test_rounds_of_a_chain_emit_what_the_series_says() -> None:
    assert Guess(None, 4, 0.8).emitted == pytest.approx((1 - 0.8**5) / 0.2) == pytest.approx(3.3616)
    assert (Guess(None, 4, 0.0).emitted, Guess(None, 4, 1.0).emitted) == (1, 5)


def test_speculation_holds_and_reads_both_models() -> None:
    plain = Decoding(LLAMA_3_1_8B, "gpu", 1000, 64)
    job = dataclasses.replace(plain, guess=Guess(LLAMA_3_2_1B, 4, 0.8))
    drafter = Share(LLAMA_3_2_1B, ONE, "gpu")
    memory = job.memory(ONE, 2)
    assert memory["weights"] == WEIGHTS + drafter.held
    assert memory["cache"] == 2 * (1000 + 64 + 4) * (TOKEN + 32_768)
    phases = job.step(ONE, 2).phases
    assert phases["draft"] == drafter.once(2, 1, 1031.5) * 4
    assert phases["verify"].bytes > plain.step(ONE, 2).cost.bytes
    gain = job.step(ONE, 1).rate(H200) / plain.step(ONE, 1).rate(H200)
    assert 2 < gain < 3.3616, "four passes of a model of a sixth of the bytes come off"
    vain = dataclasses.replace(plain, guess=Guess(None, 4, 0.0))
    assert vain.step(ONE, 1).rate(H200) < plain.step(ONE, 1).rate(H200)


def test_best_of_n_is_n_rows_and_waves_bound_them() -> None:
    all_at_once = planned(Options("llama-3.2-1b", "h200", "best-of-n", batch=4, samples=8))
    waves = planned(Options("llama-3.2-1b", "h200", "best-of-n", batch=4, samples=8, wave=2))
    one, other = all_at_once.fits[0], waves.fits[0]
    assert one.memory["cache"] == 4 * other.memory["cache"] == 32 * 1280 * 32_768
    assert one.step.tokens == 4 * other.step.tokens == 32
    assert one.seconds < other.seconds, "waves read the weights and the prompts again"


def test_training_holds_three_numbers_a_weight_the_beginning_and_its_neighbours() -> None:
    config = dataclasses.replace(LLAMA_3_2_1B, dtype="bfloat16")
    n, reward = count(config), Share(GPT2, ONE, "gpu")
    job = Training(config, "gpu", 512, 128, reward=GPT2)
    memory = job.memory(ONE, 2)
    assert memory["weights"] == 4 * n + 4 * n + 2 * n + reward.held
    assert memory["moments"] == 2 * 4 * n
    logits = 16 * 640 * 128_256 * 4
    kept = 16 * 640 * 2048 * 16 * 2
    backward = 2 * n + 4 * n + kept + 3 * logits  # a copy to compute with, the gradient, layers
    assert 0 < memory["temporaries"] - backward < 0.05 * backward
    parts = dataclasses.replace(job, parts=16).memory(ONE, 2)
    assert parts["temporaries"] < memory["temporaries"], "reading is not cut, the gradient is"
    wide = dataclasses.replace(job, config=dataclasses.replace(config, dtype="float32"))
    assert wide.memory(ONE, 2)["weights"] == 8 * n + reward.held, "the reference is the beginning"
    whole = dataclasses.replace(job, fsdp=False)
    step = whole.step(Split(2, 1), 2)
    assert step.phases["update"].sent == 4 * n and step.tokens == 2 * 8 * 128
    forward = Share(config, Split(2, 1), "gpu").once(8, 639, 1, drawn=False)
    assert step.phases["gradient"] == forward * 4
    assert whole.memory(ONE, 2) == memory, "one chip has nobody to share with"


def test_training_is_split_over_all_chips_and_gathers_what_it_reads() -> None:
    config, split = dataclasses.replace(LLAMA_3_2_1B, dtype="bfloat16"), Split(8, 2)
    n, norms = count(config), (2 * 16 + 1) * 2048  # which no chip shares
    part = (n - norms) // 16 + norms
    job = Training(config, "tpu", 512, 128)
    memory, share = job.memory(split, 8), Share(config, split, "tpu")
    assert share.spread == part and share.held == 2 * ((n - norms) // 2 + norms)
    assert memory["weights"] == (4 + 4 + 2) * part and memory["moments"] == 2 * 4 * part
    alone = dataclasses.replace(job, fsdp=False)
    assert alone.memory(split, 8)["moments"] == 4 * share.held
    step, other = job.step(split, 8).phases, alone.step(split, 8).phases
    gathered = share.held * 7 / 8
    for phase, times in (("prompts", 1), ("reading", 1), ("gradient", 2)):
        assert step[phase].sent - other[phase].sent == pytest.approx(times * gathered)
    assert step["update"].sent == other["update"].sent / 2, "summed, and not handed back"


def test_an_aligned_model_fits_on_a_pod() -> None:
    """A policy, its reference and a reward of 8B each, on 64 chips of 95.7 GiB."""
    given = Options("llama-3.1-8b", "v5p:4x4x4", recipe="ctrl", reward="llama-3.1-8b", batch=64)
    best = planned(given).best
    assert best is not None and best.needed < 0.6 * best.chip.memory
    large = dataclasses.replace(given, model="llama-3.1-70b", batch=32)
    assert planned(large).best is not None
    assert planned(dataclasses.replace(large, fsdp=False)).best is None


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 500), st.integers(16, 3000), st.integers(1, 700), st.sampled_from([1, 2, 4]))
def test_more_work_never_takes_less(batch: int, prompt: int, new: int, model: int) -> None:
    split, chip = Split(4 // model, model), CHIPS["v5p"]
    job = Decoding(LLAMA_3_2_1B, "tpu", prompt, new)
    longer = dataclasses.replace(job, prompt=prompt + 200)
    more = batch + split.data
    for name, held in job.memory(split, batch).items():
        assert held <= job.memory(split, more)[name]
        assert held <= longer.memory(split, batch)[name]
    assert job.step(split, batch).seconds(chip) <= job.step(split, more).seconds(chip)
    assert job.step(split, batch).rate(chip) >= longer.step(split, batch).rate(chip)
    cost = job.step(split, batch).cost
    assert cost.seconds(chip) == max(cost.limits(chip).values()) > 0
    rooms = sum(job.memory(split, batch).values())
    found = fit.largest(job, split, rooms)
    assert found % split.data == 0 and found >= batch - batch % split.data
    assert not found or sum(job.memory(split, found).values()) <= rooms
    assert sum(job.memory(split, found + split.data).values()) > rooms


def test_every_mesh_that_divides_is_tried_and_the_fastest_that_fits_is_best() -> None:
    plan = planned(Options("llama-3.1-70b", "h100x8", batch=32))
    assert [one.split.name for one in plan.fits] == ["8x1", "4x2", "2x4", "1x8"]
    assert [one.fits for one in plan.fits] == [False, True, True, True]
    assert plan.best is plan.fits[3] and plan.refused is None
    assert plan.fits[0].largest == 0 and plan.fits[3].largest > 32
    assert plan.fits[3].rate_largest > plan.fits[3].rate
    grouped = planned(Options("llama-3.1-8b", "h100x16", batch=64)).fits
    assert max(one.split.model for one in grouped) == 8, "fast links join eight GPUs"
    assert [s.name for s in fit.splits(topology_of("v5e:4x4"), 14)] == ["16x1", "8x2"]


def test_what_does_not_fit_says_what_is_missing_and_what_would_do() -> None:
    options = Options("llama-3.1-70b", "v5e:2x2", batch=1, prompt_tokens=128, max_tokens=128)
    plan = planned(options)
    assert plan.best is None and plan.refused is not None
    missing = 70_553_706_496 * 2 / 4 / GIB - 15.75 * 0.95  # of weights alone
    assert missing < float(plan.refused.split(": ")[1].split()[0]) < missing + 0.5
    assert plan.refused.endswith("v5e:4x4 with mesh 1x16 is the smallest that would do")
    with pytest.raises(ValueError, match=r"batch=1 does not fit on v5e:2x2: 17\.9"):
        run(options)
    job, chip = plan.job, CHIPS["v5e"]
    assert fit.smallest(job, chip, 1, 0.05) == (Topology(chip, "4x4"), Split(1, 16))
    cramped = planned(Options("llama-3.1-8b", "h200", batch=2000))
    assert cramped.refused is not None
    most = cramped.fits[0].largest
    assert f"; --batch {most} fits; " in cramped.refused
    assert planned(Options("llama-3.1-8b", "h200", batch=most)).best is not None
    assert planned(Options("llama-3.1-8b", "h200", batch=most + 1)).best is None


REFUSED = {
    "no such chips; name TPUs .* known are v5e, v5p, v6e, a100": {"topology": "v9:2x2"},
    "v5e can be had as v5e:1x1, v5e:2x2": {"topology": "v5e:3x3"},
    "h200 can be had as h200, h200x2, ": {"topology": "h200x3"},
    "did you mean llama-3-1-8b": {"model": "llama-3.1-9b"},
    "makes 8 chips and v5e:2x2 has 4; 4x1, 2x2, 1x4 would do": {"mesh": "2x4"},
    "model=2 does not divide the 25 heads; 4x1 would do": {
        "mesh": "2x2",
        "model": "gpt2-xl",
        "prompt_tokens": 512,
    },
    "model=16 is more than the 8 chips of a host; 16x1, 8x2, 4x4, 2x8 would do": {
        "mesh": "1x16",
        "topology": "h100x16",
    },
    "data=4 does not divide --batch 6; 2x2, 1x4 would do": {"mesh": "4x1", "batch": 6},
    "give DATAxMODEL": {"mesh": "4"},
    "no mesh of v5e:4x4 divides it and the 14 heads .* give a multiple of 8": {
        "model": "qwen2.5-0.5b",
        "topology": "v5e:4x4",
        "batch": 4,
    },
    "--decoder a-star-decoding: .* what can be planned is sample, greedy": {
        "decoder": "a-star-decoding"
    },
    "--samples does nothing for --decoder greedy": {"samples": 4},
    "--acceptance does nothing without --draft": {"acceptance": 0.5},
    "needs --acceptance": {"draft": "prompt-lookup"},
    "1.5 is none": {"draft": "prompt-lookup", "acceptance": 1.5},
    "--draft eagle: what can be planned": {"draft": "eagle", "acceptance": 0.5},
    "it has 50257 tokens and --model llama-3.2-1b 128256": {"draft": "gpt2", "acceptance": 0.5},
    "is no smaller than --model": {"draft": "llama-3.1-8b", "acceptance": 0.5},
    "--wave 3 does not divide --samples 16": {"decoder": "best-of-n", "wave": 3},
    "--batch 0: give 1 or more": {"batch": 0},
    "--spare 1": {"spare": 1.0},
    "are 1280 tokens, and --model reads 1024 at most": {"model": "gpt2"},
    "--decoder sample does nothing for --recipe": {"recipe": "ctrl", "decoder": "sample"},
    "--group 4 is for training": {"group": 4},
    "--reward judge.py:f: a function": {"decoder": "best-of-n", "reward": "judge.py:f"},
    "--reward does nothing for --decoder greedy; .*best-of-n": {"reward": "gpt2"},
    "--group 1": {"recipe": "ctrl", "group": 1},
    "--samples does nothing for --recipe ctrl": {"recipe": "ctrl", "samples": 2},
    "--parts 2 is for training": {"parts": 2},
    "--no-fsdp is for training": {"fsdp": False},
    "h200 are GPUs, whose compiler gives no times": {"compile": True, "topology": "h200"},
    "--compile is for --decoder greedy or sample": {"compile": True, "decoder": "beam-search"},
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_planned_is_refused_by_name(said: str) -> None:
    changes = {"model": "llama-3.2-1b", "topology": "v5e:2x2"} | REFUSED[said]
    with pytest.raises(ValueError, match=said):
        run(Options(**changes))


def test_a_folder_needs_no_weights(tmp_path) -> None:
    source = zoo.WEIGHTS / "arithmetic"
    shutil.copy(source / "config.json", tmp_path)
    found = config_of("model", str(tmp_path), "bfloat16")
    assert found == config_of("model", "arithmetic", "bfloat16")
    assert Share(found, ONE, "gpu").width == 2 and found.dtype == "bfloat16"
    with pytest.raises(ValueError, match="is a denoiser"):
        config_of("model", "denoiser", "bfloat16")


def test_a_plan_is_shown_stored_and_drawn(tmp_path, capsys) -> None:
    record, page = tmp_path / "plan.json", tmp_path / "plan.html"
    given = ["--model", "llama-3.1-8b", "--topology", "v5e:2x2", "--batch", "8"]
    main([*given, "--json", str(record), "--page", str(page)])
    stored = json.loads(record.read_text())
    assert stored["best"] in capsys.readouterr().out
    assert [mesh["fits"] for mesh in stored["meshes"]] == [False, True, True]
    best = next(m for m in stored["meshes"] if f"{m['data']}x{m['model']}" == stored["best"])
    assert best["tokens_a_second"] == pytest.approx(8 / best["step_seconds"])
    assert "<th>weights</th>" in page.read_text()
    with pytest.raises(SystemExit, match="error: --mesh 9x9"):
        main([*given, "--mesh", "9x9"])


def test_without_libtpu_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setattr(compiler, "available", lambda: False)
    with pytest.raises(ValueError, match=r"the `tpu` extra .* pip install '.\[experiments,tpu\]'"):
        compiler.check(topology_of("v5e:2x2"))


def facts(layers: int) -> dict:
    """As if a step cost 1,000 cycles and a layer 100, and memory grew by 3 and 5 bytes a layer."""
    return {
        "step_cycles": 1000,
        "layer_cycles": 100,
        "step_collectives": {"all-gather": 1},
        "layer_collectives": {"all-reduce": 2},
        "kernels": 0,
        "loops_made": 0,
        "layers": layers,
        "arguments": (10 + 3 * layers) * GIB,
        "temporaries": (20 + 5 * layers) * GIB,
    }


@pytest.mark.parametrize("refused", [False, True])
def test_what_the_compiler_says_is_put_beside_the_limit(monkeypatch, refused: bool) -> None:
    """A program that is too large is extended from a few layers, to the same."""

    def compiled(job, best, topology, batch, layers):
        if refused and layers > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: of 16G")
        return facts(layers)

    monkeypatch.setattr(compiler, "_compiled", compiled)
    plan = planned(Options("llama-3.2-1b", "v5e:2x2"))
    assert plan.best is not None and isinstance(plan.job, Decoding)
    told, notes = compiler.estimated(plan.job, plan.best, plan.topology, 16)
    assert told is not None
    assert told["cycles a step"] == 1000 + 16 * 100
    assert told["step, ms"] == pytest.approx(2600 / 1.5e9 * 1e3, abs=1e-3)
    assert told["collectives a step"] == "1 all-gather, 32 all-reduce"
    assert told["arguments, GiB"] == 58 and told["temporaries with the cache, GiB"] == 100
    limit = plan.best.step.seconds(plan.topology.chip)
    assert told["share of the limit reached"] == pytest.approx(limit / (2600 / 1.5e9), abs=1e-3)
    assert len(notes) == refused and all("2 and 4 were compiled" in note for note in notes)


def test_a_compiler_that_refuses_everything_leaves_arithmetic(monkeypatch) -> None:
    def compiled(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

    monkeypatch.setattr(compiler, "_compiled", compiled)
    plan = planned(Options("llama-3.2-1b", "v5e:2x2"))
    assert plan.best is not None and isinstance(plan.job, Decoding)
    told, (note,) = compiler.estimated(plan.job, plan.best, plan.topology, 16)
    assert told is None and "arithmetic is all there is: RESOURCE_EXHAUSTED" in note


def test_costs_add_up() -> None:
    cost = Cost(8e12, 1e12, 9e11, 3) + Cost(1.6e12, 0, 0, 1) * 2
    assert cost == Cost(11.2e12, 1e12, 9e11, 5)
    assert cost.seconds(H200) == pytest.approx(11.2 / 4.8)
    assert cost.limits(H200)["links"] == pytest.approx(2.0)
