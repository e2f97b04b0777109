"""What a run is made of, kept beside its checkpoints so that no other run goes on from them.

    loss, rollout, optimizer   their code, closures and numbers
    weights                    the model that training begins with, frozen parts included
    data[i]: NAME              the first batches; with them whatever a step is given: a reward, a
                               base policy, coefficients, keys and so seeds
    updates, accumulate, compute
    code: NAME                 versions of Python and of the libraries

Steps, reports and saves are no part of it: a run may be made longer. Of a stream, which can be
read once, the data are not looked at.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxdecode.distributed import from_primary, primary
from jaxdecode.fingerprint import fingerprint
from jaxdecode.train.data import Positioned

IDENTITY = "identity.json"
LIBRARIES = ("jaxdecode", "jax", "jaxlib", "flax", "optax", "numpy")
BATCHES = 4  # read to know the data by
SHOWN = 6  # differing parts named in a message


def identity(
    parts: Mapping[str, Any], batches: Callable[[int], Mapping[str, Any]], steps: int
) -> dict[str, str]:
    """Name -> fingerprint of everything that makes a run of at least `steps` steps what it is.

    Args:
      parts: name -> value, whatever it is; see `jaxdecode.fingerprint`.
      batches: those of `fit`.
    """
    found = {name: fingerprint(value) for name, value in parts.items()}
    if not isinstance(batches, Positioned):
        for step in range(min(BATCHES, steps)):
            for name, value in dict(batches(step)).items():
                found |= _split(f"data[{step}]: {name}", value)
    return found | _code()


def _split(name: str, value: Any) -> dict[str, str]:
    """A value's fields on their own, so that a message can name the one that differs."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        return {f"{name}.{f}": fingerprint(getattr(value, f)) for f in fields}
    return {name: fingerprint(value)}


@cache
def _code() -> dict[str, str]:
    found = {"code: python": ".".join(map(str, sys.version_info[:2]))}
    for library in LIBRARIES:
        try:
            found[f"code: {library}"] = metadata.version(library)
        except metadata.PackageNotFoundError:  # a checkout without installation
            found[f"code: {library}"] = "unknown"
    return found


def claim(folder: Path, own: Mapping[str, str], begun: bool, accept: tuple[str, ...] = ()) -> None:
    """Take a folder for the run `own`, or refuse it as another's.

    Args:
      begun: there is a checkpoint in it.
      accept: beginnings of the names of parts that may differ.
    Raises:
      ValueError: naming what differs and what to do.
    """
    path, own = folder / IDENTITY, from_primary(dict(own))
    text = path.read_text() if begun and primary() and path.is_file() else None
    kept = from_primary(None if text is None else _read(text, path))
    if begun and kept is None:
        if "identity" not in accept:
            raise ValueError(
                f"checkpoints.folder={folder} holds a run but no {IDENTITY}, so that it cannot be "
                "told from another one; name another folder, or, if you know it to be this very "
                'run, pass Checkpoints(folder, accept=("identity",))'
            )
        kept = own
    if begun:
        _compare(folder, kept, own, accept)
    if primary() and (kept != own or not begun):
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{IDENTITY}.tmp")
        draft.write_text(json.dumps({**(kept or {}), **own}, indent=1) + "\n")
        os.replace(draft, path)


def _read(text: str, path: Path) -> dict[str, str]:
    try:
        kept = json.loads(text)
    except ValueError:
        kept = None
    if not isinstance(kept, dict):
        raise ValueError(f"{path} is damaged; name another folder, or delete this one")
    return kept


def _compare(
    folder: Path, kept: Mapping[str, str], own: Mapping[str, str], accept: tuple[str, ...]
) -> None:
    def differs(name: str) -> bool:
        if name.startswith(accept):
            return False
        # A longer run has looked at further batches than a shorter one.
        step = name.partition(":")[0]
        alike = not step.startswith("data[") or all(
            any(other.startswith(step) for other in side) for side in (kept, own)
        )
        return alike and kept.get(name) != own.get(name)

    odd = [name for name in sorted(kept.keys() | own.keys()) if differs(name)]
    if not odd:
        return
    shown = ", ".join(
        f"{name} ({kept.get(name, 'absent')} there, {own.get(name, 'absent')} here)"
        if name.startswith("code")
        else name
        for name in odd[:SHOWN]
    )
    more = f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
    first = odd[0].split(":")[0]
    raise ValueError(
        f"checkpoints.folder={folder} holds another run: it differs in {shown}{more}; name another "
        "folder, delete this one, or, to go on all the same, pass "
        f'Checkpoints(folder, accept=("{first}",))'
    )
