"""What is read of a compiled program, and what is over its budget. Nothing is compiled here."""

from __future__ import annotations

import json

import pytest

from experiments.commands.ahead.compiled import parse
from experiments.commands.pods import main, programs

TEXT = """HloModule jit_run, is_scheduled=true

%rows (p: (s32[])) -> (s32[]) {
  %fusion.9 = bf16[16] fusion(%p), backend_config={"estimated_cycles":"10631"}
}

%none (p: (s32[])) -> pred[] {
  %compare.3 = pred[] compare(%a, %b)
}

%layer (p: (s32[])) -> (s32[]) {
  %fusion.1 = bf16[16,3584] fusion(%x, %w), backend_config={"estimated_cycles":"32728"}
  %store = bf16[2,16] custom-call(%x), custom_call_target="tpu_custom_call"
  %all-reduce.1 = bf16[16,4096] all-reduce(%fusion.1), to_apply=%add
  %while.2 = (s32[]) while(%t), condition=%none, body=%rows, NAMED/while/body/while/body/scatter"}
}

%running (p: (s32[])) -> pred[] {
  %all-reduce.7 = u32[] all-reduce(%any), to_apply=%or
}

%step (p: (s32[])) -> (s32[]) {
  %fusion.2 = f32[16,32064] fusion(%x, %w), backend_config={"estimated_cycles":"371340"}
  %gather = f32[4,4,2] all-gather-start(%x), backend_config={"estimated_cycles":"60"}
  %while.3 = (s32[]) while(%t), condition=%none, body=%layer, NAMED/while/body/while"}, TWICE
}

ENTRY %main (p: (s32[])) -> (s32[]) {
  %copy.1 = bf16[2] copy(%p), backend_config={"estimated_cycles":"7"}
  %while.4 = (s32[]) while(%t), condition=%running, body=%step, NAMED/while"}
}
"""
TEXT = TEXT.replace("NAMED", 'metadata={op_name="jit(run)').replace(
    "TWICE", 'backend_config={"known_trip_count":{"n":"2"}}'
)


def test_loops_are_read_with_their_cycles_and_collectives() -> None:
    program = parse(TEXT)
    (step,) = program.loops
    (layer,) = step.loops
    (rows,) = layer.loops
    assert [loop.cycles for loop in program.walk()] == [7, 371400, 32728, 10631]
    assert step.collectives == {"all-gather": 1, "all-reduce": 1}, "that of the condition counts"
    assert layer.collectives == {"all-reduce": 1} and layer.kernels == 1
    assert (step.trips, layer.trips) == (None, 2)
    assert [loop.made for loop in program.walk()] == [False, False, False, True]
    assert rows.origin.endswith("/scatter")


OVER = "x: 5 x all-gather in layer_collectives, over 0"


def test_what_is_over_its_budget_is_named() -> None:
    budget = {
        "step_cycles": 100,
        "layer_cycles": 50,
        "step_collectives": {"all-gather": 1},
        "layer_collectives": {},
        "kernels": 2,
        "loops_made": 0,
        "temporary_mb": 10.0,
    }
    assert main.excess("x", budget, budget) == []
    assert main.excess("x", budget | {"step_cycles": 102, "kernels": 3}, budget) == []
    for change, words in (
        ({"step_cycles": 103}, "x: step_cycles is 103, over 100"),
        ({"temporary_mb": 12.5}, "x: temporary_mb is 12.5, over 10.0"),
        ({"loops_made": 1}, "x: loops_made is 1, over 0"),
        (
            {"layer_collectives": {"all-gather": 5}},
            "x: 5 x all-gather in layer_collectives, over 0",
        ),
        ({"kernels": 1}, "x: 1 kernels, and 2 are expected"),
    ):
        assert main.excess("x", budget | change, budget) == [words]


def test_every_program_has_a_budget_without_a_loop_over_rows() -> None:
    held = json.loads(main.BUDGET.read_text())
    assert set(held) == set(programs.PROGRAMS)
    assert all(budget["loops_made"] == 0 for budget in held.values())
    assert held["sampled"]["step_collectives"] == {
        "all-gather": 1,
        "all-reduce": 1,
        "all-to-all": 1,
    }
    assert len(programs.TREE) == 60


def test_an_unknown_program_is_refused() -> None:
    with pytest.raises(ValueError, match="--only 'gredy': choose of greedy, "):
        main.check(only=("gredy",))
