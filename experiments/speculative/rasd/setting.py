"""The setting of the experiment on RASD: fields of text, corpora, and methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithms.speculative.drafters.retrieval import Datastore, Retrieval, Source, Within
from algorithms.speculative.eagle import eagle2
from algorithms.speculative.rasd import rasd
from algorithms.speculative.verifiers.match import Match
from experiments import zoo
from experiments.harness.report import Out, Seed
from experiments.speculative.speculation import Counts, Field, agreement, decode_field
from experiments.speculative.trained_heads import HeadTraining, field_of, library
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.task import Split
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.plain import Autoregressive
from jaxdecode.speculate import Speculator
from jaxdecode.train.frozen import Lesson
from models.heads.eagle import Eagle

PASSAGE, CUE = 72, 12  # tokens of a quoted passage, and of its beginning that is repeated
LESSON = Lesson(feature=1.0, soft=1.0)
TRAINING = HeadTraining(steps=100)


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
      prompts, max_tokens, batch: texts, their length, how many at a time.
      tasks: "code", "quote"; with questions, "questions".
      heads: "in domain" (shipped or given), "out of domain" (trained on arithmetic).
      width, length: of EAGLE-2's tree.
      nodes: verified by every method, of which `extra` may be retrieved.
      candidates: first tokens that retrieved continuations may have.
      ablations: whether RASD is also run without pruning and without fusion.
      corpus: tokens of the datastore.
      training: of the head trained here.
      target, questions, head: folders and a file for the published setting.
    """

    prompts: int = 16
    max_tokens: int = 48
    batch: int = 16
    tasks: tuple[str, ...] = ("code", "quote")
    heads: tuple[str, ...] = ("in domain", "out of domain")
    width: int = 4
    length: int = 4
    nodes: int = 24
    extra: int = 10
    candidates: int = 10
    ablations: bool = True
    corpus: int = 400_000
    training: HeadTraining = TRAINING
    target: str | None = None
    questions: Path | None = None
    head: str | None = None
    seed: Seed = 0
    out: Out = None


def sums(split: Split) -> NDArray[np.int32]:
    """Worked arithmetic in the tokens of the target."""
    codec = zoo.load("stdlib").tokenizer
    examples = Arithmetic(operations=(2, 5)).sample(np.random.default_rng(5), 3000, split)
    texts = codec.encode_many([f"{e.prompt}{e.target}\n" for e in examples])
    return np.concatenate([[*text, codec.eos_id] for text in texts]).astype(np.int32)


def quotes(field: Field) -> Field:
    """The field with prompts that repeat the beginning of a passage they hold."""
    tokens = library("test")
    starts = np.linspace(0, len(tokens) - 2 * PASSAGE, len(field.prompts)).astype(int)
    passages = [tuple(map(int, tokens[start : start + PASSAGE])) for start in starts]
    return replace(field, prompts=tuple(p + p[:CUE] for p in passages))


def field_for(config: Config, task: str) -> Field:
    """The prompts of a task.

    Raises:
      ValueError: for an unknown task.
    """
    if task not in ("code", "quote", "questions"):
        raise ValueError(f"tasks={config.tasks}: choose from 'code', 'quote' and 'questions'")
    field = field_of(config.prompts, config.max_tokens, config.target, config.questions)
    return quotes(field) if task == "quote" else field


def source_for(config: Config, task: str, field: Field) -> Source:
    """A corpus of train files for code, else the text itself."""
    if task != "code":
        return Within(matches=8)
    tokens = library("train")[: config.corpus]
    ends = np.flatnonzero(tokens == zoo.load("stdlib").tokenizer.eos_id) + 1
    documents = [part.tolist() for part in np.split(tokens, ends) if len(part)]
    return Datastore(Corpus.of(documents, field.target.vocab_size), matches=32)


def methods(
    config: Config, field: Field, source: Source, head: Eagle
) -> dict[str, Callable[[], Speculator]]:
    """Every method at the same most nodes."""
    generator, own = field.generator(), config.nodes - config.extra
    tree = (config.width, config.length)

    def fused(candidates: int, merge: bool) -> Speculator:
        return rasd(generator, head, source, *tree, own, config.extra, candidates, merge)

    found: dict[str, Callable[[], Speculator]] = {
        "retrieval": lambda: Speculator(generator, Retrieval(source, config.nodes), Match()),
        "EAGLE-2": lambda: eagle2(generator, head, *tree, config.nodes),
        "RASD": lambda: fused(config.candidates, True),
    }
    if config.ablations:
        found["RASD, not pruned"] = lambda: fused(0, True)
        found["RASD, not fused"] = lambda: fused(config.candidates, False)
    return found


def measure(config: Config, field: Field, plain: Counts, speculator: Speculator) -> dict[str, Any]:
    """Decode the prompts."""
    found = decode_field(field, Autoregressive(speculator), config.batch, config.seed)
    return {
        "MAT": found.per_call,
        "nodes": float(found.drafted.sum() / found.passes.sum()),
        "draft_passes": found.drafts_per_call,
        "same_text": agreement(found, plain),
        "by prompt": found.by_prompt(),
    }
