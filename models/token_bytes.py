"""The bytes that each token of a vocabulary stands for.

A text is the concatenation of its tokens' bytes for byte-level vocabularies (GPT-2, Llama 3,
Qwen), for those of sentencepiece with byte fallback (Llama 2, Gemma, Mistral), and for
vocabularies of characters. Special tokens stand for their names, or for nothing where a text is
shown without them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from models.text import Tokenizer

CONCATENATING = {"ByteLevel", "ByteFallback", "Metaspace", "Replace", "Fuse", "Strip"}


def token_bytes(tokenizer: Tokenizer, skip_special: bool = False) -> list[bytes]:
    """Bytes by id, up to `vocab_size`; an id that names no token has none.

    Args:
      skip_special: special tokens have none either, as in `Tokenizer.decode`.
    Raises:
      ValueError: texts of this vocabulary are no concatenation of tokens.
    """
    data = json.loads(tokenizer.inner.to_str())
    kinds = {part["type"] for part in _parts(data["decoder"])}
    if not kinds or not kinds <= CONCATENATING:
        raise ValueError(
            f"tokenizer: its decoder ({', '.join(sorted(kinds)) or 'none'}) does more than join "
            "tokens, so that no text can be found in its tokens' bytes; name token ids instead"
        )
    added = {entry["content"]: entry["special"] for entry in data["added_tokens"]}
    found = [b""] * tokenizer.vocab_size
    for token, index in tokenizer.inner.get_vocab(with_added_tokens=True).items():
        if token in added:
            found[index] = b"" if skip_special and added[token] else token.encode()
        elif "ByteLevel" in kinds:
            found[index] = bytes(BYTE_OF[char] for char in token)
        elif byte := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token):
            found[index] = bytes([int(byte[1], 16)])
        else:
            text = token if kinds == {"Fuse"} else token.replace("\N{LOWER ONE EIGHTH BLOCK}", " ")
            found[index] = text.encode()
    return found


def _parts(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if decoder is None:
        return
    if decoder["type"] != "Sequence":
        yield decoder
    for part in decoder.get("decoders", ()):
        yield from _parts(part)


def _byte_level() -> dict[str, int]:
    """Printable character -> byte. Bytes that print stand for themselves in Latin-1, the others
    for the characters from 256 on, in order."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printing}
    others = (byte for byte in range(256) if chr(byte) not in table)
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}


BYTE_OF = _byte_level()
