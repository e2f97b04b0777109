"""What a folder without a published checkpoint in it is instead, and what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path

SAVE = "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
# What is done with a file of llama.cpp's format.
GGUF = "give the file itself, whose name must end in .gguf, in place of the folder"


def advice(folder: Path) -> str | None:
    """One sentence or two, or None where nothing that is known lies there."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [folder.name]
    for pattern, say in KINDS:
        found = [name for name in names if re.fullmatch(pattern, name)]
        if found:
            return say.format(found[0], folder=folder, base=_base(folder), GGUF=GGUF, SAVE=SAVE)
    return None


KINDS = (
    (r".*\.gguf", "{0} is a GGUF file, of llama.cpp's format; {GGUF}"),
    (
        r"adapter_config\.json|adapter_model\.(safetensors|bin)",
        "{0} is of an adapter (PEFT), which is trained beside {base} and no model of its own; "
        "merge the two once with peft: AutoPeftModelForCausalLM.from_pretrained(folder)"
        ".merge_and_unload().save_pretrained(new_folder)",
    ),
    (
        r"consolidated.*\.(safetensors|pth)",
        "{0} holds the weights under their authors' own names; open the release that is made for "
        "transformers (often the same repository's model-*.safetensors)",
    ),
    (
        r"model-\d+-of-\d+\.safetensors",
        "{0} is one of several shards, which model.safetensors.index.json puts together; fetch "
        "that file, and all the shards it names",
    ),
    (
        r"(pytorch_model.*|model.*)\.bin|.*\.pth?|.*\.ckpt",
        "only pickled weights ({0}) are there. Opening a pickle runs code, so it is never done; "
        "convert once, where you trust the file, with transformers: {SAVE}",
    ),
    (r"tf_model\.h5|flax_model.*\.msgpack", "{0} is of another framework; convert it: {SAVE}"),
    (r".*\.onnx", "{0} is a compiled graph; open the release in safetensors that it was made of"),
    (
        r"snapshots",
        "this is a folder of the Hugging Face cache; the checkpoint is one level further, in "
        "{folder}/snapshots/REVISION",
    ),
    (r".*\.safetensors", "{0} is none of the names that a checkpoint has, model.safetensors"),
)


def _base(folder: Path) -> str:
    """The model that an adapter belongs to."""
    try:
        text = (folder / "adapter_config.json").read_text(encoding="utf-8")[:1_000_000]
        name = json.loads(text).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError, RecursionError):
        name = None
    return name[:200] if isinstance(name, str) and name.isprintable() else "another model"
