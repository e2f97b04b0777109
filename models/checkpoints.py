"""Opening published checkpoints.

A checkpoint is a folder with config.json and safetensors (`models.checkpoint_files`), or one GGUF
file (`models.gguf`). Weights are read tensor by tensor from memory-mapped files into the stacked
arrays of `Transformer`, or straight into the shards of a mesh, so that no second copy of the
model is ever held. Every name, shape and size is checked against the config before anything is
allocated.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models import gguf
from models.advice import advice
from models.checkpoint_files import CONFIG, INDEX, WEIGHTS, check_tensor, open_tensors, read_json
from models.config import TransformerConfig
from models.families import Family, Source, architecture_of, family_of
from models.families.fields import Fields
from models.parameters import parameters
from models.safetensors import Tensors
from models.transformer import Transformer
from models.tying import other_head

__all__ = ["CONFIG", "INDEX", "WEIGHTS", "Backbone", "Checkpoint", "load", "load_backbone"]

# Ends of the names of published classes whose head gives something else than words.
OTHER_HEADS = r"For\w*(Classification|Answering|Choice|RewardModel|PrmModel)$"


class Checkpoint:
    """A folder or GGUF file, opened and checked: its config, and its tensors by name.

    A GGUF file is seen as the folder that it was made of: `json` is the config.json of its
    metadata, and tensors have their published names.
    """

    def __init__(
        self, folder: str | os.PathLike, headless: bool = False, denoiser: bool = False
    ) -> None:
        self.folder = Path(folder)
        single = gguf.Opened(self.folder) if gguf.is_file(self.folder) else None
        if single is None and not self.folder.is_dir():
            known = self.folder.exists() and advice(self.folder)
            known = known or f"give one with {CONFIG} and weights, or a .gguf file"
            raise ValueError(f"{self.folder} is no folder; {known}")
        self.where = where = self.folder / CONFIG if single is None else self.folder
        self.json = read_json(where) if single is None else single.config
        self.family: Family = family_of(self.json, str(where))
        self.config = self.family.read(Fields(self.json, str(where)))
        if denoiser != (self.family.canvas is not None):
            raise ValueError(
                f"{self.folder}: {self.family.model_type} is {'no' if denoiser else 'a'} denoiser; "
                "models.denoisers opens those, models.checkpoints causal models"
            )
        named = architecture_of(self.json)
        if not headless and re.search(OTHER_HEADS, named):
            raise ValueError(
                f"{where} names {named}, which is no language model; reward models "
                "are opened by models.reward_checkpoints.load_reward, others by load_backbone for "
                "their hidden states"
            )
        if headless:  # a tied model has no head of its own
            self.config = dataclasses.replace(self.config, tied=True)
        self.readers: Mapping[str, Tensors] = (
            open_tensors(self.folder) if single is None else dict.fromkeys(single.entries, single)
        )
        self.sources, heads = _resolve(self.family, self.config, set(self.readers))
        table = self.sources["embedding"].name  # a head that is no copy is used, as published
        if self.config.tied and not headless and other_head(self.readers, table, heads):
            self.config = dataclasses.replace(self.config, tied=False)
            self.sources, heads = _resolve(self.family, self.config, set(self.readers))
        self._check_shapes()
        used = {name for path in self.sources for name in self._names(path)}
        ignored = re.compile("|".join(self.family.ignored))
        self.extra = [
            name
            for name in self.readers
            if name not in used and name not in heads and not ignored.search(name)
        ]

    def _names(self, path: str) -> Iterator[str]:
        shape = parameters(self.config)[path].shape
        return (name for _, name in self.sources[path].named(shape))

    def _check_shapes(self) -> None:
        table = parameters(self.config)
        for path, source in self.sources.items():
            want = source.shape(table[path].shape)
            for name in self._names(path):
                holds = f"{path} of a {self.family.model_type} model"
                check_tensor(self.readers, name, want, holds, self.folder, self.where.name)

    def tensor(self, name: str) -> np.ndarray:
        """A read-only view of a stored tensor."""
        return self.readers[name].read(name)

    def read(self, path: str, index: tuple[slice, ...] | None, dtype: np.dtype) -> np.ndarray:
        """The part `index` of our weight `path`, copied once, straight from the files."""
        source, full = self.sources[path], parameters(self.config)[path].shape
        index = (slice(None),) * len(full) if index is None else index
        ranges = [range(*part.indices(size)) for part, size in zip(index, full, strict=True)]
        out = np.empty([len(r) for r in ranges], dtype)
        if source.total:  # our columns within the fused tensor
            columns = ranges[-1]
            ranges[-1] = range(columns.start + source.offset, columns.stop + source.offset)
        lead, rest = ranges[: source.stacked], ranges[source.stacked :]
        window = tuple(slice(r.start, r.stop) for r in rest)
        for place in np.ndindex(*map(len, lead)):
            tensor = self.tensor(source.at(tuple(r[at] for r, at in zip(lead, place, strict=True))))
            tensor = tensor.T if source.transpose else tensor
            out[place][...] = tensor[window]
        return out


def load(
    folder: str | os.PathLike,
    *,
    dtype: str | None = None,
    vocab_size: int | None = None,
    shardings: Mapping[str, jax.sharding.Sharding] | None = None,
    check_finite: bool = False,
    longest: int = 0,
    denoiser: bool = False,
) -> Transformer:
    """Open a published causal language model: a folder, or a .gguf file.

    Args:
      dtype: of the parameters in memory; by default the stored embedding table's, and float32
        where that is quantised.
      vocab_size: tokens the tokenizer knows, where the table has padded rows beyond.
      shardings: path of a parameter -> where its shards go; a process reads only its own.
      check_finite: refuse weights that are not finite.
      longest: see `TransformerConfig`.
      denoiser: open the model of a denoiser instead; `models.denoisers` knows the rest of it.
    Raises:
      ValueError: for anything that is missing, unknown, misshapen, damaged or unsupported.
    """
    checkpoint = Checkpoint(folder, denoiser=denoiser)
    if checkpoint.extra:
        raise ValueError(
            f"{checkpoint.folder}: unknown tensors {', '.join(sorted(checkpoint.extra)[:4])}"
            f"{' and more' if len(checkpoint.extra) > 4 else ''}; if they are a reward or value "
            "head, use load_backbone"
        )
    return _build(checkpoint, dtype, vocab_size, shardings, check_finite, longest)


@dataclass(frozen=True)
class Backbone:
    """A transformer without its head, and what else its checkpoint holds.

    Attributes:
      model: without a head's weights: its config is a tied model's, whose logits mean nothing.
      extra: tensors that are not the backbone's, in their stored dtype.
      config: the contents of config.json.
    """

    model: Transformer
    extra: dict[str, np.ndarray]
    config: dict[str, Any]


def load_backbone(
    folder: str | os.PathLike,
    *,
    dtype: str | None = None,
    vocab_size: int | None = None,
    shardings: Mapping[str, jax.sharding.Sharding] | None = None,
    check_finite: bool = False,
) -> Backbone:
    """Open a model for its hidden states, handing out the tensors of whatever head it has.

    The arguments are those of `load`. A language-model head is left out.
    """
    checkpoint = Checkpoint(folder, headless=True)
    model = _build(checkpoint, dtype, vocab_size, shardings, check_finite)
    extra = {name: np.array(checkpoint.tensor(name)) for name in checkpoint.extra}
    return Backbone(model, extra, checkpoint.json)


def _build(
    checkpoint: Checkpoint,
    dtype: str | None,
    vocab_size: int | None,
    shardings: Mapping[str, jax.sharding.Sharding] | None,
    check_finite: bool,
    longest: int = 0,
) -> Transformer:
    embedded = checkpoint.sources["embedding"].name
    stored = checkpoint.readers[embedded].entries[embedded].dtype
    target = jnp.dtype(stored if dtype is None else dtype)
    target = jnp.dtype("float32") if target == np.float64 else target
    changes: dict[str, Any] = {"dtype": target.name, "longest": longest}
    if vocab_size is None:
        vocab_size = Fields(checkpoint.json, str(checkpoint.where)).integer(
            "valid_vocab_size", checkpoint.config.rows
        )
    config = dataclasses.replace(checkpoint.config, vocab_size=vocab_size, **changes)
    arrays: dict[str, jax.Array] = {}
    for path, want in parameters(config).items():
        blocks: dict[str, np.ndarray] = {}

        def part(
            index: tuple[slice, ...] | None, path: str = path, blocks: dict[str, Any] = blocks
        ) -> np.ndarray:
            if str(index) not in blocks:  # devices that hold the same part share one reading
                block = checkpoint.read(path, index, target)
                if check_finite and not np.isfinite(block.astype(np.float32)).all():
                    raise ValueError(f"{checkpoint.folder}: the weights of {path} are not finite")
                blocks[str(index)] = block
            return blocks[str(index)]

        if shardings is None:
            arrays[path] = jnp.asarray(part(None))
        else:
            array = jax.make_array_from_callback(want.shape, shardings[path], part)
            # Devices copy at their own pace: no weight is read before the last one is there.
            arrays[path] = jax.block_until_ready(array)
    return Transformer(config, arrays=arrays)


def _resolve(
    family: Family, config: TransformerConfig, names: set[str]
) -> tuple[dict[str, Source], set[str]]:
    """Our path -> Source under the prefix in use, and the names a head may go by."""
    canonical = dict(family.names(config))
    embedding = canonical["embedding"].name
    prefix = family.prefix
    for candidate in (family.prefix, *family.aliases):
        if candidate + embedding.removeprefix(family.prefix) in names:
            prefix = candidate
            break
    head = canonical["head"].name
    heads = {head, "language_model." + head}
    sources = {}
    for path in parameters(config):
        source = canonical[path]
        if path == "head":
            name = head if head in names else "language_model." + head
            name = name if name in names else head
        else:
            name = prefix + source.name.removeprefix(family.prefix)
        sources[path] = dataclasses.replace(source, name=name)
    return sources, heads
