"""What is timed takes turns, what is counted adds up, and goals are held against measurements."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.console import Console

from experiments.bench import bench, peers, race
from experiments.harness.measuring import pass_costs, timing
from experiments.harness.measuring.compiles import Compiles
from experiments.harness.progress import Progress
from experiments.harness.report import Report
from jaxdecode.lm import extend
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from models.presets import small
from models.transformer import Transformer

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Transformer(small(64, hidden=32, layers=1), rngs=nnx.Rngs(0))


def test_calls_take_turns_and_the_first_is_free() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    taken = timing.interleaved(calls, repeats=3)
    assert order == ["a", "b"] * 4
    assert [len(times) for times in taken.values()] == [3, 3]
    slow = {"s": lambda: time.sleep(0.02)}
    assert len(timing.interleaved(slow, repeats=50, seconds=0.01)["s"]) == 1
    assert timing.medians({"x": [5.0, 1.0, 2.0]}) == {"x": 2.0}


def test_calls_that_share_a_program_are_warmed_once() -> None:
    called: list[str] = []
    calls = {name: partial(called.append, name) for name in "ab"}
    taken = timing.interleaved(calls, repeats=2, warm=["a"])
    assert called == [*"aabab"] and set(map(len, taken.values())) == {2}


def test_the_machine_has_a_speed() -> None:
    assert 1e8 < timing.read_rate(1_000_000) < 1e14
    assert 1e8 < timing.arithmetic_rate(size=128) < 1e16


def test_the_bytes_of_a_program_are_those_of_its_arrays() -> None:
    x = jnp.zeros((100, 100))
    compiled = jax.jit(lambda x: x + 1).lower(x).compile()
    assert timing.program_bytes(compiled) == pytest.approx(2 * x.nbytes, rel=0.1)


def test_compilations_are_counted_while_someone_looks() -> None:
    def run(n: int) -> None:
        jax.jit(lambda x: x * n)(np.zeros(n, np.float32))

    with Compiles() as compiles:
        run(3)
        assert compiles.pending is None and compiles.pending_seconds == 0.0
        first = compiles.count
        assert first >= 1 and compiles.seconds > 0.0 and compiles.trace_seconds > 0.0
        run(5)
        assert compiles.count > first
    seen = compiles.count
    run(7)
    assert compiles.count == seen


def test_progress_is_silent_for_what_is_quick_off_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setattr("experiments.harness.progress.SILENCE", 0.05)
    plain = Console(file=io.StringIO(), force_terminal=False)
    with Progress("work", 4, plain) as progress:
        progress.advance(2, note="half")
        time.sleep(0.3)
    said = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"work: 2/4, \d+ s, \d+ s to go \(half\)", said[-1])
    monkeypatch.setattr("experiments.harness.progress.SILENCE", 10.0)
    with Progress("work", 4, plain) as progress:
        progress.advance(4)
    assert capsys.readouterr().err == ""


def test_progress_shows_a_bar_and_what_is_compiled(monkeypatch) -> None:
    monkeypatch.setattr("experiments.harness.progress.NOTICE", 0.0)
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=120)
    with Progress("work", 2, console) as progress:
        progress.advance()
        progress._compiles.pending = "jit(decode)"
        time.sleep(0.8)
    text = shown.getvalue()
    assert "work" in text and "1/2" in text and "compiling jit(decode)" in text


def test_curves_begin_at_one(model: Transformer) -> None:
    widths = list(pass_costs.verify(model, 2, (1, 4), held=5, repeats=2))
    slots = list(pass_costs.capacity(model, 2, (16, 64), held=5, repeats=2))
    reads = list(pass_costs.prefill(model, (1, 2), (8, 16), repeats=2))
    assert [row["width"] for row in widths] == [1, 4] and widths[0]["relative"] == 1.0
    assert [row["capacity"] for row in slots] == [16, 64] and slots[0]["relative"] == 1.0
    assert [(row["batch"], row["width"]) for row in reads] == [(1, 8), (1, 16), (2, 8), (2, 16)]
    assert all(row["ms"] > 0 for row in widths + slots + reads)


def test_what_is_timed_is_the_models_own_work(model: Transformer) -> None:
    prompt = Prompt.of([[1, 2, 3], [4]], width=4)
    logits = model.forward(prompt.tokens)[0]
    last = logits[jnp.arange(2), prompt.length - 1]
    np.testing.assert_array_equal(pass_costs.read(model, prompt), last.argmax(1))
    cache = model.init_cache(1, 8)
    tokens = jnp.asarray([[1, 2]])
    expected = tokens
    for _ in range(pass_costs.PASSES):
        expected = extend(model, expected, cache).logits.argmax(2)
    np.testing.assert_array_equal(pass_costs.passes(model, tokens, cache), expected)


def row(**changes) -> dict:
    base = {"kind": "decode", "model": "5M", "batch": 1, "counting": 0.01}
    return base | {"ratio": 4.2, "equal_rows": 1.0} | changes


def beamed(**changes) -> dict:
    base = {"kind": "beams", "model": "5M", "batch": 1, "beams": 4, "equal_rows": 1.0}
    return base | {"ratio": 2.1, "groups_ratio": 1.5} | changes


@pytest.mark.parametrize(
    ("rows", "verdicts"),
    [
        ([row()], [True, True]),
        ([row(ratio=3.9)], [False, True]),
        ([row(batch=8, ratio=3.9)], [True, True]),
        ([row(equal_rows=0.9)], [False, True]),
        ([row(counting=0.05)], [True, False]),
        ([row(model="0.2M", ratio=1.1)], [True, True]),
        ([{"kind": "decode", "model": "5M", "batch": 1, "counting": 0.0}], [True]),
        ([beamed(), row()], [True, False, True, True]),
        ([beamed(batch=8), beamed(equal_rows=0.5), row()], [True, True, False, False, True, True]),
        (
            [row(), {"kind": "compile", "layers": 24, "compile_s": 0.9, "cached_s": 0.2}],
            [True, True, False, True],
        ),
    ],
)
def test_goals_are_held_against_measurements(rows, verdicts) -> None:
    assert [claim.holds for claim in bench.claims(bench.Config(), rows)] == verdicts


def test_a_slow_spell_leaves_the_share_of_counting_alone() -> None:
    assert race.paired([1.1, 11.0, 2.2], [1.0, 10.0, 2.0]) == pytest.approx(1.1)


def test_smoke(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments", "bench", "--preset", "smoke"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = Report.read(tmp_path / "result.json")
    kinds = {row["kind"] for row in report.rows}
    assert kinds == {"compile", "decode", "verify", "capacity", "prefill"}
    (decoded,) = [row for row in report.rows if row["kind"] == "decode"]
    assert decoded["tokens/s"] > 0 and decoded["prefill_ms"] > 0 and decoded["program_mb"] > 0
    assert 0 < decoded["of_limit"] < 1
    (compiled,) = [row for row in report.rows if row["kind"] == "compile"]
    assert compiled["cached_s"] < compiled["compile_s"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_the_peers_absence_is_named(monkeypatch) -> None:
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    assert "torch and transformers not installed" in str(peers.missing())


@pytest.mark.parity
def test_the_peer_writes_the_same_tokens(model: Transformer) -> None:
    assert peers.missing() is None
    tokens = np.random.default_rng(0).integers(model.vocab_size, size=(3, 9))
    course = bench.Config(new=12, prompt=9).course
    ours = race.counted(
        race.decoder(course, model, Greedy()),
        jax.random.key(0),
        Prompt.of(tokens.tolist(), width=9),
    )
    with peers.peer_of(model, threads=1) as peer:
        for cache in ("dynamic", "static"):
            np.testing.assert_array_equal(peer.greedy(tokens, 12, cache), ours.tokens)
