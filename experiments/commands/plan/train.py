"""Training by policy gradients: a policy, the reference it is held to, a reward, and Adam.

A step draws `group` responses to every prompt, has policy, reference and reward read them, and
takes one gradient with every layer recomputed (`TransformerConfig.remat`). The policy's weights,
its gradient and Adam's two moments are float32; passes compute in `dtype` on a copy, as
`jaxdecode.train.fit(compute=...)` does. A step replaces weights and moments where they are; the
weights that a run begins with stay with the caller.

Weights, gradient, moments and the reference are split over all chips (`fsdp`), or over those of a
model alone. Where they are split, the policy is gathered once to draw, and its layers are gathered
one by one to take the gradient, as those of the reference are to read. A reward is split over the
chips of a model.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.commands.plan.chips import Chip
from experiments.commands.plan.decode import COPIES, Decoding
from experiments.commands.plan.job import Step
from experiments.commands.plan.share import Cost, Share, Split
from models.config import TransformerConfig

NUMBER = 4  # bytes of a float32
MOMENTS = 2
GATHERINGS = 2  # of a layer in a gradient: to compute it, and once more to go back
TOUCHED = 7  # numbers an update reads and writes for a weight: 3 to read and 3 to write, a gradient
PASSES = 4  # a forward pass, the same again for the gradient, and the two products of a backward


@dataclass(frozen=True)
class Training:
    """Steps of a policy gradient; see the module.

    Attributes:
      config: the policy's, in the type that is computed in; the reference's too.
      reward: a model; None for a function that holds nothing here.
      prompt, new: tokens.
      group: responses to a prompt.
      parts: in which the gradient of a step is taken.
      fsdp: what is trained is split over all chips.
    """

    config: TransformerConfig
    platform: str
    prompt: int
    new: int
    recipe: str = "ctrl"
    group: int = 8
    reward: TransformerConfig | None = None
    parts: int = 1
    fsdp: bool = True

    @property
    def heads(self) -> int:
        return self.config.heads

    @property
    def told(self) -> dict[str, object]:
        return {
            "recipe": self.recipe,
            "prompt tokens": self.prompt,
            "new tokens": self.new,
            "responses a prompt": self.group,
            "parts": self.parts,
            "split over": "all chips" if self.fsdp else "those of a model",
        }

    @property
    def drawing(self) -> Decoding:
        """What draws the responses."""
        return Decoding(self.config, self.platform, self.prompt, self.new, lines=self.group)

    def _share(self, split: Split, config: TransformerConfig | None = None) -> Share:
        return Share(config or self.config, split, self.platform)

    def _apart(self, split: Split) -> bool:
        """Whether a chip has to gather what it reads."""
        return self.fsdp and split.data > 1

    def memory(self, split: Split, batch: int) -> dict[str, float]:
        share, apart = self._share(split), self._apart(split)
        numbers = share.spread if apart else share.numbers
        wide = numbers * NUMBER
        narrow = numbers * share.width if share.width < NUMBER else 0
        reward = 0 if self.reward is None else self._share(split, self.reward).held
        rows, length = split.rows(batch) * self.group, self.prompt + self.new
        part = -(-rows // self.parts)
        drawn = self.drawing.memory(split, batch)
        drawing = drawn["cache"] + drawn["temporaries"]
        # All positions of all rows at once, as they are and as what their sum is taken of.
        scoring = share.passing(rows, length) + 2 * share.logits(rows, length)
        kept = part * length * self.config.hidden * self.config.layers * share.width
        backward = kept + share.passing(part, length) + COPIES * share.logits(part, length)
        # A layer's weights and their gradient, before it is divided.
        turn = 2 * share.turn * share.width if apart else 0
        copied = share.held if apart or narrow else 0
        return {
            "weights": 2 * wide + narrow + reward,  # trained, begun with, the reference in `dtype`
            "moments": MOMENTS * wide,
            "temporaries": max(
                copied + max(drawing, scoring + turn), narrow + wide + turn + backward
            ),
        }

    def step(self, split: Split, batch: int) -> Step:
        share, rows = self._share(split), split.rows(batch) * self.group
        length = self.prompt + self.new - 1
        forward = share.once(rows, length, 1, drawn=False)
        one = self.drawing.step(split, batch).phases["pass"]
        scoring = forward * 2
        if self.reward is not None:
            scoring += self._share(split, self.reward).once(rows, length + 1, 1, 0, False)
        apart, others = self._apart(split), (split.data - 1) / split.data
        count = len(share.sizes) if split.data > 1 else 0
        # A gradient that is divided is summed once and not handed back.
        summed = (1 if apart else 2) * others * share.numbers * NUMBER
        numbers = share.spread if apart else share.numbers
        update = Cost(bytes=numbers * NUMBER * TOUCHED, sent=summed, collectives=count)
        gathered = Cost(sent=others * share.held, collectives=count) * apart
        phases = {
            "prompts": share.once(split.rows(batch), max(1, self.prompt - 1), 1, 0) + gathered,
            "responses": one * self.new,
            "reading": scoring + gathered,
            "gradient": forward * PASSES + gathered * GATHERINGS * self.parts,
            "update": update,
        }
        return Step(phases, batch * self.group * self.new)

    def whole(self, split: Split, batch: int, chip: Chip) -> float:
        return self.step(split, batch).seconds(chip)
