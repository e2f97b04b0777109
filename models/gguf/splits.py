"""How byte-level vocabularies cut a text before they merge: `tokenizer.ggml.pre` by name.

Each rule is a list of patterns, applied one after the other to the pieces that the ones before
have left; what a pattern does not match stays a piece of its own. The patterns are those that
the models' own tokenizers are published with.
"""

from __future__ import annotations

from dataclasses import dataclass

CONTRACTIONS = r"'s|'t|'re|'ve|'m|'ll|'d"
GPT2 = rf"{CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"


def _newer(digits: str) -> str:
    """The pattern of Llama 3 and Qwen 2, which take so many digits at a time."""
    return (
        rf"(?i:{CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def _cased(digits: str, ending: str) -> str:
    """The pattern that ends a word where capitals begin: Tekken's and GPT-4o's."""
    upper, lower = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?[{upper}]*[{lower}]+{ending}"
        rf"|[^\r\n\p{{L}}\p{{N}}]?[{upper}]+[{lower}]*{ending}"
        rf"|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


@dataclass(frozen=True)
class Split:
    """One rule.

    Attributes:
      whole: a piece that is a token is taken whole, whatever the merges say.
      bos: a text begins with the begin token where the file does not say.
    """

    patterns: tuple[str, ...]
    whole: bool = False
    bos: bool = False


PLAIN = Split((GPT2,))
DIGITS = Split((r"\p{N}", GPT2))
LLAMA3 = Split((_newer(r"\p{N}{1,3}"),), whole=True, bos=True)
QWEN2 = Split((_newer(r"\p{N}"),))
DEFAULT = Split((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))

SPLITS = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"), LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), Split(LLAMA3.patterns)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan"), QWEN2),
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "trillion"), PLAIN),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), DIGITS
    ),
    "tekken": Split((_cased(r"\p{N}", ""),), whole=True, bos=True),
    "gpt-4o": Split((_cased(r"\p{N}{1,3}", f"(?i:{CONTRACTIONS})?"),)),
    "falcon": Split((r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]")),
    "deepseek-coder": Split(
        (
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
            r"\p{N}",
        )
    ),
    "default": DEFAULT,
}
