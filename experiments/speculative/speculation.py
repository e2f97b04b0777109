"""What the experiments on speculation share: texts to decode, how to count, what passes cost.

A `Field` is a target, its draft and prompts of one task. `decode_field` runs any decoder over
the prompts, and `Counts` says what came of it in the terms of the field's papers:

    tokens per call    emitted tokens / passes of the target, the first token of each pass
                       included ("mean accepted tokens", "block efficiency", MAT)
    acceptance         accepted / drafted tokens
    discarded          drafted tokens that were not kept, per emitted token

A modelled speed-up takes counts from a run and costs from this machine: what a pass over n
tokens takes, relative to a pass over one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
from numpy.typing import NDArray

from algorithms.speculative.policies.cost_aware import CostAware
from algorithms.speculative.policies.fixed import Fixed
from experiments import zoo
from experiments.harness.measuring import pass_costs
from experiments.harness.measuring.timing import interleaved
from experiments.inputs.questions import Question, part_of, read_questions, spread
from experiments.inputs.sources import open_model
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.stdlib import StandardLibrary
from experiments.tasks.tokenizer import TaskTokenizer
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder, decode
from jaxdecode.drafter import Searching
from jaxdecode.lm import LanguageModel
from jaxdecode.logits import Identity, LogitsTransform
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.result import Result
from jaxdecode.sampling import Greedy, Sampler
from jaxdecode.speculate import Speculator
from jaxdecode.stop import Stop
from models.text import check_same_tokenizer
from models.transformer import Transformer

PROMPT_TOKENS = 48  # of a standard-library prompt


@dataclass(frozen=True)
class Field:
    """Where speculation is measured.

    Attributes:
      task: its name.
      target: the model whose text is wanted.
      small: a smaller one of the same vocabulary, if there is one.
      ends: end tokens.
      prompts: token sequences of held-out texts.
      max_tokens: tokens to emit for each.
    """

    task: str
    target: Transformer
    small: Transformer | None
    ends: tuple[int, ...]
    prompts: tuple[tuple[int, ...], ...]
    max_tokens: int

    @property
    def draft(self) -> Transformer:
        """The smaller model.

        Raises:
          ValueError: where there is none.
        """
        if self.small is None:
            raise ValueError(f"draft=None: {self.task} is decoded without one; name a small model")
        return self.small

    def generator(
        self, sampler: Sampler | None = None, transform: LogitsTransform | None = None
    ) -> Generator:
        """The target under a sampler (greedy by default) and edits of its logits."""
        return Generator(
            model=self.target,
            transform=transform or Identity(),
            sampler=sampler or Greedy(),
            stop=Stop.of(self.ends),
            max_tokens=self.max_tokens,
        )

    def plain(
        self, sampler: Sampler | None = None, transform: LogitsTransform | None = None
    ) -> Autoregressive:
        """The baseline: one token a pass."""
        return Autoregressive(self.generator(sampler, transform))

    def batches(self, size: int) -> list[Prompt]:
        """The prompts in batches of one shape; the last is filled up by its last prompt."""
        width = bucket(max(map(len, self.prompts)))
        found = []
        for first in range(0, len(self.prompts), size):
            index = list(range(first, min(first + size, len(self.prompts))))
            index += index[-1:] * (size - len(index))
            found.append(Prompt.of([self.prompts[i] for i in index], index, width))
        return found


def open_field(task: str, prompts: int, max_tokens: int, split: str = "test") -> Field:
    """The zoo's target and draft of a task, and prompts that neither was trained on.

    Raises:
      ValueError: for an unknown task, or weights that are not in the zoo.
    """
    if task not in ("stdlib", "arithmetic"):
        raise ValueError(f"task={task!r}: choose 'stdlib' or 'arithmetic'")
    target, draft = zoo.load(task), zoo.load(f"{task}-draft")
    chosen = {"stdlib": library, "arithmetic": problems}[task](target.tokenizer, prompts, split)
    ends = (target.tokenizer.eos_id,)
    model = target.model.unstacked()  # at small batches the faster form
    return Field(task, model, draft.model, ends, tuple(chosen), max_tokens)


def library(codec: TaskTokenizer, count: int, split) -> list[tuple[int, ...]]:
    """Beginnings of lines all over the held-out files of the standard library."""
    tokens = StandardLibrary().tokens(codec, split)
    breaks = np.flatnonzero(tokens[:-PROMPT_TOKENS] == codec.encode("a\n")[-1]) + 1
    starts = breaks[np.linspace(0, len(breaks) - 1, count).astype(int)]
    return [tuple(map(int, tokens[start : start + PROMPT_TOKENS])) for start in starts]


def problems(codec: TaskTokenizer, count: int, split) -> list[tuple[int, ...]]:
    """Expressions of several operations, to be worked out step by step."""
    task = Arithmetic(operations=(4, 6))
    examples = task.sample(np.random.default_rng(11), count, split)
    return [(codec.bos_id, *codec.encode(example.prompt)) for example in examples]


def questioned(
    questions: Path,
    count: int,
    max_tokens: int,
    target: str | None,
    draft: str | None,
    split: str | None = None,
) -> Field:
    """Questions of a Spec-Bench file, for checkpoints by folder or models of the zoo.

    Those of a split where something is tuned on the others, else all. A target by name without
    a draft is decoded without one.

    Raises:
      ValueError: for a bad file, no such model, or a draft of another vocabulary.
    """
    asked = read_questions(questions)
    chosen = spread(asked if split is None else part_of(asked, split), count)
    return asking({"questions": chosen}, max_tokens, target, draft)["questions"]


def asking(
    groups: Mapping[str, Sequence[Question]],
    max_tokens: int,
    target: str | None,
    draft: str | None = None,
) -> dict[str, Field]:
    """A field for each group of questions, on one pair of models; see `questioned`.

    A model with a chat template is asked as its user would.
    """
    if target is None:
        target, draft = "stdlib", draft or "stdlib-draft"
    big = open_model(target)
    small = None if draft is None else open_model(draft)
    if small is not None:
        check_same_tokenizer(big.codec.text, small.codec.text)
    codec = big.codec
    if codec.text.template is not None:
        codec = codec.with_chats([question.text for group in groups.values() for question in group])
    ends, model = tuple(map(int, codec.stop().eos)), big.model.unstacked()
    found = {}
    for name, group in groups.items():
        prompts = tuple(tuple(codec.prompt(question.text)) for question in group)
        found[name] = Field(name, model, small and small.model, ends, prompts, max_tokens)
    return found


@dataclass(frozen=True)
class Counts:
    """What decoding P prompts came to; arrays f64[P] unless said otherwise.

    Attributes:
      emitted, passes, drafted, accepted: tokens, passes of the target over drafts (prefills
        not counted), draft tokens, and those that were kept before the text was cut.
      draft_passes, draft_tokens: of the drafter's own model.
      histogram: passes that accepted 0, 1, ... draft tokens, f64[H].
      seconds: of the whole run, compilation not included; NaN where nobody asked.
      tokens: what was emitted, one array for each prompt.
    """

    emitted: NDArray[np.float64]
    passes: NDArray[np.float64]
    drafted: NDArray[np.float64]
    accepted: NDArray[np.float64]
    draft_passes: NDArray[np.float64]
    draft_tokens: NDArray[np.float64]
    histogram: NDArray[np.float64]
    seconds: float
    tokens: tuple[NDArray[np.int32], ...]

    @property
    def per_call(self) -> float:
        """Emitted tokens for each pass of the target."""
        return float(self.emitted.sum() / self.passes.sum())

    @property
    def acceptance(self) -> float:
        """Share of the drafted tokens that were accepted; 0 where none were drafted."""
        return float(self.accepted.sum() / max(self.drafted.sum(), 1.0))

    @property
    def discarded(self) -> float:
        """Drafted tokens that were not kept, per emitted token."""
        return float((self.drafted - self.accepted).sum() / self.emitted.sum())

    @property
    def verified(self) -> float:
        """Passes of the target per emitted token."""
        return 1 / self.per_call

    @property
    def drafts_per_call(self) -> float:
        """Passes of the draft model for each pass of the target."""
        return float(self.draft_passes.sum() / self.passes.sum())

    def by_prompt(self) -> dict[str, list[int]]:
        """Counts of each prompt, from which intervals are computed."""
        names = ("emitted", "passes", "drafted", "accepted", "draft_passes")
        return {name: getattr(self, name).astype(int).tolist() for name in names}

    def row(self) -> dict[str, float]:
        """The figures of a table."""
        return {
            "tokens_per_call": round(self.per_call, 3),
            "acceptance": round(self.acceptance, 3),
            "discarded": round(self.discarded, 3),
            "draft_passes_per_call": round(self.drafts_per_call, 2),
        }

    def speed_up(self, verify: float, draft: float) -> float:
        """Modelled: times plain decoding, if a pass over root and draft takes `verify` times a
        pass over one token, and a pass of the draft model `draft` times that."""
        return self.per_call / (verify + draft * self.drafts_per_call)


def decode_field(
    field: Field, decoder: Decoder, batch: int = 1, seed: int = 0, timed: bool = False
) -> Counts:
    """Run a decoder over a field's prompts.

    Args:
      timed: whether to take the time. The first batch is then decoded once more before the
        clock starts, for that compiles.
    """
    batches = field.batches(batch)
    if timed:
        jax.block_until_ready(decode(decoder, seed, batches[0]))
    began = time.perf_counter()
    results = [jax.block_until_ready(decode(decoder, seed, prompt)) for prompt in batches]
    seconds = time.perf_counter() - began if timed else math.nan
    return counts(results, len(field.prompts), seconds)


def counts(results: Sequence[Result], prompts: int, seconds: float = math.nan) -> Counts:
    """Count the first `prompts` rows of results of one decoder."""
    host = jax.device_get([replace(result, trace=None) for result in results])
    usage = jax.tree.map(lambda *parts: np.concatenate(parts)[:prompts], *[r.usage for r in host])
    rows = [row[:length] for r in host for row, length in zip(r.tokens, r.length, strict=True)][
        :prompts
    ]

    def number(name: str) -> NDArray[np.float64]:
        return getattr(usage, name).astype(np.float64)

    histogram = number("histogram")
    passes = histogram.sum(1) if histogram.shape[1] > 1 else number("emitted")
    return Counts(
        emitted=number("emitted"),
        passes=passes,
        drafted=number("drafted"),
        accepted=number("accepted"),
        draft_passes=number("draft_passes"),
        draft_tokens=number("draft_tokens"),
        histogram=histogram.sum(0),
        seconds=seconds,
        tokens=tuple(rows),
    )


def agreement(left: Counts, right: Counts) -> float:
    """Share of prompts with the same output."""
    pairs = zip(left.tokens, right.tokens, strict=True)
    return float(np.mean([np.array_equal(a, b) for a, b in pairs]))


def pass_seconds(
    model: LanguageModel, widths: Sequence[int], batch: int = 1, held: int = 96, repeats: int = 7
) -> dict[int, float]:
    """Seconds of one pass over n new tokens with `held` tokens cached, for each n."""
    rows = pass_costs.verify(model, batch, widths, held, repeats)
    return {row["width"]: row["ms"] / 1e3 for row in rows}


def cost_aware(field: Field, speculator: Speculator, batch: int = 1, repeats: int = 5) -> CostAware:
    """A policy that knows this device and this drafter, for batches of `batch` rows.

    Measured on whole runs, so that all the work of a round counts: what rounds with drafts of
    depth 1 and of the greatest take over the first prompts, in steps of plain decoding, and how
    many drafts of one token hold over all of them. Where looking for drafts is free, and so many
    rounds have none, it is the passes that are timed, and a text is soon tried again: there is
    little to lose, and how much a text repeats differs from text to text.
    """
    drafter, depth = speculator.drafter, speculator.drafter.depth
    prompts = field.batches(batch)
    bounded = {n: Autoregressive(replace(speculator, policy=Fixed(n))) for n in (1, depth)}
    single = [decode(bounded[1], 0, prompt).usage for prompt in prompts]
    if isinstance(drafter, Searching):
        cost = pass_seconds(field.target, (1, drafter.nodes + 1), batch)
        passes, drafting, shortest = cost[drafter.nodes + 1] / cost[1], 0.0, 8
    else:
        calls = {
            str(n): lambda d=d: decode(d, 0, prompts[0])
            for n, d in {0: field.plain(), **bounded}.items()
        }
        usage = {"1": single[0]} | {n: calls[n]().usage for n in calls if n != "1"}
        rounds = {n: int(usage[n].histogram.sum(1).max()) for n in calls if n != "0"}
        rounds["0"] = int(usage["0"].emitted.max())
        taken = interleaved(calls, repeats)
        plain, one, most = (min(taken[str(n)]) / rounds[str(n)] for n in (0, 1, depth))
        drafting = max(most - one, 0.0) / max(depth - 1, 1) / plain
        passes, shortest = one / plain - drafting, 64
    drafted, held = (sum(int(getattr(u, n).sum()) for u in single) for n in ("drafted", "accepted"))
    return CostAware(
        passes=[1.0] + [max(passes, 1.0)] * depth,
        drafting=drafting,
        acceptance=held / max(drafted, 1),
        shortest=shortest,
        longest=512,
        together=True,
    )
