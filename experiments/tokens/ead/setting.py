"""The setting of the experiment on EAD: two models, questions, who writes which token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from algorithms.tokens.ead import EAD
from algorithms.tokens.rules.switches import Coin, RollingEntropy, Routed, Switch
from experiments.harness.report import Out, Seed
from experiments.inputs.sources import Source, open_model
from experiments.tasks.task import Split
from experiments.tokens.exam import INSTRUCTION, Exam, arithmetic_or
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.sampling import Greedy
from models.text import check_same_tokenizer

Row = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      large, small: names in the zoo or folders of published checkpoints, of one tokenizer.
      data: folder with GSM8K's train.jsonl and test.jsonl; None for arithmetic.
      operations: fewest and most operations of an arithmetic question.
      questions, validation: test questions, and those that the threshold is chosen on.
      batch: questions decoded at a time.
      max_tokens: of an answer.
      thresholds: in bits, falling: the large model's share rises.
      windows: tokens that the entropy is averaged over, and tokens between changes; the first
        pair is judged, the others are shown. The published number between changes is not at
        hand; answers here are short, so that 1 is judged, by which no model has to stay.
      routed: tokens by whose mean entropy a question is routed once and for all.
    """

    large: str = "arithmetic"
    small: str = "arithmetic-small"
    data: Path | None = None
    operations: tuple[int, int] = (1, 3)
    questions: int = 384
    validation: int = 192
    batch: int = 192
    max_tokens: int = 56
    thresholds: tuple[float, ...] = (1.2, 0.9, 0.7, 0.5, 0.35, 0.2, 0.1, 0.04)
    windows: tuple[tuple[int, int], ...] = ((5, 1), (1, 1), (5, 10))
    routed: int = 5
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        falling = all(a > b for a, b in zip(self.thresholds, self.thresholds[1:], strict=False))
        if len(self.thresholds) < 2 or not falling:
            raise ValueError(f"thresholds={self.thresholds}: give two or more, falling")
        if not self.windows:
            raise ValueError("windows=(): give at least one pair (window, hold)")


@dataclass(frozen=True)
class Setting:
    """What a configuration stands for."""

    config: Config
    large: Source
    small: Source

    @classmethod
    def of(cls, config: Config) -> Setting:
        large, small = open_model(config.large), open_model(config.small)
        check_same_tokenizer(large.codec.text, small.codec.text)
        return cls(config, large, small)

    def exam(self, split: Split) -> Exam:
        config = self.config
        task = arithmetic_or(config.data, config.operations)
        count = config.questions if split == "test" else config.validation

        def grade(example, text: str) -> float:
            return float(task.extract(text) == example.meta["answer"])

        codec, batch = self.large.codec, min(config.batch, count)
        return Exam(codec, task, grade, split, count, batch, config.seed, INSTRUCTION)

    @cached_property
    def exams(self) -> dict[Split, Exam]:
        return {split: self.exam(split) for split in ("validation", "test")}

    def generator(self, source: Source, exam: Exam) -> Generator:
        return Generator(source.model, Identity(), Greedy(), exam.stop, self.config.max_tokens)

    @property
    def ratio(self) -> float:
        """Parameters of the small model, of one of the large one's."""
        return self.small.model.cost.parameters / self.large.model.cost.parameters

    def alone(self, which: str, split: Split) -> Row:
        """One model for everything."""
        source = self.large if which == "large" else self.small
        exam = self.exams[split]
        sat = exam.sit(Autoregressive(self.generator(source, exam)))
        return {"right": sat.right, "flops": sat.result.usage.flops, "length": sat.result.length}

    def turns(self, switch: Switch, split: Split, regenerate: bool = False) -> Row:
        """Both, by a switch: right answers, work, and who wrote."""
        exam = self.exams[split]
        writer = self.generator(self.large, exam)
        sat = exam.sit(EAD(writer, self.small.model, switch, regenerate=regenerate))
        large, length = sat.result.trace.large, sat.result.length
        inside = np.arange(large.shape[1]) < length[:, None]
        large = large & inside
        changes = (large[:, 1:] != large[:, :-1]) & inside[:, 1:]
        usage = sat.result.usage
        runs = (large[:, 1:] & ~large[:, :-1]).sum() + large[:, 0].sum()
        return {
            "right": sat.right,
            "flops": usage.flops,
            "length": length,
            "written": large.sum(axis=1),
            "share": large.sum() / length.sum(),
            "changes": changes.sum() / len(length),
            "run": large.sum() / max(int(runs), 1),
            "read": usage.target_tokens.sum() / length.sum(),
            "small read": usage.draft_tokens.sum() / length.sum(),
        }

    def by_entropy(self, threshold: float, window: tuple[int, int], split: Split) -> Row:
        return self.turns(RollingEntropy(threshold, window[0], window[1]), split)

    def anew(self, threshold: float, split: Split) -> Row:
        """Token by token, an uncertain token of the small model being written by the large one."""
        return self.turns(RollingEntropy(threshold, 1, 1), split, regenerate=True)

    def routing(self, threshold: float, split: Split) -> Row:
        return self.turns(Routed.by(threshold, self.config.routed), split)

    def by_chance(self, like: Row, split: Split) -> Row:
        """A coin that gives the large model the share and the runs of another row."""
        leave = 1 / max(float(like["run"]), 1.0)
        share = min(max(float(like["share"]), 1e-3), 1 - 1e-3)
        enter = min(leave * share / (1 - share), 1.0)
        return self.turns(Coin(enter, leave), split)

    def strip(self, threshold: float, window: tuple[int, int]) -> Row:
        """An answer token by token: texts, entropies, who wrote; the one in which most changes."""
        exam = self.exams["test"]
        decoder = EAD(
            self.generator(self.large, exam), self.small.model, RollingEntropy(threshold, *window)
        )
        result = exam.sit(decoder).result
        large = result.trace.large
        changes = (large[:, 1:] != large[:, :-1]).sum(axis=1)
        row = int(np.argmax(changes))
        length = int(result.length[row])
        codec = self.large.codec
        texts = [
            codec.text.decode([int(t)], skip_special=False) for t in result.tokens[row, :length]
        ]
        return {
            "texts": texts,
            "bits": result.trace.bits[row, :length],
            "large": large[row, :length],
        }
