"""Generate text: any published checkpoint or zoo model, any decoder, prompts from anywhere.

python -m experiments generate --model NAME_OR_PATH --decoder NAME [--decoder NAME ...]
    --prompts TEXT [TEXT ...] | --input FILE.jsonl|FILE.txt   [--output FILE.jsonl]

A model is a zoo name (smollm2 is a real one), a published folder or a .gguf file. Several
--decoder are raced: their texts, costs and times side by side. Masked diffusion models, such as
the zoo's denoiser, have decoders of their own, from fast-dllm on, which fill --max-tokens places
in blocks; with --stream the canvas is drawn anew after every pass.

With --output, one JSON line for each prompt: text, tokens, status, logprob, usage, seed and
settings. The same command goes on where a killed one stopped; what is there is not done again.
Several processes joined with --distributed take every n-th prompt each and write a file each.
A response depends on the seed and on its prompt's id, never on the batch it was in.
"""

from __future__ import annotations

import sys

from experiments.commands.generate.options import parsed


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    options = parsed(arguments, __doc__ or "")
    # Deferred: help and a mistyped option should not wait for JAX.
    from experiments.commands.generate import running
    from experiments.harness.environment import keep_compiled

    keep_compiled()
    try:
        running.run(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
