"""The tables of a command line agree with what they name."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from algorithms.selection import speculative_rejection
from experiments.commands.decoding import decoders, drafting, rules, uses
from experiments.commands.decoding.rules import Rules
from experiments.commands.generate import canvases
from experiments.inputs import edits
from jaxdecode import certainty

ROOT = Path(__file__).resolve().parents[3]


def test_every_name_has_what_it_names():
    names = get_args(uses.Name)
    assert [*decoders.MAKERS, *canvases.MAKERS] == list(names) == list(uses.USES)
    assert tuple(canvases.MAKERS) == uses.UNMASKING
    assert tuple(edits.EDITS) == uses.EDITED
    assert tuple(drafting.WAYS) == uses.DRAFTS
    assert get_args(rules.Rule) == get_args(speculative_rejection.Rule)
    assert get_args(rules.Measure) == get_args(certainty.Measure)
    assert {*uses.RANKED, *uses.SCORED, *uses.STEPWISE, *uses.JUDGED} <= {*names}


def test_every_option_is_used_grouped_and_explained():
    options = {field.name for field in dataclasses.fields(Rules)}
    used = {option for some in uses.USES.values() for option in some}
    assert used | {"max_tokens"} == options
    grouped = [option for some in uses.GROUPS.values() for option in some]
    assert sorted(grouped) == sorted(options)
    assert all(rules.helps()[option].endswith((".", ")")) for option in options)


def test_help_comes_without_waiting_for_jax():
    said = subprocess.run(
        [sys.executable, "-c",
         "import sys; from experiments.commands.generate import main\n"
         "try: main.main(['--help'])\n"
         "except SystemExit: print('jax' in sys.modules, file=sys.stderr)"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert said.stderr.split()[-1] == "False"
    for name in (*get_args(uses.Name), *uses.DRAFTS):
        assert name in said.stdout.replace("\n", "").replace(" ", "").replace("│", "")
    assert "searching options" in said.stdout


@pytest.mark.parametrize(
    ("name", "given", "complaint"),
    [
        ("sample", {"draft": "rest"}, "--draft rest needs --corpus"),
        ("sample", {"draft": "eagle"}, "--draft eagle needs --head"),
        ("sample", {"draft": "dyspec"}, "--draft dyspec needs --draft-model"),
        ("sample", {"draft": "stand", "head": "x"}, "--head does nothing for --draft stand"),
        ("sample", {"draft": "small", "draft_model": "x"}, "--draft-model does nothing"),
        ("sample", {"draft": "lookahead", "draft_tokens": 3}, "whose tree is fixed"),
        ("sample", {"corpus": "x"}, "--corpus does nothing without --draft"),
        ("sample", {"policy": "heuristic"}, "--policy does nothing without --draft"),
        ("pg-td", {"reward": "folder"}, "needs --reward FILE.py:FUNCTION"),
        ("pg-td", {"reward": "a.py:f", "temperature": 1.0}, "--temperature does nothing"),
        ("dvts", {}, "needs --process-reward"),
        ("controlled-decoding", {}, "needs --reward"),
        ("adadec", {}, "needs --threshold"),
        ("adadec", {"threshold": "1", "temperature": 0.5}, "--temperature does nothing"),
        ("greedy", {"threshold": "1"}, "--threshold does nothing for --decoder greedy"),
        ("lud", {}, "needs --placeholder"),
        ("lud", {"placeholder": 9, "ahead": 2}, "--ahead does nothing for --decoder lud"),
        ("lud", {"placeholder": 9, "draft": "stand"}, "--draft does nothing for --decoder lud"),
        ("greedy", {"placeholder": 9}, "--placeholder does nothing without --draft"),
        ("greedy", {"draft": "placeholders"}, "--draft placeholders needs --placeholder"),
        ("greedy", {"draft": "stand", "span": 3}, "--span does nothing for --draft stand"),
        ("nothing", {}, "choose one of sample, greedy"),
    ],
)
def test_what_cannot_be_meant_is_refused(name, given, complaint):
    with pytest.raises(ValueError, match=complaint):
        decoders.check(name, Rules(**given))
