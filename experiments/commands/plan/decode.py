"""Decoding: rows that go on token by token, alone or after drafts that another model writes.

What is in memory: the weights, the cache at its full length, and for a moment the smaller cache
that it grew from, the logits of a pass (as they are, edited, and as a law) and the widest values
of a layer. The last three are an estimate; the first two are exact.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from experiments.commands.decoding.rules import cache_growth
from experiments.commands.plan.chips import Chip
from experiments.commands.plan.job import Step
from experiments.commands.plan.share import Cost, Share, Split, shapes
from jaxdecode.autoregress import Generator, capacities
from jaxdecode.logits import Identity
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from models.config import TransformerConfig

COPIES = 3  # of a pass's logits: raw, edited, and the law that is drawn from


@dataclass(frozen=True)
class Guess:
    """Drafts in a row.

    Attributes:
      model: that writes them; None for what costs nothing, such as a look into the text.
      length: tokens of a draft.
      acceptance: the chance that a drafted token is accepted if those before it were.
    """

    model: TransformerConfig | None
    length: int
    acceptance: float

    @property
    def emitted(self) -> float:
        """Tokens of a round in the mean, (1 - a^(n + 1)) / (1 - a): equation 1 of Leviathan et al.
        2023 (arXiv 2211.17192)."""
        return sum(self.acceptance**i for i in range(self.length + 1))


@dataclass(frozen=True)
class Decoding:
    """Responses to a batch of prompts.

    Attributes:
      platform: of the chips.
      prompt, new: tokens of each.
      lines: rows of a prompt that run together.
      waves: times that they run, one after the other.
      guess: None for a token a pass.
      judge: another model that reads every response.
    """

    config: TransformerConfig
    platform: str
    prompt: int
    new: int
    decoder: str = "greedy"
    lines: int = 1
    waves: int = 1
    guess: Guess | None = None
    judge: TransformerConfig | None = None

    @property
    def heads(self) -> int:
        return self.config.heads

    @property
    def told(self) -> dict[str, object]:
        said: dict[str, object] = {"decoder": self.decoder, "prompt tokens": self.prompt}
        said |= {"new tokens": self.new, "rows a prompt": self.lines, "waves": self.waves}
        if self.guess is not None:
            said |= {
                "draft tokens": self.guess.length,
                "acceptance": self.guess.acceptance,
                "tokens a round": round(self.guess.emitted, 3),
            }
        return said

    @functools.cached_property
    def sizes(self) -> list[int]:
        """Slots of the caches that a response runs through."""
        growth = cache_growth(self.new)
        rules = Stop.of(2), self.new
        generator = Generator(
            shapes(self.config), Identity(), Greedy(), *rules, cache_growth=growth
        )
        slack = 0 if self.guess is None else self.guess.length
        return [size + slack for size in capacities(generator, self.prompt)]

    def share(self, split: Split, config: TransformerConfig | None = None) -> Share:
        """A chip's part of a model, the main one by default."""
        return Share(config or self.config, split, self.platform)

    def rows(self, split: Split, batch: int) -> int:
        """On a chip at once."""
        return split.rows(batch) * self.lines

    @property
    def _drafting(self) -> TransformerConfig | None:
        return None if self.guess is None else self.guess.model

    def memory(self, split: Split, batch: int) -> dict[str, float]:
        models = [m for m in (self.config, self._drafting) if m is not None]
        shares = [self.share(split, model) for model in models]
        judge = 0 if self.judge is None else self.share(split, self.judge).held
        rows, sizes = self.rows(split, batch), self.sizes
        held = rows * sum(share.row(sizes[-1]) for share in shares)
        before = rows if len(sizes) > 1 else split.rows(batch)
        smaller = sizes[-2] if len(sizes) > 1 else self.prompt
        grown = before * sum(share.row(smaller) for share in shares)
        main = shares[0]
        tokens = 1 if self.guess is None else self.guess.length + 1
        passing = main.passing(rows, tokens) + COPIES * main.logits(rows, tokens)
        reading = main.passing(split.rows(batch), self.prompt)
        return {
            "weights": sum(share.held for share in shares) + judge,
            "cache": held,
            "temporaries": max(grown + passing, reading),
        }

    def step(self, split: Split, batch: int) -> Step:
        rows, context = self.rows(split, batch), self.prompt + (self.new - 1) / 2
        main, guess = self.share(split), self.guess
        if guess is None:
            return Step({"pass": main.once(rows, 1, context)}, batch * self.lines)
        phases: dict[str, Cost] = {}
        if guess.model is not None:
            drafter = self.share(split, guess.model)
            phases["draft"] = drafter.once(rows, 1, context) * guess.length
        phases["verify"] = main.once(rows, guess.length + 1, context)
        return Step(phases, batch * self.lines * guess.emitted)

    def whole(self, split: Split, batch: int, chip: Chip) -> float:
        """From prompts to results; a judge reads prompt and response once."""
        prompts, rows = split.rows(batch), self.rows(split, batch)
        models = [m for m in (self.config, self._drafting) if m is not None]
        read = max(1, self.prompt - 1)
        reading = sum(
            self.share(split, model).once(prompts, read, 1, 0).seconds(chip) for model in models
        )
        emitted = 1.0 if self.guess is None else self.guess.emitted
        decoding = self.step(split, batch).seconds(chip) * self.new / emitted
        judging = 0.0
        if self.judge is not None:
            share = self.share(split, self.judge)
            judging = share.once(rows, self.prompt + self.new, 1, 0).seconds(chip)
        return self.waves * (reading + decoding + judging)
