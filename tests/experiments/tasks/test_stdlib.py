"""The corpus: caps, splits, chunks and ids, on a small made-up tree and on the real library."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.tasks.stdlib import StandardLibrary
from experiments.tasks.task import SPLITS


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for index in range(60):
        folder = tmp_path / f"package{index % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"module{index}.py").write_text(f"x = {index}\n" * 10)
    for left_out in ("test", "site-packages"):
        (tmp_path / left_out).mkdir()
        (tmp_path / left_out / "skipped.py").write_text("skipped = 1\n")
    (tmp_path / "empty.py").touch()
    (tmp_path / "huge.py").write_text("y = 1\n" * 1000)
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nz = 'é'\n".encode("latin-1"))
    return tmp_path


def test_files_split_whole_and_in_a_fixed_order(tree):
    corpus = StandardLibrary(tree, largest_file=2000)
    groups = {split: corpus.files(split) for split in SPLITS}
    files = [path for group in groups.values() for path in group]
    assert len(files) == len(set(files)) == 61
    assert len(groups["train"]) > 45
    assert groups["train"] == corpus.files("train") != sorted(groups["train"])
    assert not {"skipped.py", "empty.py", "huge.py"} & {path.name for path in files}
    assert any("é" in text for split in SPLITS for text in corpus.texts(split))


def test_the_cap_bounds_the_whole_and_keeps_membership(tree):
    whole, capped = StandardLibrary(tree, largest_file=2000), StandardLibrary(tree, 1500, 2000)
    kept = [path for split in SPLITS for path in capped.files(split)]
    assert 1300 < sum(path.stat().st_size for path in kept) <= 1500
    assert set(capped.files("train")) <= set(whole.files("train"))


def test_chunks_join_to_the_text_and_end_at_lines(tree):
    corpus = StandardLibrary(tree, largest_file=2000)
    chunks = list(corpus.chunks("train", 30))
    assert "".join(chunks) == "".join(corpus.texts("train"))
    assert max(map(len, chunks)) <= 30 and all(chunk.endswith("\n") for chunk in chunks)
    assert "".join(corpus.chunks("train", 2)) == "".join(corpus.texts("train"))  # lines are longer
    with pytest.raises(ValueError, match="size"):
        next(corpus.chunks("train", 0))


def test_ids_decode_to_the_files(tree):
    corpus = StandardLibrary(tree, largest_file=2000)
    codec = corpus.tokenizer(270)
    assert codec.fingerprint() == corpus.tokenizer(270).fingerprint()
    ids = corpus.tokens(codec, "train")
    assert ids.dtype == np.int32
    ends = np.flatnonzero(ids == codec.eos_id)
    pieces = np.split(ids, ends + 1)[:-1]
    assert [codec.decode(piece) for piece in pieces] == list(corpus.texts("train"))


def test_the_running_library_is_found():
    corpus = StandardLibrary(cap=1_000_000)
    files = [path for split in SPLITS for path in corpus.files(split)]
    assert len(files) > 20 and 500_000 < sum(path.stat().st_size for path in files) <= 1_000_000
    assert Path(json.__file__).is_relative_to(corpus.root)


def test_a_folder_without_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no Python files"):
        StandardLibrary(tmp_path).files("train")
