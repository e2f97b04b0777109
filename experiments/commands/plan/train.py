"""Training by policy gradients: a policy, the reference it is held to, a reward, and Adam.

A step draws `group` responses to every prompt, has policy, reference and reward read them, and
takes one gradient with every layer recomputed (`TransformerConfig.remat`). The policy's weights,
its gradient and Adam's two moments are float32; passes compute in `dtype` on a copy, as
`jaxdecode.train.fit(compute=...)` does. The weights that a run begins with stay with the caller,
and a step's arguments are not donated, so that old and new weights and moments are there at once.
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
    """

    config: TransformerConfig
    platform: str
    prompt: int
    new: int
    recipe: str = "ctrl"
    group: int = 8
    reward: TransformerConfig | None = None
    parts: int = 1

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
        }

    @property
    def drawing(self) -> Decoding:
        """What draws the responses."""
        return Decoding(self.config, self.platform, self.prompt, self.new, lines=self.group)

    def _share(self, split: Split, config: TransformerConfig | None = None) -> Share:
        return Share(config or self.config, split, self.platform)

    def memory(self, split: Split, batch: int) -> dict[str, float]:
        share = self._share(split)
        wide = share.numbers * NUMBER
        narrow = share.held if share.width < NUMBER else 0
        reward = 0 if self.reward is None else self._share(split, self.reward).held
        rows, length = split.rows(batch) * self.group, self.prompt + self.new
        part = -(-rows // self.parts)
        drawn = self.drawing.memory(split, batch)
        drawing = drawn["cache"] + drawn["temporaries"]
        # All positions of all rows at once, as they are and as what their sum is taken of.
        scoring = share.passing(rows, length) + 2 * share.logits(rows, length)
        kept = part * length * self.config.hidden * self.config.layers * share.width
        backward = kept + share.passing(part, length) + COPIES * share.logits(part, length)
        return {
            "weights": 2 * wide + narrow + reward,  # trained, begun with, the reference in `dtype`
            "moments": MOMENTS * wide,
            "next weights and moments": (1 + MOMENTS) * wide,
            "temporaries": narrow + max(drawing, scoring, wide + backward),
        }

    def step(self, split: Split, batch: int) -> Step:
        share, rows = self._share(split), split.rows(batch) * self.group
        length = self.prompt + self.new - 1
        forward = share.once(rows, length, 1, drawn=False)
        one = self.drawing.step(split, batch).phases["pass"]
        scoring = forward * 2
        if self.reward is not None:
            scoring += self._share(split, self.reward).once(rows, length + 1, 1, 0, False)
        exchanged = 2 * (split.data - 1) / split.data * share.numbers * NUMBER
        update = Cost(
            bytes=share.numbers * NUMBER * TOUCHED,
            sent=exchanged,
            collectives=len(share.sizes) if split.data > 1 else 0,
        )
        phases = {
            "prompts": share.once(split.rows(batch), max(1, self.prompt - 1), 1, 0),
            "responses": one * self.new,
            "reading": scoring,
            "gradient": forward * PASSES,
            "update": update,
        }
        return Step(phases, batch * self.group * self.new)

    def whole(self, split: Split, batch: int, chip: Chip) -> float:
        return self.step(split, batch).seconds(chip)
