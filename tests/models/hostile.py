"""A collection of folders that no one should be harmed by opening, each with what it must say.

`CHECKPOINTS` names changes to a sound fixture; run as a program it opens them all, one after the
other, in a process that may take a gigabyte more than it starts with, and prints what came of each.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent / "fixtures"
SECONDS, BYTES, LONGEST = 5, 2**30, 2000

SIZES = {
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3"),
        (
            *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
            *("num_attention_heads", "num_key_value_heads", "max_position_embeddings"),
        ),
    ),
    "opt": ("hidden_size", "ffn_dim", "num_hidden_layers", "num_attention_heads", "vocab_size"),
    "gpt2": ("n_embd", "n_layer", "n_head", "n_positions", "vocab_size"),
}
ABSURD = ["0", "-1", "3000000000", "1" + "0" * 400, "1" + "0" * 9000, "true", "1.5", '"8"', "[]"]
ROTARY = [
    ("llama_llama3", "factor", ["0", "-1", "1e999", "0.5", "1e300"]),
    ("llama_llama3", "low_freq_factor", ["0", "9.0", "-1"]),
    ("llama_llama3", "original_max_position_embeddings", ["0", "-5", "4000000000"]),
    ("llama_linear", "factor", ["0", "-2", "1e999", '"2"']),
    ("llama_dynamic", "factor", ["0", "-2", "1e999"]),
    ("llama_yarn", "factor", ["0", "-2", "1e999", "0.1"]),
    ("llama_yarn", "beta_slow", ["0", "-1", "64"]),
    ("llama_yarn", "beta_fast", ["0", "0.5", "-1"]),
    ("llama_yarn", "attention_factor", ["0", "-1", "1e999"]),
    ("llama_yarn", "rope_theta", ["0", "-1", "1", "1e999", "1" + "0" * 400]),
    ("phi3_longrope", "short_factor", ["[0, 1, 1, 1]", "[1]", "[1, 1, 1, 1" + "0" * 400 + "]"]),
    ("phi3_longrope", "attention_factor", ["0", "-1"]),
]


def edited(text: str, field: str, value: str) -> str:
    """The config with a value in every place of a field, as JSON or as no JSON at all."""

    def change(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: "@@" if k == field else change(v) for k, v in node.items()}
        return node

    config = change(json.loads(text))
    if '"@@"' not in json.dumps(config):
        places = [v for k, v in config.items() if k.startswith("rope_") and isinstance(v, dict)]
        for place in places or [config]:
            place[field] = "@@"
    return json.dumps(config).replace('"@@"', value)


def config(field: str, value: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(edited(path.read_text(), field, value))

    return change


def header(make: Callable[[], bytes], data: int = 0) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = make()
        path = folder / "model.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))

    return change


def text(name: str, make: Callable[[], str]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(make())

    return change


def checkpoints() -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    """Name, fixture and change of every case."""
    for fixture, fields in SIZES.items():
        for field in fields:
            for value in ABSURD:
                yield f"{fixture} {field}={value[:12]}", fixture, config(field, value)
    for fixture, field, values in ROTARY:
        for value in values:
            yield f"{fixture} {field}={value[:12]}", fixture, config(field, value)
    long = "x" * 40_000_000
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    for name, make in {
        "empty lists": lambda: b'{"a":[' + b"[]," * 32_000_000 + b"[]]}",
        "repeated names": lambda: (
            "{" + ",".join(f'"{i}":1' for i in range(300_000)) + ',"299999":2}'
        ).encode(),
        "a long type": lambda: (
            f'{{"a":{{"dtype":"{long}","shape":[],"data_offsets":[]}}}}'.encode()
        ),
        "a long shape": lambda: (
            '{"a":{"dtype":"F32","shape":[' + "1," * 900_000 + '1],"data_offsets":[0,4]}}'
        ).encode(),
        "a long name": lambda: f'{{"{long}":{entry}}}'.encode(),
        "a long number": lambda: b'{"a":' + b"9" * 1_000_000 + b"}",
        "deep lists": lambda: b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        "no text": lambda: b'{"\xff\xfe":1}',
        "infinite": lambda: b'{"a":1e999}',
    }.items():
        yield f"header: {name}", "llama", header(make)
    for name in ("config.json", "model.safetensors.index.json"):
        yield f"{name}: deep", "llama", text(name, lambda: '{"a":' + "[" * 500_000 + "}")
        yield f"{name}: wide", "llama", text(name, lambda: '{"a":[' + "[]," * 20_000_000 + "[]]}")
        yield f"{name}: no object", "llama", text(name, lambda: "[1]")
    yield "a long model type", "llama", config("model_type", f'"{long}"')
    yield "a long activation", "llama", config("hidden_act", f'"{long}"')
    yield "a list for a model type", "llama", config("model_type", "[[]]")


def report(folder: Path) -> None:
    """Open every case; a line of JSON each: name, what was raised and its text, seconds."""
    import resource

    from models.checkpoints import Checkpoint

    Checkpoint(FIXTURES / "llama")  # whatever is imported on first use
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + BYTES, held + BYTES))
    for name, fixture, change in checkpoints():
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(FIXTURES / fixture, place)
        change(place)
        signal.alarm(60)
        start = time.process_time()
        try:
            Checkpoint(place)
            said = ["opened", ""]
        except Exception as error:
            said = [type(error).__name__, str(error)]
        seconds = time.process_time() - start
        print(json.dumps([name, *said, seconds, str(place) in said[1]]), flush=True)


if __name__ == "__main__":
    report(Path(sys.argv[1]))
