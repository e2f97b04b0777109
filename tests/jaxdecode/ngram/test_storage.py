"""Table files: what was written comes back, and nothing else is taken for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxdecode.ngram import storage
from jaxdecode.ngram.corpus import Corpus

OWN = storage.fingerprint(["a", "b"])


class Bomb:
    """Unpickling it would raise."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle ran')",))


def save_raw(path: Path, **arrays: Any) -> None:
    np.savez(path, allow_pickle=True, **arrays)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "table.npz"
    storage.save(path, "corpus", OWN, {"x": np.arange(500), "y": np.ones((2, 3), np.float32)})
    return path


def test_what_was_written_comes_back(path: Path) -> None:
    found = storage.load(path, "corpus", OWN)
    np.testing.assert_array_equal(found["x"], np.arange(500))
    assert found["y"].dtype == np.float32 and found["y"].shape == (2, 3)
    assert [p.name for p in path.parent.iterdir()] == ["table.npz"]


def test_a_corpus_comes_back(tmp_path: Path) -> None:
    corpus = Corpus.of([[1, 2, 1], [2, 2]], 3)
    corpus.save(tmp_path / "c.npz", OWN)
    again = Corpus.load(tmp_path / "c.npz", OWN)
    np.testing.assert_array_equal(again.tokens, corpus.tokens)
    np.testing.assert_array_equal(again.suffixes, corpus.suffixes)
    assert again.vocab == 3


def test_vocabularies_have_fingerprints() -> None:
    prints = [storage.fingerprint(p) for p in (["ab", "c"], ["a", "bc"], ["c", "ab"], [b"ab", "c"])]
    assert len(set(prints)) == 3 and prints[0] == prints[3]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_file_cut_short_is_refused(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="not a whole table file"):
        storage.load(path, "corpus", OWN)


def test_a_damaged_file_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for place in range(40, len(data), len(data) // 12):
        path.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        try:
            found = storage.load(path, "corpus", OWN)
        except ValueError:
            continue
        np.testing.assert_array_equal(found["x"], np.arange(500))  # a byte that says nothing


def test_other_arrays_under_an_old_header_are_refused(path: Path) -> None:
    with np.load(path) as archive:
        held = dict(archive)
    save_raw(path, **(held | {"x": np.arange(500) + 1}))
    with pytest.raises(ValueError, match="not those that were written"):
        storage.load(path, "corpus", OWN)
    header = json.loads(held["header"].tobytes()) | {"version": 99}
    save_raw(path, **(held | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}))
    with pytest.raises(ValueError, match="its version is 99"):
        storage.load(path, "corpus", OWN)


def test_files_of_others_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its kind is 'corpus', wanted is 'counts'"):
        storage.load(path, "counts", OWN)
    with pytest.raises(ValueError, match="another tokenizer"):
        storage.load(path, "corpus", storage.fingerprint(["a", "c"]))
    with pytest.raises(ValueError, match="no such file"):
        storage.load(tmp_path / "missing.npz", "corpus", OWN)
    np.savez(path, a=np.arange(3))
    with pytest.raises(ValueError, match="not a whole table file"):
        storage.load(path, "corpus", OWN)


def test_a_pickle_is_refused_and_not_run(path: Path) -> None:
    with np.load(path) as archive:
        held = dict(archive)
    bomb = np.empty(1, object)
    bomb[0] = Bomb()
    save_raw(path, **(held | {"x": bomb}))
    with pytest.raises(ValueError, match="not a whole table file"):
        storage.load(path, "corpus", OWN)
