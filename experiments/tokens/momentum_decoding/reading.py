"""How coherent texts are to another model, which shares the writer's tokens or reads the text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.harness.likelihood import continuations
from experiments.inputs.sources import Source
from experiments.tokens.open_texts import Floats, OpenTexts, Tokens
from jaxdecode.prompt import Prompt, bucket

ROWS = 16  # texts that are read at a time


@dataclass(frozen=True)
class Reader:
    """A model that did not write.

    Attributes:
      tokens: whether its tokens are the writer's; else it reads decoded text in its own.
    """

    source: Source
    tokens: bool

    def coherence(self, texts: OpenTexts, written: Tokens) -> Floats:
        """Mean log p of each continuation, in nats, f64[count]: a token, or a character."""
        if self.tokens:
            return texts.coherence(self.source.model, written)
        context = texts.windows[:, : texts.context].tolist()
        pairs = [self._read(texts, *pair) for pair in zip(context, written.tolist(), strict=True)]
        return np.concatenate(
            [self._judged(pairs[at : at + ROWS]) for at in range(0, len(pairs), ROWS)]
        )

    def _read(
        self, texts: OpenTexts, context: list[int], written: list[int]
    ) -> tuple[list[int], list[int], int]:
        """Its own tokens of a context and of what was written after it, and the characters of
        that. It begins as it always does; marks between documents are text; what is longer than
        it can read is cut."""
        writer, codec = texts.codec.text, self.source.codec
        begin = len(texts.codec.prompt("")[:1])
        after = writer.decode(written, skip_special=False, after=context)
        before = codec.prompt(writer.decode(context[begin:], skip_special=False))
        tokens = codec.piece(after)
        room = self.source.positions - len(before)
        if len(tokens) > room:
            tokens = tokens[:room]
            after = codec.text.decode(tokens, after=before)
        return before, tokens, len(after)

    def _judged(self, pairs: list[tuple[list[int], list[int], int]]) -> Floats:
        whole = [[*before, *after] for before, after, _ in pairs]
        width = min(bucket(max(map(len, whole))), self.source.positions)
        first = np.array([len(before) for before, *_ in pairs], np.int32)
        prompt = Prompt.of(whole, width=width)
        total = np.asarray(continuations(self.source.model, prompt, first)[0], np.float64)
        return total / np.maximum([count for *_, count in pairs], 1)
