"""Small tokenizers of the three published kinds, and the folders they would come in."""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

TEXT = "the cat sat on the mat. the dog ate the cat's hat! été naïve 你好 🙂🙃 ok\n\nThe end."


def byte_level() -> Tokenizer:
    """As GPT-2, Llama 3 and Qwen: bytes, and merges learned from a sentence."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet)}
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "t"), ("Ġ", "c"), (".", "Ċ"), ("Ċ", "Ċ")]
    merges += [("Ã", "©"), ("ð", "Ł"), (".", "Ġ")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    inner.model = models.BPE(vocab=vocabulary, merges=merges)
    inner.add_special_tokens(["<bos>", "<eos>", "<end>", "<pad>"])
    begin = ("<bos>", inner.token_to_id("<bos>"))
    inner.post_processor = processors.TemplateProcessing(
        single=["<bos>", "$A"], special_tokens=[begin]
    )
    return inner


def sentencepiece() -> Tokenizer:
    """As Llama 2, Gemma and Mistral: pieces with spaces made visible, bytes for the rest."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *"abcdehlmnorst.", "▁t", "▁th", "▁the", "at", "▁c", "▁cat"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("a", "t"), ("▁", "c"), ("▁c", "at")]
    inner = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    inner.add_special_tokens(["<s>", "</s>"])
    return inner


def characters(alphabet: str = "abc d") -> Tokenizer:
    """One token a character."""
    tokens = ["<pad>", "<bos>", "<eos>", *alphabet]
    inner = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens(tokens[:3])
    return inner


def write(folder: Path, inner: Tokenizer, **files) -> Path:
    """A published folder; `tokenizer_config={...}` becomes tokenizer_config.json, and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    inner.save(str(folder / "tokenizer.json"))
    for name, data in files.items():
        (folder / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
    return folder
