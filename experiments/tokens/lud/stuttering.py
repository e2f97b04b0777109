"""What repeats what, by the texts of a model's tokens."""

from __future__ import annotations

from typing import Any

from algorithms.tokens.rules.stutter import Extends
from experiments.inputs.sources import Codec


def stuttering(codec: Codec, model: Any) -> Extends:
    """The whole rule: a token that is the one before, or whose text begins with that one's. A token
    whose text stands for nothing alone, such as a special one, begins nothing."""
    return Extends.of([codec.text.decode([token]).encode() for token in range(model.vocab_size)])
