"""`transformers.generate` on the weights of one of our models: the peer that is raced.

Nothing of it is imported until it is asked for; the `parity` extra installs it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from models import export
from models.transformer import Transformer

NEEDS = ("torch", "transformers")


def missing() -> str | None:
    """What keeps the peer from running, or None."""
    absent = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed; pip install '.[parity]' brings the peer"
    return None


class Peer:
    """The published implementation, in the dtype and on the device of the model it copies."""

    def __init__(self, folder: str, threads: int) -> None:
        """Open the checkpoint in `folder`, to be run by `threads` threads."""
        self._torch = importlib.import_module("torch")
        transformers = importlib.import_module("transformers")
        self._torch.set_num_threads(threads)
        transformers.utils.logging.set_verbosity_error()
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        self._model = model.to(self._device).eval()
        self._model.generation_config.eos_token_id = None  # every row runs to the end

    def greedy(
        self,
        tokens: np.ndarray,
        new: int,
        cache: str = "dynamic",
        assistant: Peer | None = None,
        lookup: int | None = None,
        beams: int = 1,
    ) -> np.ndarray:
        """`new` tokens after each row of tokens [B, P], as i32[B, new].

        Args:
          cache: "dynamic" or "static".
          assistant: a smaller model that drafts; one row only.
          lookup: draft that many tokens from an n-gram of the text; one row only.
          beams: of beam search, which is greedy search with one.
        """
        torch = self._torch
        prompt = torch.as_tensor(tokens, dtype=torch.long, device=self._device)
        options: dict[str, Any] = {} if cache == "dynamic" else {"cache_implementation": cache}
        if assistant is not None:
            options["assistant_model"] = assistant._model
        if lookup is not None:
            options["prompt_lookup_num_tokens"] = lookup
        with torch.inference_mode():
            text = self._model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=False,
                num_beams=beams,
                pad_token_id=0,
                **options,
            )
        return text[:, tokens.shape[1] :].cpu().numpy().astype(np.int32)


@contextlib.contextmanager
def peer_of(model: Transformer, threads: int) -> Iterator[Peer]:
    """A peer with the weights of `model`, by way of an exported checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        export.save(model, f"{folder}/model", family="llama")
        yield Peer(f"{folder}/model", threads)
