"""Opening published encoder-decoders of the T5 family: config.json and safetensors.

Nothing in a folder is trusted, as in `models.checkpoints`: names, shapes and sizes are checked
before anything is allocated, and what is in no T5 is refused.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from models.checkpoint_files import CONFIG, check_tensor, open_tensors, read_json
from models.encoder_decoder.config import EncoderDecoderConfig, read, table
from models.encoder_decoder.model import EncoderDecoder
from models.families.family import Source
from models.families.fields import Fields
from models.families.foreign import refuse_foreign
from models.tying import other_head, same_values

TABLE, HEAD = "shared.weight", "lm_head.weight"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# A table that the first release's files have, and no layer reads.
UNREAD = r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$"


def names(config: EncoderDecoderConfig) -> dict[str, Source]:
    """Our path -> where it is stored."""
    found = {"embedding": Source(TABLE), "head": Source(HEAD, transpose=True)}
    for stack, last in (("encoder", 1), ("decoder", 2)):
        block = f"{stack}.block.{{i}}.layer"
        parts = {"SelfAttention": (0, "attention_norm", "")}
        if stack == "decoder":
            parts["EncDecAttention"] = (1, "cross_norm", "cross_")
        for kind, (place, norm, lead) in parts.items():
            for name in "qkvo":
                path = f"{stack}/{lead}{name}"
                found[path] = Source(f"{block}.{place}.{kind}.{name}.weight", transpose=True)
            found[f"{stack}/{norm}"] = Source(f"{block}.{place}.layer_norm.weight")
        gated = getattr(config, stack).gated
        dense = {"gate": "wi_0", "up": "wi_1"} if gated else {"up": "wi"}
        for ours, theirs in (dense | {"down": "wo"}).items():
            name = f"{block}.{last}.DenseReluDense.{theirs}.weight"
            found[f"{stack}/{ours}"] = Source(name, transpose=True)
        found[f"{stack}/mlp_norm"] = Source(f"{block}.{last}.layer_norm.weight")
        found[f"{stack}/norm"] = Source(f"{stack}.final_layer_norm.weight")
        first = f"{stack}.block.0.layer.0.SelfAttention"
        found[f"{stack}/bias"] = Source(f"{first}.relative_attention_bias.weight")
    return found


def load_encoder_decoder(
    folder: str | os.PathLike, *, dtype: str | None = None, vocab_size: int | None = None
) -> EncoderDecoder:
    """Open a published T5.

    Args:
      dtype: of the parameters in memory; by default the stored embedding table's.
      vocab_size: tokens the tokenizer knows, where the table has padded rows beyond.
    Raises:
      ValueError: for anything that is missing, unknown, misshapen, damaged or unsupported, naming
        it.
    """
    folder = Path(folder)
    path = folder / CONFIG
    data = read_json(path)
    config = read(Fields(data, str(path)))
    refuse_foreign(data, str(path), reads=("is_encoder_decoder",))
    readers = open_tensors(folder)
    # A head that is no copy of the table is used, as published, whatever the config says.
    tied = not other_head(readers, TABLE, [HEAD])
    config = _with(config, tied, vocab_size, path)
    sources, used, arrays = names(config), set(), {}
    for path, want in table(config).items():
        source = sources[path]
        for _, name in source.named(want.shape):
            shape = source.shape(want.shape)
            check_tensor(readers, name, shape, f"{path} of a t5", folder, CONFIG)
            used.add(name)
    for name in sorted(readers.keys() - used):
        copied = name in COPIES or (tied and name == HEAD)
        if copied and same_values(readers[name].read(name), readers[TABLE].read(TABLE)):
            continue
        if not re.search(UNREAD, name):
            told = "is another table than shared.weight" if copied else "is in no t5"
            raise ValueError(f"{folder}: tensor {name!r} {told}; the model cannot be opened")
    target = jnp.dtype(readers[TABLE].entries[TABLE].dtype if dtype is None else dtype)
    for path, want in table(config).items():
        out = np.empty(want.shape, target)
        for place, name in sources[path].named(want.shape):
            tensor = readers[name].read(name)
            out[place][...] = tensor.T if sources[path].transpose else tensor
        arrays[path] = jnp.asarray(out)
    return EncoderDecoder(config, arrays)


def _with(
    config: EncoderDecoderConfig, tied: bool, vocab_size: int | None, path: Path
) -> EncoderDecoderConfig:
    """The config of what is stored."""
    size = config.decoder.vocab_size if vocab_size is None else vocab_size
    try:
        stacks = {n: replace(getattr(config, n), rows=config.decoder.rows, vocab_size=size)
                  for n in ("encoder", "decoder")}  # fmt: skip
        return replace(config, tied=tied, **stacks)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
