"""RASD: retrieved continuations, pruned by the drafter's law and fused with its tree.

Claims (Quan et al. 2025, arXiv 2503.03434): fused drafts are accepted longer than those of the
drafter alone and of retrieval alone, with retrieval from a corpus (REST) and from the text
itself (prompt lookup); most where the drafter is out of its domain; pruning by the drafter and
fusing by longest prefix match both matter.

    python -m experiments rasd --preset cpu

The target is the zoo's model of the standard library's source. Two EAGLE heads draft for it: the
shipped one, and one trained here on arithmetic, for which source is out of its domain. Two
tasks, greedy: "code" continues held-out files, with the train files as the corpus; "quote"
continues a passage whose beginning is repeated, so that the answer stands in the prompt. No text
that is to be written is in the corpus. All methods verify the same most nodes. About 3 minutes on
two cores. `MAT` are tokens for each pass of the target, its own included. To expect: with the
head in its domain RASD is above both parents; the other head knows so little of source that it
prunes what retrieval has right, and RASD without pruning is best with it.

Published setting: give a checkpoint, questions, and an EAGLE head that `models.heads.files` wrote;
retrieval is from the text itself.

    --preset paper --config.target DIR --config.questions question.jsonl --config.head DIR
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from numpy.typing import NDArray

from algorithms.sampling.autoregressive import Autoregressive
from algorithms.speculative.drafters.retrieval import Datastore, Retrieval, Source, Within
from algorithms.speculative.eagle import eagle2
from algorithms.speculative.rasd import rasd
from algorithms.speculative.verifiers.match import Match
from experiments import zoo
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from experiments.speculative.speculation import Counts, Field, agreement, decode_field
from experiments.speculative.trained_heads import HeadTraining, field_of, head_of, library, train
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.task import Split
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.speculate import Speculator
from jaxdecode.train.frozen import Lesson
from models.heads.eagle import Eagle

LESSON = Lesson(feature=1.0, soft=1.0)
TRAINING = HeadTraining(steps=100)
PASSAGE, CUE = 72, 12  # tokens of a quoted passage, and of its beginning that is repeated


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


PRESETS = {
    "smoke": Config(
        prompts=2,
        max_tokens=12,
        batch=2,
        tasks=("quote",),
        heads=("in domain",),
        width=2,
        length=2,
        nodes=6,
        extra=3,
        ablations=False,
        training=HeadTraining(steps=2, rows=2, width=32),
    ),
    "cpu": Config(),
    "paper": Config(
        prompts=480,
        max_tokens=1024,
        batch=1,
        tasks=("questions",),
        heads=("in domain",),
        width=10,
        length=6,
        nodes=75,
        extra=16,
        target="",
        questions=Path("question.jsonl"),
        head="",
    ),
}


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
    }


def run(config: Config) -> Report:
    """Every method on every task with every head."""
    base = field_for(config, config.tasks[0])
    own = head_of(Eagle, "stdlib-eagle", config.head, base)
    if own is None:
        raise ValueError("head: the zoo has no 'stdlib-eagle'; give a folder")
    heads = {"in domain": own}
    if "out of domain" in config.heads:
        fresh = Eagle.of(base.target, rngs=nnx.Rngs(config.seed))
        folder = None if config.out is None else config.out / "heads"
        taught = train(base.target, {"eagle": fresh}, LESSON, config.training, folder, sums)
        heads["out of domain"] = taught["eagle"]
    runs = len(config.tasks) * len(config.heads) * (5 if config.ablations else 3)
    rows: list[dict[str, Any]] = []
    with Resumption(config) as finished, Progress("rasd", runs) as progress:
        for task in config.tasks:
            field = field_for(config, task)
            plain = decode_field(field, field.plain(), config.batch, config.seed)
            source = source_for(config, task, field)
            for domain in config.heads:
                for method, make in methods(config, field, source, heads[domain]).items():
                    key = {"task": task, "drafter": domain, "method": method}
                    # Retrieval alone has no head: it is run once.
                    name = f"{task}, {'' if method == 'retrieval' else domain}, {method}"
                    row = finished.row(
                        name,
                        lambda make=make, field=field, plain=plain: measure(
                            config, field, plain, make()
                        ),
                    )
                    rows.append(key | row)
                    progress.advance(note=name)
    draw(config, rows)
    return Report(claims(config, rows), rows, seconds=finished.seconds)


def table(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, float]]:
    """(task, drafter) -> method -> tokens a pass."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        found.setdefault((row["task"], row["drafter"]), {})[row["method"]] = row["MAT"]
    return found


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Tokens a pass of every method, a panel for each task."""
    path = config.out and config.out / "figure.png"
    found = table(rows)
    names = list(next(iter(found.values())))
    with figure(path, columns=len(config.tasks), width=4.6) as axes:
        for axis, task in zip(axes, config.tasks, strict=True):
            at = np.arange(len(names))
            share = 0.8 / len(config.heads)
            for i, domain in enumerate(config.heads):
                values = [found[task, domain][name] for name in names]
                axis.barh(at + i * share, values, share, label=f"drafter {domain}")
            axis.set_yticks(at + share * (len(config.heads) - 1) / 2, names)
            axis.invert_yaxis()
            axis.set(xlabel="tokens for each pass of the target", title=task)
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """By rules fixed before measuring."""
    cells = table(rows)

    def listed(*names: str) -> str:
        return "; ".join(
            f"{task}, {domain}: " + ", ".join(f"{name} {mats[name]:.2f}" for name in names)
            for (task, domain), mats in cells.items()
        )

    found = [
        Claim(
            "fused drafts are accepted longer than either parent's, at the same most nodes",
            "on every task",
            listed("retrieval", "EAGLE-2", "RASD"),
            all(m["RASD"] > max(m["retrieval"], m["EAGLE-2"]) for m in cells.values()),
        )
    ]
    if len(config.heads) > 1:
        gain = {key: mats["RASD"] / mats["EAGLE-2"] for key, mats in cells.items()}
        found.append(
            Claim(
                "the gain over the drafter is larger where it is out of its domain",
                "on every task",
                "; ".join(f"{task}, {domain}: {g:.2f}" for (task, domain), g in gain.items()),
                all(
                    gain[task, config.heads[1]] > gain[task, config.heads[0]]
                    for task in config.tasks
                ),
            )
        )
    if config.ablations:
        for name, paper in (
            ("RASD, not pruned", "pruning matters"),
            ("RASD, not fused", "fusion matters"),
        ):
            means = [float(np.mean([m[n] for m in cells.values()])) for n in ("RASD", name)]
            found.append(
                Claim(
                    f"{name.split(', ')[1]}, drafts are accepted less far on average",
                    paper,
                    f"{means[0]:.3f} against {means[1]:.3f}",
                    means[0] > means[1],
                )
            )
    same = float(np.mean([row["same_text"] for row in rows]))
    found.append(Claim("the text is plain decoding's", "lossless", f"{same:.1%} equal", same == 1))
    return found
