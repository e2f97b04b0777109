"""llama.cpp's samplers on given logits, through the library of an installed Python package.

Needs `xllamacpp`, whose wheel carries the library; no model is loaded. The results are
stored beside the tests, so that they need neither: `python -m tests.references.llama_cpp` writes
them anew.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STORED = Path(__file__).with_suffix(".json")
VOCAB = 40
TEXT = [3, 4, 5, 6, 9, 3, 4, 5, 7, 8, 3, 4, 5]
# Name, constructor, its arguments; the keyword arguments are those of this project.
SETTINGS: list[tuple[str, str, tuple, dict[str, Any]]] = [
    ("TopNSigma", "top_n_sigma", (1.0,), {"n": 1.0}),
    ("TopNSigma", "top_n_sigma", (2.2,), {"n": 2.2}),
    ("ExcludeTop", "xtc", (1.0, 0.1), {"probability": 1.0, "threshold": 0.1}),
    ("ExcludeTop", "xtc", (1.0, 0.02), {"probability": 1.0, "threshold": 0.02}),
    ("DynamicTemperature", "temp_ext", (0.9, 0.5, 1.0), {"low": 0.4, "high": 1.4}),
    (
        "DynamicTemperature",
        "temp_ext",
        (1.2, 0.8, 2.0),
        {"low": 0.4, "high": 2.0, "exponent": 2.0},
    ),
    ("Dry", "dry", (0.8, 1.75, 2, 64), {"multiplier": 0.8, "max_tokens": 1}),
    (
        "Dry",
        "dry",
        (1.5, 1.2, 1, 64),
        {"multiplier": 1.5, "base": 1.2, "allowed": 1, "max_tokens": 1},
    ),
    ("Typical", "typical", (0.7,), {"mass": 0.7}),
    ("MinP", "min_p", (0.05,), {"p": 0.05}),
    ("TopP", "top_p", (0.8,), {"p": 0.8}),
    ("TopK", "top_k", (7,), {"k": 7}),
]
MIROSTATS: list[tuple[str, str, float, float]] = [
    ("Mirostat", "mirostat_v2", 3.0, 0.3),
    ("Mirostat", "mirostat_v2", 1.5, 1.0),
    ("MirostatTopK", "mirostat", 3.0, 0.3),
    ("MirostatTopK", "mirostat", 1.5, 1.0),
]


class _Token(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float)]


class _Tokens(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.POINTER(_Token)),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    ]


def available() -> bool:
    return importlib.util.find_spec("xllamacpp") is not None


class Library:
    """The samplers of the installed library."""

    def __init__(self):
        spec = importlib.util.find_spec("xllamacpp")
        if spec is None or spec.origin is None:
            raise ValueError("llama.cpp: install xllamacpp to compare with it")
        (path,) = Path(spec.origin).parent.glob("xllamacpp*.so")
        self.lib = ctypes.CDLL(str(path))

    def make(self, kind: str, *values: float) -> Any:
        """A sampler by the name of its constructor."""
        f, i, z = ctypes.c_float, ctypes.c_int32, ctypes.c_size_t
        u, p = ctypes.c_uint32, ctypes.c_void_p
        kinds: dict[str, tuple[list, tuple]] = {
            "top_n_sigma": ([f], values),
            "xtc": ([f, f, z, u], (*values, 1, 7)),
            "temp_ext": ([f, f, f], values),
            "dry": ([p, f, f, i, i, p, z], (None, *values, None, 0)),
            "typical": ([f, z], (*values, 1)),
            "min_p": ([f, z], (*values, 1)),
            "top_p": ([f, z], (*values, 1)),
            "top_k": ([i], values),
            "mirostat": ([i, u, f, f, i], (VOCAB, 7, *values, 100)),
            "mirostat_v2": ([u, f, f], (7, *values)),
        }
        types, arguments = kinds[kind]
        init = getattr(self.lib, f"llama_sampler_init_{kind}")
        init.argtypes, init.restype = types, p
        return init(*arguments)

    def accept(self, sampler: Any, token: int) -> None:
        self.lib.llama_sampler_accept(ctypes.c_void_p(sampler), ctypes.c_int32(token))

    def apply(self, sampler: Any, logits: NDArray) -> tuple[dict[int, float], int]:
        """Logits of the tokens left, and which token was selected, -1 for none."""
        data = (_Token * len(logits))(*((i, float(x), 0.0) for i, x in enumerate(logits)))
        array = _Tokens(data, len(logits), -1, False)
        self.lib.llama_sampler_apply(ctypes.c_void_p(sampler), ctypes.byref(array))
        left = {array.data[i].id: array.data[i].logit for i in range(array.size)}
        chosen = array.data[array.selected].id if array.selected >= 0 else -1
        return {token: x for token, x in left.items() if np.isfinite(x)}, chosen


def inputs() -> NDArray[np.float32]:
    """Logits f32[4, V]: spread, flat, peaked, and a Zipf law, no two of a row alike."""
    rng = np.random.default_rng(11)
    spread, flat, peaked = (scale * rng.normal(size=VOCAB) for scale in (2.0, 0.5, 5.0))
    zipf = -1.2 * np.log(1 + rng.permutation(VOCAB))
    return np.stack([spread, flat, peaked, zipf]).astype(np.float32)


def measure(library: Library) -> dict[str, Any]:
    """All that is stored."""
    logits, filters, controls = inputs(), [], []
    for _, kind, values, _ in SETTINGS:
        rows = []
        for row in logits:
            sampler = library.make(kind, *values)
            for token in TEXT:
                library.accept(sampler, token)
            rows.append({str(k): round(v, 6) for k, v in library.apply(sampler, row)[0].items()})
        filters.append(rows)
    for _, kind, target, rate in MIROSTATS:
        sampler, steps = library.make(kind, target, rate), []
        for step in range(60):
            left, chosen = library.apply(sampler, logits[step % len(logits)])
            steps.append({"kept": sorted(left), "chosen": chosen})
        controls.append(steps)
    return {"filters": filters, "mirostat": controls}


if __name__ == "__main__":
    STORED.write_text(json.dumps(measure(Library()), separators=(",", ":")) + "\n")
    print(f"{STORED.stat().st_size} bytes")
