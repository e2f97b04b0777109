"""PEARL on one row under greedy decoding, step by step, by the rules of the paper's two modes.

`text` may end in pending tokens, which are those past `confirmed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Choose = Callable[[Sequence[int]], int]


def steps(
    target: Choose, draft: Choose, prompt: Sequence[int], length: int, window: int
) -> tuple[list[int], list[tuple[bool, int]]]:
    """The text, and for every step whether it post-verified and how many tokens it confirmed."""
    text, post, log = list(prompt), False, []
    confirmed = len(text)
    while confirmed < len(prompt) + length:
        began, drafts = confirmed, []
        for _ in range(window):
            drafts.append(draft([*text, *drafts]))
        tested = [*text[confirmed:], drafts[0]] if post else [drafts[0]]
        kept = text[:confirmed]
        for token in tested:
            right = target(kept)
            kept.append(right)
            if right != token:
                text, confirmed, after = kept, len(kept), False
                break
        else:
            text, confirmed, after = [*kept, *drafts[1:]], len(kept), True
        log.append((post, confirmed - began))
        # A window of one token leaves nothing pending: its first token was its last.
        post = after and window > 1
    return text[len(prompt) : len(prompt) + length], log
