"""llama.cpp as a peer: its server within this process, by the `xllamacpp` package."""

from __future__ import annotations

import importlib
import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Server:
    """One file, served to this process alone; everything is computed in float32.

    Its matrices are multiplied in the blocks they are stored in, which rounds activations: for
    a file of float32 there is no such rounding.
    """

    def __init__(self, path: Path, context: int = 64, threads: int = 1):
        peer: Any = importlib.import_module("xllamacpp")
        parameters = peer.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = context
        parameters.n_parallel = 1
        parameters.warmup = False
        parameters.verbosity = 0
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
        parameters.cache_type_k = peer.ggml_type.GGML_TYPE_F32
        parameters.cache_type_v = peer.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = peer.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._server = peer.Server(parameters)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        del self._server

    def greedy(self, prompt: Sequence[int], new: int) -> list[int]:
        """Up to `new` tokens after a prompt, fewer where an end token comes, which is left out."""
        body = {"prompt": list(prompt), "n_predict": new, "temperature": 0.0}
        body |= {"return_tokens": True, "cache_prompt": False}
        return self._post("/completion", body)["tokens"]

    def tokenize(self, text: str) -> list[int]:
        body = {"content": text, "add_special": True, "parse_special": True}
        return self._post("/tokenize", body)["tokens"]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self._server.listening_address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as reply:
            return json.load(reply)
