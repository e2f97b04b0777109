"""The tokenizer that a GGUF file's metadata describe: byte-level BPE, or SentencePiece's BPE.

tokenizer.ggml.model is "gpt2" or "llama". Tokens are listed by id with a type each: normal,
unknown, control, user-defined, unused, byte. Control tokens are special (their names in a text
become them, and they are left out of decoded text), user-defined ones are taken whole and shown.

Byte-level vocabularies come with merges and the name of a rule by which a text is cut first
(`models.gguf.splits`). SentencePiece's come with a score for each token: of all pairs side by
side the one that makes the token of the highest score is merged first.

A response ends at the end tokens that the metadata name, and at the control tokens by whose names
published chat models end their turns, since many files name one of several.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.chat import ChatTemplate
from models.families.fields import Fields
from models.gguf.container import Container
from models.gguf.splits import SPLITS
from models.text import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how SentencePiece writes a space
VOCABULARY = 2**21
# End tokens that a file may name, and control tokens that end a turn by their names.
ENDS = ("eos", "eot", "eom")
TURN_ENDS = {
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
    "<|end_of_text|>", "<EOT>", "</s>", "<eos>",
}  # fmt: skip


def load(path: Path) -> Tokenizer:
    """The tokenizer of a file.

    Raises:
      ValueError: there is none, it is of another kind, or its parts do not fit together.
    """
    return read(Fields(Container(path).metadata, str(path)))


def read(fields: Fields) -> Tokenizer:
    """The tokenizer of a file's metadata."""
    tokens, types = _tokens(fields), _types(fields)
    kind = fields.text("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise ValueError(
            f"{fields.where}: tokenizer.ggml.model={kind!r} is not supported; known are 'gpt2' "
            "(byte-level BPE) and 'llama' (SentencePiece)"
        )
    pieces = kind == "llama"
    defaults = {"bos": 1, "eos": 2, "unknown": 0} if pieces else {}
    ids = {
        name: _id(fields, name, len(tokens), defaults.get(name))
        for name in ("bos", "padding", "unknown", *ENDS)
    }
    inner = _pieces(fields, tokens, types, ids["unknown"]) if pieces else _bytes(fields, tokens)
    _add(fields, inner, tokens, types)
    split = SPLITS.get(fields.text("tokenizer.ggml.pre", "default"))
    begin = fields.flag("tokenizer.ggml.add_bos_token", pieces or bool(split and split.bos))
    end = fields.flag("tokenizer.ggml.add_eos_token", False)
    _surround(inner, tokens, ids["bos"] if begin else None, ids["eos"] if end else None)
    ends = {token for name in ENDS if (token := ids[name]) is not None}
    ends |= {i for i, text in enumerate(tokens) if types[i] == CONTROL and text in TURN_ENDS}
    source = fields.data.get("tokenizer.chat_template")
    named = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    return Tokenizer(
        inner,
        bos=ids["bos"],
        eos=tuple(sorted(ends)),
        pad=ids["padding"],
        named_eos=ids["eos"],
        template=None
        if source is None
        else ChatTemplate(
            fields.text("tokenizer.chat_template"),
            {ours: tokens[i] for ours, name in named.items() if (i := ids[name]) is not None},
        ),
    )


def _tokens(fields: Fields) -> list[str]:
    """The vocabulary, by id. An empty token stands for nothing, and gets a name no text has."""
    tokens = _listed(fields, "tokens", str)
    if not 0 < len(tokens) <= VOCABULARY:
        raise ValueError(f"{fields.where}: tokenizer.ggml.tokens lists {len(tokens)} tokens")
    tokens = [token or f"[EMPTY_{index}]" for index, token in enumerate(tokens)]
    if len(set(tokens)) < len(tokens):
        twice = next(token for token in tokens if tokens.count(token) > 1)
        raise ValueError(f"{fields.where}: tokenizer.ggml.tokens lists {twice!r} twice")
    return tokens


def _types(fields: Fields) -> list[int]:
    types = _listed(fields, "token_type", int, optional=True)
    count = len(fields.data["tokenizer.ggml.tokens"])
    if types and len(types) != count:
        raise ValueError(
            f"{fields.where}: tokenizer.ggml.token_type has {len(types)} entries for {count} tokens"
        )
    return types or [NORMAL] * count


def _listed(fields: Fields, name: str, kind: type, optional: bool = False) -> list[Any]:
    value = fields.data.get(f"tokenizer.ggml.{name}")
    if value is None and optional:
        return []
    if not isinstance(value, list) or any(type(item) is not kind for item in value):
        raise ValueError(f"{fields.where}: tokenizer.ggml.{name} must be a list of {kind.__name__}")
    return value


def _id(fields: Fields, name: str, count: int, default: int | None) -> int | None:
    """A token by its role; a default that the vocabulary is too small for is none."""
    key = f"tokenizer.ggml.{name}_token_id"
    if not fields.has(key):
        return default if default is not None and default < count else None
    value = fields.integer(key)
    if not 0 <= value < count:
        raise ValueError(f"{fields.where}: {key}={value} is none of the {count} tokens")
    return value


def _bytes(fields: Fields, tokens: Sequence[str]) -> Any:
    """Byte-level BPE."""
    from tokenizers import Regex, decoders, pre_tokenizers

    name = fields.text("tokenizer.ggml.pre", "default")
    if name not in SPLITS:
        raise ValueError(
            f"{fields.where}: tokenizer.ggml.pre={name!r} is not supported; known are "
            f"{', '.join(SPLITS)}"
        )
    merges = []
    for merge in _listed(fields, "merges", str):
        cut = merge.find(" ", 1)  # a token may begin with a space
        if cut < 0:
            raise ValueError(
                f"{fields.where}: tokenizer.ggml.merges has {merge!r}, which is no pair"
            )
        merges.append((merge[:cut], merge[cut + 1 :]))
    split = SPLITS[name]
    inner = _model(fields, tokens, merges, ignore_merges=split.whole)
    parts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in split.patterns]
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([*parts, level])
    inner.decoder = decoders.ByteLevel()
    return inner


def _pieces(
    fields: Fields, tokens: Sequence[str], types: Sequence[int], unknown: int | None
) -> Any:
    """SentencePiece's BPE, unknown characters spelled as bytes where the vocabulary has them."""
    from tokenizers import decoders, normalizers

    scores = _listed(fields, "scores", float)
    if len(scores) != len(tokens):
        raise ValueError(
            f"{fields.where}: tokenizer.ggml.scores has {len(scores)} entries for "
            f"{len(tokens)} tokens"
        )
    made = {t: i for i, t in enumerate(tokens) if types[i] in (NORMAL, UNUSED)}
    ranked: list[tuple[float, int, int]] = []
    for token, index in made.items():
        for cut in range(1, len(token)):
            left, right = made.get(token[:cut]), made.get(token[cut:])
            if left is not None and right is not None:
                ranked.append((-scores[index], left, right))
    merges = [(tokens[left], tokens[right]) for _, left, right in sorted(ranked)]
    inner = _model(
        fields,
        tokens,
        merges,
        unk_token=None if unknown is None else tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
    )
    replace = normalizers.Replace(" ", SPACE)
    prefixed = fields.flag("tokenizer.ggml.add_space_prefix", True)
    inner.normalizer = (
        normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if prefixed else replace
    )
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    inner.decoder = decoders.Sequence([*parts, *([decoders.Strip(" ", 1, 0)] if prefixed else [])])
    return inner


def _model(
    fields: Fields, tokens: Sequence[str], merges: Sequence[tuple[str, str]], **options: Any
) -> Any:
    import tokenizers
    from tokenizers import models

    vocabulary = {token: index for index, token in enumerate(tokens)}
    for left, right in merges:
        if not {left, right, left + right} <= vocabulary.keys():
            raise ValueError(
                f"{fields.where}: tokenizer.ggml.merges joins {left!r} and {right!r}, which are "
                "not tokens or make none"
            )
    return tokenizers.Tokenizer(models.BPE(vocabulary, list(merges), **options))


def _add(fields: Fields, inner: Any, tokens: Sequence[str], types: Sequence[int]) -> None:
    """Tokens that are taken whole before anything is cut."""
    from tokenizers import AddedToken

    # Phi-3's chat markers swallow the spaces and line ends behind them.
    strips = fields.data.get("general.architecture") == "phi3"
    for index, kind in enumerate(types):
        if kind not in (UNKNOWN, CONTROL, USER):
            continue
        text, special = tokens[index], kind != USER
        swallows = strips and special and text not in ("<s>", "<unk>", "<|endoftext|>")
        token = AddedToken(text, special=special, normalized=False, rstrip=swallows)
        (inner.add_special_tokens if special else inner.add_tokens)([token])


def _surround(inner: Any, tokens: Sequence[str], begin: int | None, end: int | None) -> None:
    """Put the begin token before a text, the end token after it."""
    from tokenizers import processors

    before = [] if begin is None else [tokens[begin]]
    after = [] if end is None else [tokens[end]]
    around = {(tokens[index], index) for index in (begin, end) if index is not None}
    if around:
        inner.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after], special_tokens=sorted(around)
        )
