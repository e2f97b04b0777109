"""Opening the tokenizer of a published folder.

Read are tokenizer.json, tokenizer_config.json, special_tokens_map.json, generation_config.json,
config.json and chat_template.jinja, none of which but the first is required. What each decides:

    BOS and EOS around a text   an explicit add_bos_token or add_eos_token of tokenizer_config,
                                else tokenizer.json
    end tokens, a set           generation_config's (else config's) and tokenizer_config's, united
    padding                     tokenizer_config's, else generation_config's, else config's

Padding and truncation settings stored in tokenizer.json are dropped: they would shorten texts
without a word.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models import gguf
from models.chat import ChatTemplate
from models.gguf import tokenizer as gguf_tokenizer
from models.safetensors import brief, parse_json
from models.text import Tokenizer
from models.walled_tokenizer import WalledTokenizer

NEEDED = ("bos_token", "eos_token", "pad_token")
NAMED = (*NEEDED, "unk_token", "sep_token", "cls_token", "mask_token")
FILE_LIMIT = 256_000_000


def load_tokenizer(folder: str | os.PathLike) -> Tokenizer:
    """The tokenizer of a published folder, or of a .gguf file.

    Raises:
      ValueError: a file is missing or damaged, or BOS, EOS or padding is not in the vocabulary.
    """
    path = Path(folder)
    if gguf.is_file(path):
        return gguf_tokenizer.load(path)
    inner = open_tokenizer(path / "tokenizer.json")
    settings = path / "tokenizer_config.json"
    config = _read(path / "special_tokens_map.json") | _read(settings)
    model = _read(path / "config.json")
    generation = _read(path / "generation_config.json") or model
    tokens = _special_tokens(config, settings)
    ids: dict[str, int] = {}
    for name in NEEDED:
        if name in tokens:
            token = inner.token_to_id(tokens[name])
            if token is None:
                raise ValueError(
                    f"{path}: {name} {brief(tokens[name])} is not in tokenizer.json; add it "
                    "there or remove it from tokenizer_config.json"
                )
            ids[name] = token
    _surround(inner, config, ids, settings)
    named = (ids[name] for name in ("eos_token",) if name in ids)
    pads = [ids[name] for name in ("pad_token",) if name in ids]
    sources = ((generation, path / "generation_config.json"), (model, path / "config.json"))
    known = max(inner.get_vocab().values(), default=-1) + 1
    rows = model.get("vocab_size")
    most = max(known, rows) if type(rows) is int else known
    for values, file in sources:
        pads += _ids(values, "pad_token_id", file, most)
    ends = _ids(generation, "eos_token_id", sources[0][1], most)
    source = _template(path, config)
    return Tokenizer(
        inner,
        bos=ids.get("bos_token"),
        eos=tuple(sorted({*ends, *named})),
        pad=pads[0] if pads else None,
        template=None if source is None else ChatTemplate(source, tokens),
        named_eos=ids.get("eos_token"),
    )


def save_tokenizer(tokenizer: Tokenizer, folder: str | os.PathLike) -> None:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json into a folder, so
    that `load_tokenizer` and `transformers` read the same tokenizer back."""
    path = Path(folder)
    spelled = tokenizer.inner.id_to_token
    named = {"bos_token": tokenizer.bos, "eos_token": tokenizer.named_eos}
    named["pad_token"] = tokenizer.pad
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **{name: spelled(token) for name, token in named.items() if token is not None},
    }
    if tokenizer.template is not None:
        config["chat_template"] = tokenizer.template.source
    ends = {
        "bos_token_id": tokenizer.bos,
        "eos_token_id": list(tokenizer.eos),
        "pad_token_id": tokenizer.pad,
    }
    generation = {name: value for name, value in ends.items() if value not in (None, [])}
    (path / "tokenizer.json").write_text(tokenizer.inner.to_str(), encoding="utf-8")
    for name, data in (("tokenizer_config", config), ("generation_config", generation)):
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        (path / f"{name}.json").write_text(text, encoding="utf-8")


def open_tokenizer(file: Path) -> WalledTokenizer:
    """A tokenizer.json that came from elsewhere, within the limits of a process of its own."""
    if not file.is_file():
        raise ValueError(
            f"{file} is missing; write it once with transformers: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    return WalledTokenizer(_decoded(file), str(file))


def _special_tokens(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Name -> text of the special tokens of a tokenizer_config.json; the rest is a list."""
    tokens: dict[str, Any] = {}
    for name in NAMED:
        if config.get(name) is None:
            continue
        text = _text(config[name])
        if text is None:
            raise ValueError(f"{file}: {name}={brief(config[name])} must be a token's text")
        tokens[name] = text
    more = config.get("additional_special_tokens") or config.get("extra_special_tokens")
    if isinstance(more, list):
        tokens["additional_special_tokens"] = [text for entry in more if (text := _text(entry))]
    return tokens


def _text(entry: Any) -> str | None:
    """A token is spelled as its text, or as an object that describes it."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else None


def _ids(config: Mapping[str, Any], name: str, file: Path, most: int) -> list[int]:
    """The ids under a name, each of a token that the tokenizer or the model has."""
    value = config.get(name)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if any(type(x) is not int for x in values):
        raise ValueError(f"{file}: {name}={brief(value)} must be a token id or a list of them")
    for x in values:
        if x >= most:
            raise ValueError(
                f"{file}: {name}={brief(x)} is beyond the {most} ids of tokenizer and model; "
                "remove it, or set it to the right one"
            )
    return [x for x in values if x >= 0]  # some configs say -1 for none


def _surround(
    inner: WalledTokenizer, config: Mapping[str, Any], ids: Mapping[str, int], file: Path
) -> None:
    """Make what is put around a text agree with explicit flags."""
    around = inner.encode("", add_special_tokens=True).ids
    have = {name: name in ids and ids[name] in around for name in ("bos_token", "eos_token")}
    if have["bos_token"] and ids["bos_token"] == ids.get("eos_token"):
        have["eos_token"] = around.count(ids["bos_token"]) > 1
    flags = {name: config.get(f"add_{name}") for name in have}
    for name, flag in flags.items():
        if flag is not None and type(flag) is not bool:
            raise ValueError(f"{file}: add_{name}={brief(flag)} must be true or false")
    want = {k: have[k] if flags[k] is None else flags[k] and k in ids for k in have}
    if want == have:
        return
    spelled = {name: inner.id_to_token(ids[name]) or "" for name in want if want[name]}
    before = [spelled["bos_token"]] if want["bos_token"] else []
    after = [spelled["eos_token"]] if want["eos_token"] else []
    special = sorted({text: ids[name] for name, text in spelled.items()}.items())
    inner.surround([*before, "$A", *after], special)


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The folder's own template file, else the config's; of several the default one."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _decoded(file)
    stored = config.get("chat_template")
    if stored is None and (folder / "chat_template.json").is_file():
        stored = _read(folder / "chat_template.json").get("chat_template")
    if isinstance(stored, list):
        named = {entry.get("name"): entry.get("template") for entry in stored if _is_named(entry)}
        stored = named.get("default")
    if stored is not None and not isinstance(stored, str):
        raise ValueError(f"{folder}: chat_template must be text or a list of named texts")
    return stored


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)


def _read(path: Path) -> dict[str, Any]:
    return parse_json(_bytes(path), path) if path.is_file() else {}


def _decoded(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error.reason}); fetch it again") from error


def _bytes(path: Path) -> bytes:
    if path.stat().st_size > FILE_LIMIT:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, more than any real one")
    return path.read_bytes().removeprefix(codecs.BOM_UTF8)
