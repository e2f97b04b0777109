"""Models by name: one of the zoo, or any published checkpoint, a folder or a GGUF file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import jax
from jax.sharding import Mesh

from experiments import zoo
from experiments.harness.files import whole_text
from experiments.inputs.prompts import Messages
from experiments.tasks.tokenizer import TaskTokenizer
from experiments.zoo import real
from jaxdecode.denoiser import Denoiser
from jaxdecode.scoring import RewardScorer, Scorer
from jaxdecode.sharding import named_shardings, shard
from jaxdecode.stop import Stop
from models import checkpoints, gguf
from models.denoisers import is_denoiser, load_denoiser
from models.form import Form, formed
from models.heads import files
from models.judging import function_judge, reward_judge
from models.stop_strings import StopStrings
from models.text import Tokenizer, check_same_tokenizer
from models.tokenizer_files import load_tokenizer
from models.transformer import Transformer, abstract

_FILLS = (
    "{} is a denoiser: it fills masks and continues no text; give --decoder fast-dllm, or another "
    "that fills a canvas"
)


@dataclass(frozen=True)
class Codec:
    """Text to tokens and back, as a model expects it.

    Attributes:
      text: the tokenizer of the model's folder.
      strict: that of a zoo model, which refuses what it cannot encode.
      chats: tokens of prompts that were put into the chat template, see `with_chats`.
    """

    text: Tokenizer
    strict: TaskTokenizer | None = None
    chats: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def prompt(
        self, prompt: str | Messages, split_special: bool = False, **variables: Any
    ) -> list[int]:
        """Tokens of a prompt, begin token and chat template included; what the assistant said last
        is gone on with.

        Args:
          split_special: names of special tokens in it are text.
          variables: of the chat template.
        """
        if self.chats and (key := _key(prompt)) in self.chats:
            return list(self.chats[key])
        if not isinstance(prompt, str):
            return self.text.encode_opened([prompt], split_special, **variables)[0]
        if variables:
            raise ValueError(f"{', '.join(variables)}: for chats; use messages, or --chat")
        if self.strict is not None:
            return [self.strict.bos_id, *self.strict.encode(prompt)]
        return self.text.encode_prompt(prompt, split_special)

    def with_chats(self, prompts: Sequence[str | Messages]) -> Codec:
        """One that knows these prompts as chats, plain ones as a user's words: the template, which
        runs behind walls, is asked for all of them at once."""
        asked = {_key(prompt): prompt for prompt in prompts}
        turns = [[{"role": "user", "content": p}] if isinstance(p, str) else p
                 for p in asked.values()]  # fmt: skip
        tokens = self.text.encode_opened(turns)
        return replace(self, chats=dict(zip(asked, tokens, strict=True)))

    def piece(self, text: str) -> list[int]:
        """Tokens of a text that goes on, or that writes its special tokens itself."""
        if self.strict is not None:
            return self.strict.encode(text)
        return self.text.encode(text, add_special=False)

    def decode(self, tokens: Sequence[int], after: Sequence[int] = ()) -> str:
        """Text of a response, without special tokens; `after` is the prompt that it follows."""
        return self.text.decode(tokens, after=after)

    def decode_pair(self, prompt: Sequence[int], response: Sequence[int]) -> tuple[str, str]:
        """A prompt, its special tokens shown, and what a response adds to it, without them."""
        return self.text.decode_pair(prompt, response)

    def stop(self, strings: Sequence[str] = ()) -> Stop:
        """Ends a response at the model's end tokens, and where one of `strings` is spelled."""
        if strings:  # the same interface, without being the same class
            return cast(Stop, StopStrings.of(self.text, strings))
        return Stop.of(self.text.eos)


def _key(prompt: str | Messages) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt)


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

    def within(self, most: int) -> Source:
        """For texts of at most so many tokens."""
        if isinstance(self.model, Denoiser):
            inner = cast(Transformer, self.model.model).within(most)
            return replace(self, model=replace(self.model, model=inner))
        return replace(self, model=self.model.within(most))


def open_model(name: str, form: Form = "scanned", mesh: Mesh | None = None) -> Source:
    """A generator by its zoo name, folder or .gguf file, in the form that it is to run in: "auto"
    for decoding, "scanned" where it is trained or compiled for a few tokens only. On a mesh, every
    device is given its own parts and no others.

    Raises:
      ValueError: if there is no such model, it is no generator, its files are damaged or its
        tokenizer is another model's.
    """
    if name in zoo.names():
        shipped = zoo.load(name)
        if shipped.card["kind"] == "denoiser":
            raise ValueError(_FILLS.format(name))
        if shipped.card["kind"] != "generator":
            raise ValueError(f"{name} is a {shipped.card['kind']} model; it cannot write")
        model = shipped.model if mesh is None else shard(shipped.model, mesh)
        codec = Codec(load_tokenizer(shipped.folder), shipped.tokenizer)
    else:
        path = folder_of(name)
        if is_denoiser(path):
            raise ValueError(_FILLS.format(name))
        config = checkpoints.Checkpoint(path).config
        codec = Codec(load_tokenizer(path).fitted(config.rows))
        where = None if mesh is None else named_shardings(abstract(config), mesh)
        known = codec.text.check_rows(config.rows)
        model = checkpoints.load(path, vocab_size=known, shardings=where)
    return Source(name, formed(model, form), codec, model.config.max_positions)


def bound(model: Any) -> Any:
    """The model bound to its devices, as a trained one is, so that both run by one program."""
    return jax.tree.map(lambda x: jax.device_put(x, x.sharding), model)


def open_denoiser(name: str, form: Form = "scanned", mesh: Mesh | None = None) -> Source:
    """A masked diffusion model by its zoo name or folder, as `open_model`.

    Raises:
      ValueError: if there is no such model, it reads from left to right, its files are damaged or
        its tokenizer is another model's.
    """
    path = folder_of(name)
    if not is_denoiser(path):
        raise ValueError(
            f"{name} writes from left to right and fills no masks; give --decoder sample, greedy "
            "or another for such models, or the folder of a denoiser"
        )
    if name in zoo.names():
        shipped = zoo.load(name)
        model = shipped.model if mesh is None else shard(shipped.model, mesh)
        codec = Codec(load_tokenizer(path), shipped.tokenizer)
    else:
        config = checkpoints.Checkpoint(path, denoiser=True).config
        codec = Codec(load_tokenizer(path).fitted(config.rows))
        where = None if mesh is None else named_shardings(abstract(config), mesh)
        known = codec.text.check_rows(config.rows)
        model = load_denoiser(path, vocab_size=known, shardings=where)
    inner = cast(Transformer, model.model)
    positions = model.max_positions or inner.config.max_positions
    return Source(name, replace(model, model=formed(inner, form)), codec, positions)


def folder_of(name: str) -> Path:
    """Where the files of a model are, by its zoo name, folder or .gguf file."""
    if name in real.REAL:
        return real.path(name)
    return zoo.WEIGHTS / name if name in zoo.names() else _path(name)


def open_beside(name: str, generator: Source) -> Any:
    """Another generator that is to write or draft the same tokens.

    Raises:
      ValueError: as `open_model`, and if the two mean different text by the same tokens.
    """
    source = open_model(name)
    check_same_tokenizer(generator.codec.text, source.codec.text)
    return source.model


def open_head(name: str, generator: Source) -> Any:
    """A head that was trained for `generator`, by its zoo name or folder.

    Raises:
      ValueError: it is no head, or another model's.
    """
    folder = zoo.WEIGHTS / name if name in zoo.names() else Path(name)
    return files.load(zoo.HEADS[files.kind(folder, zoo.HEADS)], folder, generator.model)


def open_corpus(path: Path, generator: Source) -> list[list[int]]:
    """Texts as tokens: a file, or the .txt files of a folder.

    Raises:
      ValueError: there is nothing to read.
    """
    texts = sorted(path.glob("*.txt")) if path.is_dir() else [path] if path.is_file() else []
    if not texts:
        raise ValueError(f"{path}: neither a file nor a folder with .txt files")
    return [generator.codec.piece(whole_text(text)) for text in texts]


def open_reward(name: str, generator: Source) -> RewardScorer:
    """A reward model by its zoo name or folder, for the texts of `generator`.

    Raises:
      ValueError: as `open_model`, and if the two mean different text by the same tokens.
    """
    if name not in zoo.names():
        return reward_judge(_path(name), generator.codec.text)
    shipped = zoo.load(name)
    if shipped.card["kind"] != "reward":
        raise ValueError(f"{name} is a {shipped.card['kind']}; a reward model was expected")
    check_same_tokenizer(generator.codec.text, load_tokenizer(shipped.folder))
    return RewardScorer(shipped.model)


def open_judge(name: str, generator: Source) -> Scorer:
    """What judges the texts of `generator`: a reward model as by `open_reward`, or a function of
    prompt and response as FILE.py:FUNCTION, which runs with all your rights.

    Raises:
      ValueError: as `open_reward`, or if there is no such function.
    """
    file, colon, function = name.rpartition(":")
    if colon and file.endswith(".py"):
        return function_judge(_function(Path(file), function), generator.codec.text)
    return open_reward(name, generator)


def _function(file: Path, name: str) -> Any:
    if not file.is_file():
        raise ValueError(f"{file} is no file; give FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{file} fails when it is loaded: {error!r}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"{file} defines no function {name!r}")
    return found


def _path(name: str) -> Path:
    if not Path(name).is_dir() and not gguf.is_file(name):
        known = ", ".join([*zoo.names(), *real.REAL])
        raise ValueError(
            f"{name!r} is neither a folder, nor a .gguf file, nor in the zoo, which has {known}"
        )
    return Path(name)
