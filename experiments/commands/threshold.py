"""The entropy from which a model's first choice is more likely wrong, learned from right texts.

    python -m experiments threshold MODEL TEXTS --out FILE

MODEL is a name in the zoo or the folder of a checkpoint, TEXTS a file of JSON lines with "prompt"
and "solution". FILE gets the threshold with the fingerprint of the weights it belongs to: looking
ahead with it (`algorithms.tokens.adadec`) under other weights is refused.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from algorithms.tokens.threshold import Threshold, learn
from experiments.harness.environment import keep_compiled
from experiments.harness.files import parse, text_lines, write_atomically
from experiments.inputs.sources import folder_of, open_model
from experiments.tokens.adadec.reading import read, weights_of


def pairs_of(path: Path) -> list[tuple[str, str]]:
    """(prompt, solution) of every line.

    Raises:
      ValueError: naming the file, the line and what is wrong.
    """
    if not path.is_file():
        raise ValueError(f"texts={path}: there is no such file")
    found = []
    for number, line in text_lines(path):
        try:
            record = parse(line)
            prompt, solution = record["prompt"], record["solution"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{path}, line {number}: not an object with "prompt" and "solution" ({error!r})'
            ) from error
        if not isinstance(prompt, str) or not isinstance(solution, str) or not solution:
            raise ValueError(f"{path}, line {number}: prompt and solution are to be texts")
        found.append((prompt, solution))
    if not found:
        raise ValueError(f"{path}: there is no line in it")
    return found


def learned(name: str, texts: Path, seed: int = 0) -> Threshold:
    """The threshold of a model by its name."""
    pairs, source = pairs_of(texts), open_model(name)
    entropies, rank = read(source, pairs)
    return learn(entropies, rank == 1, seed, weights_of(folder_of(name)))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments threshold", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("model", metavar="MODEL", help="a name in the zoo, or a folder")
    parser.add_argument("texts", metavar="TEXTS", type=Path, help="JSON lines")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="where it goes")
    parser.add_argument("--seed", type=int, default=0, help="of what is held out and balanced")
    options = parser.parse_args(arguments)
    keep_compiled()
    try:
        found = learned(options.model, options.texts, options.seed)
    except ValueError as error:
        sys.exit(f"error: {error}")
    write_atomically(options.out, found.dumps())
    print(
        f"{options.out}: pause from {found.value:.3f} nats on, before {100 * found.above:.1f} % of "
        f"{found.tokens} tokens ({100 * found.first:.1f} % of all are first choices)"
    )
