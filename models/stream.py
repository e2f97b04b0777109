"""Text as it is being generated: no half characters, and nothing past a stop string.

A character may be spelled by several tokens, and a stop string may begin in one and end in
another; what could still become part of either is held back until it is settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.text import BROKEN, Tokenizer

# A character has four bytes at most, so that no more than three tokens wait for one.
MOST_BROKEN = 3


class TextStream:
    """Decodes one row incrementally; what `push` and `finish` return adds up to its text.

    The sum equals `tokenizer.decode` of all ids, `after` those before them, cut before the first
    stop string. (Where a model emits bytes that are not UTF-8, a decoder may take back characters
    already sent.)

    Attributes:
      stopped: the stop string that ended the text, or None; later tokens are ignored.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str] = (),
        skip_special: bool = True,
        after: Sequence[int] = (),
    ):
        if "" in stops:
            raise ValueError("stops: an empty string would end every text at once")
        self.stopped: str | None = None
        self._tokenizer, self._stops, self._skip = tokenizer, tuple(stops), skip_special
        self._ids = tokenizer.context(after)
        # Decoding from `_first` gives the text from a settled point on; `_settled` tokens are
        # behind us, and of the decoded characters `_sent` have been passed on.
        self._first, self._settled = 0, len(self._ids)
        self._sent = len(self._decode(0, len(self._ids)).rstrip(BROKEN))
        self._held = ""

    def push(self, ids: Iterable[int]) -> str:
        """Take more ids; returns the text that is now certain."""
        return "".join(self._push(int(i)) for i in ids)

    def _push(self, token: int) -> str:
        if self.stopped is not None:
            return ""
        self._ids.append(token)
        text = self._decode(self._first, len(self._ids))
        broken = len(text) - len(text.rstrip(BROKEN))
        if len(self._ids) - self._settled > MOST_BROKEN:
            broken = min(broken, MOST_BROKEN)  # the bytes before these will never be mended
        fresh = text[self._sent : len(text) - broken]
        self._sent = max(self._sent, len(text) - broken)
        if not broken and text:
            # The next decoding starts one step back: some decoders treat a first token apart.
            self._first, self._settled = self._settled, len(self._ids)
            self._sent = len(self._decode(self._first, self._settled))
        return self._release(fresh)

    def finish(self) -> str:
        """The rest of the text; nothing can follow."""
        if self.stopped is not None:
            return ""
        rest = self._release(self._decode(self._first, len(self._ids))[self._sent :])
        if self.stopped is None:
            rest, self._held = rest + self._held, ""
        self._ids, self._first, self._settled, self._sent = [], 0, 0, 0
        return rest

    def _decode(self, first: int, last: int) -> str:
        return self._tokenizer.decode(self._ids[first:last], self._skip)

    def _release(self, fresh: str) -> str:
        """Of the text held back and the fresh, what no stop string can claim any more."""
        text, self.stopped = trim(self._held + fresh, self._stops)
        if self.stopped is not None:
            self._held = ""
            return text
        longest = max((_overlap(text, stop) for stop in self._stops), default=0)
        cut = len(text) - longest
        self._held = text[cut:]
        return text[:cut]


def trim(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """The text before the first stop string in it, and that string.

    First is the one that ends first, which is when generation would have stopped; of those
    that end together, the longest.
    """
    found = [(at + len(stop), at, stop) for stop in stops if (at := text.find(stop)) >= 0]
    if not found:
        return text, None
    _, start, stop = min(found)
    return text[:start], stop


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
