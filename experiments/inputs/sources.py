"""Models by name: one of the zoo, or the folder of any published checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp

from experiments import zoo
from experiments.inputs.prompts import Messages
from experiments.tasks.tokenizer import TaskTokenizer
from jaxdecode.scoring import RewardScorer
from jaxdecode.stop import Stop
from models import checkpoints
from models.form import Form, formed
from models.reward_checkpoints import load_reward
from models.stop_strings import StopStrings
from models.text import Tokenizer, check_same_tokenizer
from models.tokenizer_files import load_tokenizer


@dataclass(frozen=True)
class Codec:
    """Text to tokens and back, as a model expects it.

    Attributes:
      text: the tokenizer of the model's folder.
      strict: that of a zoo model, which refuses what it cannot encode.
    """

    text: Tokenizer
    strict: TaskTokenizer | None = None

    def prompt(self, prompt: str | Messages) -> list[int]:
        """Tokens of a prompt, begin token and chat template included."""
        if not isinstance(prompt, str):
            return self.text.encode_chat(prompt, add_generation_prompt=True)
        if self.strict is not None:
            return [self.strict.bos_id, *self.strict.encode(prompt)]
        return self.text.encode_prompt(prompt)

    def piece(self, text: str) -> list[int]:
        """Tokens of a text that goes on, or that writes its special tokens itself."""
        if self.strict is not None:
            return self.strict.encode(text)
        return self.text.encode(text, add_special=False)

    def decode(self, tokens: Sequence[int], after: Sequence[int] = ()) -> str:
        """Text of a response, without special tokens; `after` is the prompt that it follows."""
        return self.text.decode(tokens, after=after)

    def stop(self, strings: Sequence[str] = ()) -> Stop:
        """Ends a response at the model's end tokens, and where one of `strings` is spelled."""
        if strings:  # the same interface, without being the same class
            return cast(Stop, StopStrings.of(self.text, strings))
        return Stop.of(self.text.eos)


@dataclass(frozen=True)
class Source:
    """A model that can be prompted, or asked for rewards.

    Attributes:
      name: as the user gave it.
      positions: the longest text it can read, in tokens.
    """

    name: str
    model: Any
    codec: Codec
    positions: int


def open_model(name: str, form: Form = "scanned") -> Source:
    """A generator by its zoo name or folder, in the form that it is to run in: "auto" for
    decoding, "scanned" where it is trained or compiled for a few tokens only.

    Raises:
      ValueError: if there is no such model, it is no generator, its files are damaged or its
        tokenizer is another model's.
    """
    if name in zoo.names():
        shipped = zoo.load(name)
        if shipped.card["kind"] != "generator":
            raise ValueError(f"{name} is a {shipped.card['kind']} model; it cannot write")
        model, codec = shipped.model, Codec(load_tokenizer(shipped.folder), shipped.tokenizer)
    else:
        rows = checkpoints.Checkpoint(_folder(name)).config.rows
        codec = Codec(load_tokenizer(name).fitted(rows))
        model = checkpoints.load(name, vocab_size=codec.text.check_rows(rows))
    return Source(name, formed(model, form), codec, model.config.max_positions)


def folder_of(name: str) -> Path:
    """Where the files of a model are, by its zoo name or folder."""
    return zoo.WEIGHTS / name if name in zoo.names() else Path(_folder(name))


DRAFTS = ("prompt-lookup", "token-recycling")  # without a model


def open_draft(name: str | None, generator: Source) -> Any:
    """The model that drafts for `generator`; None where no model does.

    Raises:
      ValueError: as `open_model`, and if the two mean different text by the same tokens.
    """
    if name is None or name in DRAFTS:
        return None
    source = open_model(name)
    check_same_tokenizer(generator.codec.text, source.codec.text)
    return source.model


def open_reward(name: str, generator: Source) -> RewardScorer:
    """A reward model by its zoo name or folder, for the texts of `generator`.

    Raises:
      ValueError: as `open_model`, and if the two mean different text by the same tokens.
    """
    if name in zoo.names():
        shipped = zoo.load(name)
        if shipped.card["kind"] != "reward":
            raise ValueError(f"{name} is a {shipped.card['kind']}; a reward model was expected")
        model, pad, tokenizer = shipped.model, None, load_tokenizer(shipped.folder)
    else:
        published, tokenizer = load_reward(_folder(name)), load_tokenizer(name)
        model, pad = published.model, published.pad
    check_same_tokenizer(generator.codec.text, tokenizer)
    # Where padding and end are one token, the model was trained to be read before it.
    unread = [pad] if pad in tokenizer.eos else []
    return RewardScorer(model, unread=jnp.asarray(unread, jnp.int32))


def _folder(name: str) -> str:
    if not Path(name).is_dir():
        known = ", ".join(zoo.names()) or "no models"
        raise ValueError(f"{name!r} is neither a folder nor in the zoo, which has {known}")
    return name
