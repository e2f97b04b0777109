"""Tiny checkpoints in the published format: a generator, its judge, and two strangers to both."""

from __future__ import annotations

import json
from pathlib import Path

from flax import nnx

from experiments.tasks.tokenizer import TaskTokenizer, byte_pairs
from models import export
from models.config import TransformerConfig
from models.presets import small
from models.reward_checkpoints import save_reward
from models.rewards import RewardModel
from models.transformer import Transformer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def companions(folder: Path, codec: TaskTokenizer) -> Path:
    """Tokenizer files that put BOS before a text, and a chat template."""
    codec.save(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"add_bos_token": True, "chat_template": TEMPLATE}
    path.write_text(json.dumps(config))
    return folder


def build(root: Path) -> dict[str, Path]:
    """Folders by name: `generator` and `judge`; `stranger` and `critic`, with another tokenizer."""
    texts = ["one plus one is two", "two plus two is four", "the cat sat on the mat"]
    codec, other = byte_pairs(texts, 280), byte_pairs(texts[2:], 264)

    def shape(codec: TaskTokenizer) -> TransformerConfig:
        return small(codec.vocab_size, hidden=32, layers=1, max_positions=96)

    files = companions(root / "files", codec)
    folders = {name: root / name for name in ("generator", "judge", "stranger", "critic")}
    speakers, critics = ("generator", "stranger"), ("judge", "critic")
    tokenizers = [(codec, files), (other, companions(root / "others", other))]
    for seed, (name, (words, tokenizer)) in enumerate(zip(speakers, tokenizers, strict=True)):
        model = Transformer(shape(words), rngs=nnx.Rngs(2 * seed))
        export.save(model, folders[name], family="llama", tokenizer=tokenizer)
    for seed, (name, (words, tokenizer)) in enumerate(zip(critics, tokenizers, strict=True)):
        reward = RewardModel.create(shape(words), rngs=nnx.Rngs(2 * seed + 1))
        save_reward(reward, folders[name], tokenizer=tokenizer)
    return folders
