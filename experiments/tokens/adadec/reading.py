"""Reading right solutions with a model, for the threshold that is learned from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from algorithms.tokens import threshold
from experiments.inputs.sources import Source
from jaxdecode.prompt import bucket

READ = 64  # texts read at once


def read(
    source: Source, pairs: Sequence[tuple[str, str]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Entropy before every token of the solutions, in nats, and its rank, 1 the first choice.

    Args:
      pairs: prompts and their solutions, the end of a text included in what is read.
    """
    entropy, rank, _ = read_by_text(source, pairs)
    return entropy, rank


def read_by_text(
    source: Source, pairs: Sequence[tuple[str, str]]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The same, and of every token the number of the pair that it is of."""
    codec, texts = source.codec, []
    for prompt, solution in pairs:
        start = codec.prompt(prompt)
        # Read together, so that a tokenizer may merge where prompt and solution meet.
        whole = None if codec.strict is not None else codec.prompt(prompt + solution)
        whole = whole or [*start, *codec.piece(solution)]
        texts.append(([*whole, codec.text.eos[0]], len(start)))
    width = bucket(max(len(tokens) for tokens, _ in texts))
    entropies, ranks, owners = [], [], []
    for first in range(0, len(texts), READ):
        tokens, said = np.zeros((READ, width), np.int32), np.zeros((READ, width), bool)
        length = np.ones(READ, np.int32)
        for row, (text, start) in enumerate(texts[first : first + READ]):
            tokens[row, : len(text)], length[row] = text, len(text)
            said[row, start : len(text)] = True
        h, rank = (np.asarray(x) for x in threshold.read(source.model, tokens, said, length))
        entropies.append(h[said[:, 1:]])
        ranks.append(rank[said[:, 1:]])
        owners.append(first + np.nonzero(said[:, 1:])[0])
    return (
        np.concatenate(entropies).astype(np.float64),
        np.concatenate(ranks).astype(np.int64),
        np.concatenate(owners).astype(np.int64),
    )


def weights_of(folder: Path) -> str:
    """The fingerprint of the weights in a folder, or of a .gguf file: sha256 over its files, in
    order of name."""
    digest = hashlib.sha256()
    files = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()
