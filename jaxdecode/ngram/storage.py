"""Tables in files that hold numbers and nothing that could run.

A file is an npz archive without pickles, with one more entry, a header in JSON: what the file
is, which tokenizer its tokens are from, and a digest of every array. A file cut short, damaged,
of another kind or of another tokenizer is refused.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

HEADER, FORMAT, VERSION = "header", "jaxdecode.ngram", 1


def fingerprint(pieces: Iterable[str | bytes]) -> str:
    """The identity of a vocabulary: a digest of its pieces in the order of their ids."""
    digest = hashlib.sha256()
    for piece in pieces:
        data = piece.encode("utf-8", "surrogatepass") if isinstance(piece, str) else piece
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def save(path: Path | str, kind: str, tokenizer: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to `path`, replacing the file only when all is written.

    Args:
      kind: what the arrays are, to be asked for again by `load`.
      tokenizer: see `fingerprint`.
    """
    path = Path(path)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "tokenizer": tokenizer,
        "arrays": {name: _digest(array) for name, array in arrays.items()},
    }
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{HEADER: text}, **arrays)
    part.replace(path)


def load(path: Path | str, kind: str, tokenizer: str) -> dict[str, np.ndarray]:
    """The arrays of a file that `save` wrote.

    Raises:
      ValueError: if the file cannot be read, is of another kind, version or tokenizer, or if
        an array is not the one that was written.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        header = json.loads(found.pop(HEADER).tobytes())
        digests = dict(header["arrays"])
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file; build the table and save it") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise ValueError(_unreadable(path, error)) from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError(_unreadable(path, error)) from None
    for name, wanted in (("format", FORMAT), ("version", VERSION), ("kind", kind)):
        if header.get(name) != wanted:
            raise ValueError(f"{path}: its {name} is {header.get(name)!r}, wanted is {wanted!r}")
    if header.get("tokenizer") != tokenizer:
        raise ValueError(
            f"{path}: its tokens are of another tokenizer ({str(header.get('tokenizer'))[:12]}..., "
            f"not {tokenizer[:12]}...); build the table anew with this one"
        )
    if digests != {name: _digest(array) for name, array in found.items()}:
        raise ValueError(f"{path}: its arrays are not those that were written; build it anew")
    return found


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path}: not a whole table file ({type(error).__name__}: {error}); build it anew"


def _digest(array: np.ndarray) -> str:
    start = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(start + np.ascontiguousarray(array).tobytes()).hexdigest()
