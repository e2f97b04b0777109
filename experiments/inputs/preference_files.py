"""Preferences as JSON lines, the format of Anthropic's HH-RLHF (Bai et al. 2022, arXiv 2204.05862).

    {"chosen": "\\n\\nHuman: hi\\n\\nAssistant: hello",
     "rejected": "\\n\\nHuman: hi\\n\\nAssistant: no"}

Both texts repeat the dialogue, and differ in what the assistant says last; everything up to there
is the prompt. A field "prompt" beside them, where there is one, says it instead, and the two are
then replies only. No line is skipped in silence: what cannot be used is an error with its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.files import parse as read_value
from experiments.inputs.sources import Codec
from experiments.tasks.dialog import Preference

TURN = "\n\nAssistant:"
EXPECTED = 'expected an object with text under "chosen" and "rejected"'


def read(path: Path) -> list[Preference]:
    """Every pair of the file.

    Raises:
      ValueError: with file, line and what was expected.
    """
    found = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                found.append(parse(line))
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from error
    if not found:
        raise ValueError(f"{path} is empty: {EXPECTED} on every line")
    return found


def parse(line: str) -> Preference:
    """One line."""
    try:
        record = read_value(line.rstrip("\n"))
    except ValueError as error:
        raise ValueError(f"no JSON ({error}); {EXPECTED}") from error
    if not isinstance(record, dict):
        raise ValueError(f"found a {type(record).__name__}; {EXPECTED}")
    texts = []
    for name in ("chosen", "rejected"):
        text = record.get(name)
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f'"{name}" is {text!r}; {EXPECTED}')
        texts.append(text)
    prompt = record.get("prompt")
    if prompt is None:
        prompt, texts = _split(*texts)
    elif not isinstance(prompt, str) or not prompt:
        raise ValueError(f'"prompt" is {prompt!r}; expected text, or no such field')
    if texts[0] == texts[1]:
        raise ValueError('"chosen" and "rejected" are equal; a preference takes two replies')
    return Preference(prompt, *texts)


def _split(chosen: str, rejected: str) -> tuple[str, list[str]]:
    """The dialogue up to the assistant's last turn, which both share, and the two replies."""
    heads = []
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        head, turn, _ = text.rpartition(TURN)
        if not turn:
            raise ValueError(f'"{name}" has no turn {TURN!r}, and there is no "prompt"')
        heads.append(head + turn)
    if heads[0] != heads[1]:
        raise ValueError(
            '"chosen" and "rejected" answer different dialogues; expected the same text up to the '
            "assistant's last turn"
        )
    return heads[0], [text[len(heads[0]) :] for text in (chosen, rejected)]


@dataclass(frozen=True)
class PairBatches:
    """Batches for `jaxdecode.train.losses.bradley_terry`: a pure function of the step.

    Attributes:
      pairs: the preferences.
      codec: of the model to be trained.
      rows: pairs a batch.
      width: tokens that a prompt, a reply and an end token may fill.
    """

    pairs: Sequence[Preference]
    codec: Codec
    rows: int
    width: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what does not fit, before any step.

        Raises:
          ValueError: naming the pair.
        """
        for number, pair in enumerate(self.pairs):
            longest = max(len(row) for row in self.tokens(pair))
            if longest > self.width:
                raise ValueError(
                    f"pairs[{number}] takes {longest} tokens, width={self.width}; raise the width "
                    "or leave the pair out"
                )

    def tokens(self, pair: Preference) -> tuple[list[int], list[int]]:
        """Prompt, reply and end token, of the chosen and of the rejected."""
        prompt, ends = self.codec.prompt(pair.prompt), list(self.codec.text.eos)[:1]
        chosen, rejected = (
            [*prompt, *self.codec.piece(reply), *ends] for reply in (pair.chosen, pair.rejected)
        )
        return chosen, rejected

    def __call__(self, step: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, step))
        return self.of([self.pairs[i] for i in rng.integers(len(self.pairs), size=self.rows)])

    def of(self, pairs: Sequence[Preference]) -> dict[str, Any]:
        """These pairs, as a batch."""
        drawn, batch = [self.tokens(pair) for pair in pairs], {}
        for name, rows in zip(("chosen", "rejected"), zip(*drawn, strict=True), strict=True):
            tokens = np.zeros((len(pairs), self.width), np.int32)
            for target, row in zip(tokens, rows, strict=True):
                target[: len(row)] = row
            batch[name] = tokens
            batch[f"{name}_length"] = np.array([len(row) for row in rows], np.int32)
        return batch
