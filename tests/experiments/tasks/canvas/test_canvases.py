"""Canvases for a denoiser, the mixture of tasks, and the published files of the benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.tasks.canvas.canvases import EXACT, Canvases
from experiments.tasks.canvas.mixture import MASK, SMALL, Mixture, Spaced, joined, spaced
from experiments.tasks.canvas.parallel_bench import ParallelBench, parse_list, square_right

TASK = Mixture()
CODEC = TASK.tokenizer()


def test_a_canvas_is_filled_to_its_end() -> None:
    stream = Canvases(TASK, CODEC, 16, (24, 48, 96), 5, pool=2)
    sizes = set()
    for step in range(6):
        batch = stream(step)
        again = Canvases(TASK, CODEC, 16, (24, 48, 96), 5, pool=2)(step)
        assert all((batch[name] == again[name]).all() for name in batch)
        for tokens, answer, length in zip(
            batch["tokens"], batch["answer"], batch["length"], strict=True
        ):
            first = int(np.argmax(answer))
            assert answer[first:length].all() and answer.sum() == length - first
            prompt, said = CODEC.decode(tokens[:first]), tokens[first:length].tolist()
            assert tokens[0] == CODEC.bos_id and (tokens[length:] == CODEC.pad_id).all()
            assert TASK.verify(prompt, CODEC.decode(said)) == 1
            ends = said.count(CODEC.eos_id)
            assert set(said[len(said) - ends :]) <= {CODEC.eos_id}
            sizes.add(len(said) if ends else EXACT)
        assert len(np.unique(batch["level"])) == 16
    assert sizes >= {EXACT, 16, 32}
    with pytest.raises(ValueError, match="widths"):
        Canvases(TASK, CODEC, 16, (8,), 5)(0)
    with pytest.raises(ValueError, match="an answer needs more"):
        Canvases(TASK, CODEC, 64, (96,), 5, sizes=((4, 1.0),))(0)


def test_the_mixture_asks_whom_it_may_concern() -> None:
    assert CODEC.encode(MASK) == [3]
    examples = TASK.sample(np.random.default_rng(0), 300, "train")
    assert {example.meta["task"] for example in examples} == {"lists", "lookup", "arithmetic"}
    for example in examples:
        assert TASK.task_of(example.prompt).name == example.meta["task"]
        assert TASK.verify(example.prompt, example.target) == 1
    text = "3+4=7\n7*2=14\n#14"
    assert joined(spaced(text)) == text
    assert Spaced().verify("( 3 + 4 ) * 2 =", spaced(text)) == 1
    assert Spaced().extract(spaced(text)) == SMALL.extract(text) == "14"


NAMES = ["Ann Bell", "Carl Dean", "Eve Fox"]


def written(folder: Path, group: str, stem: str, record: dict, prompt: str) -> Path:
    """A file of one record in the published format, beside its config."""
    (folder / group).mkdir(exist_ok=True)
    path = folder / group / f"{stem}.jsonl"
    path.write_text(json.dumps(record) + "\n")
    wording = prompt.replace("\n", "\\n")
    (folder / group / "task_config.yaml").write_text(f'{group}/{stem}:\n  prompt: "{wording}"\n')
    return path


def test_published_lists(tmp_path: Path) -> None:
    shown = json.dumps(NAMES)
    example = {"input": {"context": shown}, "answer": {"example": json.dumps(NAMES[::-1])}}
    record = {
        "input": {"context": shown, "icl_examples": [example]},
        "answer": {"input": NAMES, "example": json.dumps(NAMES[1:] + NAMES[:1])},
        "metadata": {"length": 3},
    }
    path = written(tmp_path, "waiting_line", "shuffle", record, "Shuffle:\n{context}\n")
    task = ParallelBench(path)
    (question,) = task.sample(np.random.default_rng(0), 1, "test")
    assert [role for role, _ in question.meta["messages"]] == ["user", "assistant", "user"]
    assert question.prompt.count(shown) == 2 and question.meta["length"] == 3
    judged = {
        question.target: 1,
        shown: 0,
        f"Sure: {json.dumps(NAMES[::-1])} as asked": 1,
        "[Carl Dean, Ann Bell, Eve Fox]": 1,
        json.dumps([NAMES[0], *NAMES[:2]]): 0,
        json.dumps(NAMES[:2]): 0,
        "": 0,
    }
    for text, score in judged.items():
        assert task.verify(question.prompt, text) == score, text
    strict = ParallelBench(path, strict=True)
    assert strict.verify(question.prompt, question.target) == 1
    assert strict.verify(question.prompt, "[Carl Dean, Ann Bell, Eve Fox]") == 0
    with pytest.raises(ValueError, match="is not a question"):
        task.verify("?", shown)
    with pytest.raises(ValueError, match="test questions"):
        task.sample(np.random.default_rng(0), 1, "train")


def test_published_puzzles_and_sentences(tmp_path: Path) -> None:
    record = {
        "input": {"size": 4, "symbols": "[A, B, 1, 2]"},
        "answer": {"symbols": list("AB12"), "example": "A,B,1,2\nB,A,2,1\n1,2,A,B\n2,1,B,A"},
    }
    path = written(tmp_path, "puzzle", "latin_square_n4", record, "Square of {symbols}.")
    task = ParallelBench(path)
    (question,) = task.examples()
    assert task.verify(question.prompt, "Here:\n" + question.target.replace(",", ", ")) == 1
    assert task.verify(question.prompt, question.target.replace("1,2,A,B", "1,2,B,A")) == 0
    assert not square_right("A,B,1,2,2\n" * 4, list("AB12"))
    record = {"input": {"words": "dog and moon"}, "answer": {"words": ["dog", "moon"]}}
    path = written(tmp_path, "words_to_sentence", "easy_n2", record, "Use {words}.")
    (question,) = ParallelBench(path).examples()
    with pytest.raises(ValueError, match="grammar"):
        ParallelBench(path).verify(question.prompt, "The dog sees the moon.")
    sound = ParallelBench(path, grammar=lambda text: text.endswith("."))
    assert sound.verify(question.prompt, "The dog sees the moon.") == 1
    assert sound.verify(question.prompt, "The dog sees the moon") == 0
    assert sound.verify(question.prompt, "The dog sleeps.") == 0


def test_files_that_are_not_the_benchmarks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no file"):
        ParallelBench(tmp_path / "copy.jsonl")
    (tmp_path / "copy.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="task_config"):
        ParallelBench(tmp_path / "copy.jsonl")
    path = written(tmp_path, "waiting_line", "copy", {"input": {}}, "Copy {context}")
    with pytest.raises(ValueError, match=r"line 1: no ParallelBench record"):
        ParallelBench(path).examples()
    (tmp_path / "waiting_line" / "stir.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="'stir' is none of"):
        ParallelBench(tmp_path / "waiting_line" / "stir.jsonl")
    assert parse_list("no list") == ["no list"] and parse_list("no list", strict=True) is None
    assert parse_list('["A B", "C"]', strict=True) == ["A B", "C"]
    assert parse_list("['A']", strict=True) is None
