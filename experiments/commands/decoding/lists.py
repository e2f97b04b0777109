"""A list that is explored, ICN, from the options of a command line.

The prompt asks for a list and opens its first item, as in 'Colours of a rainbow. Answer:\\n1. "';
`--stop` names what closes an item, and `--between` how the list goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from algorithms.tokens.icn import ICN
from experiments.commands.decoding.rules import Rules
from jaxdecode.autoregress import Generator

ITEMS = 10
BETWEEN = '"\n{}. "'


def between(
    rules: Rules, piece: Callable[[str], list[int]], stops: Sequence[str]
) -> list[list[int]]:
    """Tokens that stand behind each item but the last.

    Args:
      piece: tokens of a text that goes on.
      stops: texts that close an item.
    Raises:
      ValueError: nothing closes an item, or the list cannot be written by this tokenizer.
    """
    if not stops:
        raise ValueError(
            "--decoder icn needs --stop, the text that closes an item of the list that the prompt "
            "opens, such as '\"'"
        )
    form = BETWEEN if rules.between is None else rules.between
    count = ITEMS if rules.samples is None else rules.samples
    if count < 1:
        raise ValueError(f"--samples {count}: a list has one item at least")
    return [piece(form.replace("{}", str(number))) for number in range(2, count + 1)]


def navigator(plain: Generator, rules: Rules, between: Sequence[Sequence[int]]) -> ICN:
    """Items in runs, each from what the list so far makes likely.

    Raises:
      ValueError: for a run that does not divide the items.
    """
    count = ITEMS if rules.samples is None else rules.samples
    width = 1 if rules.wave is None else rules.wave
    if width < 1 or count % width:
        raise ValueError(
            f"--wave {width} does not divide --samples {count}: every run finds as many items"
        )
    return ICN.of(
        plain, between, count // width, width, among=rules.candidates, room=plain.max_tokens
    )
