"""What of the options contradicts another, told before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from experiments.commands.decoding import decoders
from experiments.commands.decoding.uses import UNMASKING, Name
from experiments.commands.generate.answers import LISTING
from experiments.commands.generate.options import Options
from experiments.inputs import prompts
from jaxdecode.decoder import Decoder
from jaxdecode.prompt import Prompt

STREAMED = ("sample", "greedy", *UNMASKING)


def check(name: Name, options: Options) -> None:
    """Refuse options that mean nothing together.

    Raises:
      ValueError: naming them, their values and what to give instead.
    """
    rules = options.rules
    decoders.check(name, rules)
    if options.stream and (options.output or name not in STREAMED):
        raise ValueError(f"--stream is for the terminal and for --decoder {' or '.join(STREAMED)}")
    if options.listed < 1:
        raise ValueError(f"--return {options.listed}: give at least 1")
    if options.listed > 1 and name not in LISTING:
        raise ValueError(
            f"--return {options.listed}: --decoder {name} gives one response; several are given "
            f"by {', '.join(LISTING)}"
        )
    if options.stream and options.listed > 1:
        raise ValueError(f"--stream prints one response; --return {options.listed} asks for more")
    if bool(options.prompts) == bool(options.input):
        raise ValueError("give either --prompts or --input")
    if any(not stop for stop in options.stop):
        raise ValueError("--stop: an empty text would end every response at once")
    for stop in options.stop:
        prompts.check_text(stop, "--stop")
    if (rules.draft_tokens or 0) > rules.max_tokens:
        raise ValueError(
            f"--draft-tokens {rules.draft_tokens} guesses past the end of every response; give at "
            f"most --max-tokens, {rules.max_tokens}"
        )
    if (rules.min_tokens or 0) > rules.max_tokens:
        raise ValueError(
            f"--min-tokens {rules.min_tokens}: no response is longer than --max-tokens, "
            f"{rules.max_tokens}; lower the one or raise the other"
        )


def check_listed(name: Name, options: Options, decoder: Decoder, prompt: Sequence[int]) -> None:
    """Refuse to list more responses than the decoder holds for a prompt.

    Raises:
      ValueError: naming how many it holds.
    """
    shapes = jax.eval_shape(decoder, jax.random.key(0), Prompt.of([prompt]))
    most = shapes.trace.score.shape[1]
    if options.listed > most:
        raise ValueError(
            f"--return {options.listed}: --decoder {name} holds {most} responses to a prompt as it "
            "is set; ask for fewer, or give it more (--samples, --beams)"
        )
