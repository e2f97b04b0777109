"""Whatever is given to a command: one clear line, an exit status, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.commands import list as listing
from experiments.commands.generate import main as generate
from experiments.commands.generate.answers import invalid
from experiments.commands.lm_eval.main import check_tasks
from experiments.commands.terminal import INVALID, plainly, visible
from experiments.harness.report import Report
from experiments.inputs import prompts
from models import safetensors
from tests.experiments.folders import build

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("checkpoints"))


def said(*arguments: str, code: str = "", **options) -> subprocess.CompletedProcess[bytes]:
    program = ["-c", code] if code else ["-m", "experiments"]
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        check=False,
        **options,
    )


def one_line(run: subprocess.CompletedProcess[bytes]) -> str:
    text = run.stderr.decode()
    assert "Traceback" not in text and text.count("\n") <= 1 and len(text) < 5000, text
    return text


PLAIN = """
import sys
from experiments.commands.terminal import plainly
with plainly():
    {body}
"""


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("raise ValueError('a\\n  b\\x1b[2J\\ud800')", 1, "error: a b\\x1b[2J\\ud800"),
        ("raise FileNotFoundError(2, 'No such file', 'x')", 1, "No such file: 'x'"),
        ("raise KeyboardInterrupt", 130, "stopped"),
        ("raise MemoryError", 1, "out of memory"),
        ("raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory')", 1, "samples or beams"),
        ("x = lambda: x(); x()", 1, "recursion"),
        ("raise ValueError('x' * 10**6)", 1, "error: xxx"),
        ("print('x' * 10**6)", 1, "No space left"),
    ],
)
def test_what_goes_wrong_is_told_in_a_line(body: str, status: int, words: str) -> None:
    with Path("/dev/full").open("wb") as full:
        run = said(code=PLAIN.format(body=body), stdout=full)
    assert run.returncode == status and words in one_line(run)


def test_text_reaches_a_terminal_that_has_no_sign_for_it() -> None:
    code = PLAIN.format(body="print('caf\\u00e9 \\U0001f642 \\ud800')")
    run = said(code=code, stdout=subprocess.PIPE, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert run.returncode == 0 and run.stdout == b"caf\\xe9 \\U0001f642 \\ud800\n"


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as gone:
        gone.wait()
        run = said(code=PLAIN.format(body="print('x' * 10**6)"), stdout=gone.stdin)
    assert run.returncode == 128 + signal.SIGPIPE and one_line(run) == ""


def test_the_names_of_commands_are_shown_as_they_are() -> None:
    run = said("a\x1b[2J", stdout=subprocess.PIPE)
    assert run.returncode == 1 and "is no experiment" in one_line(run)
    assert b"\x1b" not in run.stderr


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"prompt": "a\\ud800"}', "character 1 of 'a\\ud800' is half of a surrogate pair"),
        ('{"messages": [{"role": "user", "content": "\\udfff"}]}', "half of a surrogate"),
        ('{"prompt": "a", "id": "\\ud800"}', "half of a surrogate"),
        ('{"prompt": ' + "[" * 200_000, "too deep to read"),
        ('{"prompt": "a", "id": ' + "9" * 6000 + "}", "is no JSON"),
        ('{"prompt": "a"}\x00', "is no JSON"),
    ],
)
def test_odd_prompts_are_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError) as error:
        prompts.read(path)
    assert complaint in str(error.value) and f"{path}:1" in str(error.value)
    with pytest.raises(ValueError, match="prompt 0: character 0"):
        prompts.of_texts(["\udc80"])  # a byte that was no UTF-8 on the command line


def test_an_interrupt_while_prompts_are_read(monkeypatch) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prompts, "read", interrupted)
    with pytest.raises(SystemExit) as stop, plainly():
        generate.main(["--model", "x", "--input", "y"])
    assert stop.value.code == 128 + signal.SIGINT


GOOD = {
    **{"experiment": "x", "preset": "cpu", "seed": 0, "seconds": 1.0, "environment": {}},
    "claims": [{"claim": "c", "paper": "p", "measured": "m", "holds": True}],
    "rows": [{"a": 1}],
}
BAD = {
    **{name: {name: value} for name, value in (("experiment", 3), ("preset", []), ("seed", True))},
    "seconds": {"seconds": "1"},
    "environment": {"environment": []},
    "no claims": {"claims": {"a": 1}},
    "a row": {"rows": [3]},
    "a claim": {"claims": [3]},
    "a claim's words": {"claims": [GOOD["claims"][0] | {"paper": 3}]},
    "a verdict": {"claims": [GOOD["claims"][0] | {"holds": "yes"}]},
    "more claims": {"claims": [GOOD["claims"][0] | {"more": 1}]},
    "long": {"rows": ["x" * 10**6]},
}


@pytest.mark.parametrize("name", BAD)
def test_hostile_results_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(GOOD))
    assert Report.read(path).claims[0].holds
    path.write_text(json.dumps(GOOD | BAD[name]))
    with pytest.raises(ValueError, match=r"result\.json") as error:
        Report.read(path)
    assert len(str(error.value)) < 1000


def test_results_that_are_no_files_or_no_json(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    for text in ("[" * 200_000, "", "[]", '{"a": NaN', "9" * 6000):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"result\.json"):
            Report.read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="no regular file"):
        Report.read(path)


def test_markup_in_a_result_is_text(tmp_path: Path, capsys) -> None:
    odd = GOOD | {"experiment": "best_of_n", "preset": "[/red]\x1b[2J[bold]"}
    (tmp_path / "result.json").write_text(json.dumps(odd))
    listing.main(["--out", str(tmp_path)])
    assert "\x1b[2J" not in capsys.readouterr().out


def test_unknown_tasks_are_refused_with_what_is_near() -> None:
    class Manager:
        all_tasks = ("gsm8k", "hellaswag")

        def match_tasks(self, names):
            return [name for name in self.all_tasks if name in names]

    check_tasks(["gsm8k"], Manager())
    with pytest.raises(ValueError, match="no 'gsm8'; did you mean gsm8k"):
        check_tasks(["gsm8k", "gsm8"], Manager())


def test_invalid_answers_are_told_and_the_exit_status_says_so(
    folders, tmp_path: Path, capsys
) -> None:
    """A model whose numbers are not finite, in a file, on the terminal, and when it is resumed."""
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folders["generator"], broken)
    reader = safetensors.Reader(broken / "model.safetensors")
    arrays = {name: np.array(reader.read(name)) for name in reader.entries}
    arrays["model.norm.weight"][:] = np.nan
    shapes = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    safetensors.write(broken / "model.safetensors", shapes, arrays.__getitem__)
    options = ["--model", str(broken), "--max-tokens", "8", "--batch", "2", "--prompts", "the cat"]
    output = ["--output", str(tmp_path / "a.jsonl")]
    for more in (output, output, []):
        with pytest.raises(SystemExit) as stop:
            generate.main([*options, *more])
        assert stop.value.code == INVALID
        assert "1 answers are INVALID (ids 0)" in capsys.readouterr().err
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 1
    assert visible("\x1b") == "\\x1b"


def test_an_answer_that_is_none_counts_as_invalid() -> None:
    """As a search has whose judge fails on every text."""
    rows = [("invalid", [3]), ("exhausted", []), ("exhausted", [3]), ("eos", []), ("length", [3])]
    records = [{"id": i, "status": s, "tokens": t} for i, (s, t) in enumerate(rows)]
    assert invalid(records) == [0, 1]


@pytest.mark.parametrize("output", ["/dev/full", "/dev/null", "."])
def test_odd_outputs_are_refused(folders, output: str) -> None:
    options = ["--model", str(folders["generator"]), "--max-tokens", "8", "--batch", "2"]
    with pytest.raises(SystemExit) as stop:
        generate.main([*options, "--prompts", "the cat", "--output", output])
    assert "is no regular file" in str(stop.value.code)
