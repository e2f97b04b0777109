"""The setting of the experiment on ICN: a model of lists, a model of ways, what both are asked."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from experiments.harness.report import Out, Seed
from experiments.harness.resumption import fingerprint
from experiments.inputs.sources import Codec
from experiments.tasks.batches import ExampleBatches
from experiments.tasks.task import Example, Split
from experiments.tasks.tokenizer import TaskTokenizer
from experiments.tokens.icn.categories import QUOTE, Categories
from experiments.tokens.icn.ways import Ways
from experiments.zoo.recipe import as_dict
from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.losses import next_token
from jaxdecode.train.optimizer import Optimizer
from models.presets import small
from models.tokenizer_files import load_tokenizer
from models.transformer import Transformer


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      world: categories and names.
      steps, rows: of training the model of lists.
      hidden: its width.
      items: explored of each category.
      runs: of navigation; each divides `items`.
      ranks, top: of one law that are decoded and judged, and how many of them are its first.
      clusters: tokens to a cluster, on average.
      beams: of the diverse beam search; 0 leaves it out.
      penalties: that an explored cluster costs in reranking, in nats.
      taught, lessons: categories that a new member is taught of, and updates.
      way_steps: of training the model of ways.
      questions: asked of it.
    """

    world: Categories = field(default_factory=Categories)
    steps: int = 1200
    rows: int = 32
    hidden: int = 64
    items: int = 10
    runs: tuple[int, ...] = (2, 5, 10)
    ranks: int = 60
    top: int = 5
    clusters: int = 12
    beams: int = 10
    penalties: tuple[float, ...] = (1.0, 3.0)
    taught: int = 15
    lessons: int = 40
    way_steps: int = 2000
    questions: int = 200
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        for runs in self.runs:
            if runs < 1 or self.items % runs:
                raise ValueError(f"runs={self.runs}: {runs} does not divide items={self.items}")
        if not self.items <= self.world.most:
            raise ValueError(
                f"items={self.items}: lists of more than {self.world.most} are never seen"
            )
        if not 0 < self.top < self.ranks or self.ranks < self.items:
            raise ValueError(
                f"ranks={self.ranks}, top={self.top}: more ranks than first ones, and no fewer "
                f"than items={self.items}"
            )
        if not 0 < self.taught <= self.world.count:
            raise ValueError(f"taught={self.taught}: of {self.world.count} categories")


def codec_of(strict: TaskTokenizer) -> Codec:
    with tempfile.TemporaryDirectory() as folder:
        strict.save(Path(folder))
        return Codec(load_tokenizer(folder), strict)


@dataclass(frozen=True)
class Lists:
    """A model of lists and what it is asked.

    Attributes:
      model: trained on the world's texts.
      categories: that are asked for, by number.
    """

    world: Categories
    model: Any
    codec: Codec
    categories: tuple[int, ...]

    @property
    def generator(self) -> Generator:
        """Items are closed by a quotation mark."""
        stop = Stop.of(self.codec.piece(QUOTE))
        return Generator(self.model, Identity(), Greedy(), stop, 4)

    @property
    def prompt(self) -> Prompt:
        return Prompt.of([self.codec.prompt(self.world.asked(c)) for c in self.categories])

    def between(self, count: int) -> list[list[int]]:
        """What stands between `count` items; numbers go as far as lists do."""
        last = self.world.most - 1
        return [self.codec.piece(self.world.between(min(i, last))) for i in range(1, count)]

    def judged(self, row: int, tokens: np.ndarray, length: int) -> tuple[str, bool]:
        """(item, whether it belongs to the category) of an answer to prompt `row`."""
        said = self.codec.decode(tokens[:length].tolist())
        item = said.removesuffix(QUOTE).strip()
        closed = said.endswith(QUOTE)
        return item, closed and item in self.world.right(self.categories[row])


@dataclass(frozen=True)
class Sums:
    """A model of ways and the questions it is asked."""

    model: Any
    codec: Codec
    examples: tuple[Example, ...]

    @property
    def prompt(self) -> Prompt:
        return Prompt.of([self.codec.prompt(e.prompt) for e in self.examples])


@dataclass(frozen=True)
class School:
    """Trains the small models; of a run that was stopped the weights are kept."""

    config: Config

    def train(self, name: str, model: Any, task: Any, codec: Any, **how: Any) -> Any:
        config, steps = self.config, how["steps"]
        stream = ExampleBatches(task, codec, how["rows"], how["widths"], config.seed, pool=8)
        store = None
        if config.out is not None:
            folder = Path(config.out) / "trained" / fingerprint(config) / name
            store = Checkpoints(folder, steps)
        warmup = max(1, steps // 20)
        optimizer = Optimizer(how.get("rate", 3e-3), steps, warmup=warmup).build()
        return fit(model, next_token, as_dict(stream), optimizer, steps, store)

    def fresh(self, vocab: int, hidden: int) -> Transformer:
        """The keys are a table of their own, as those of the published models are."""
        shape = small(vocab, hidden=hidden, layers=2, tied=False)
        return Transformer(shape, rngs=nnx.Rngs(self.config.seed))

    def lists(self) -> Lists:
        """The model of lists."""
        config, strict = self.config, self.config.world.tokenizer()
        longest = 8 + 5 * config.world.most
        model = self.train(
            "lists",
            self.fresh(strict.vocab_size, config.hidden),
            config.world,
            strict,
            steps=config.steps,
            rows=config.rows,
            # Where all are short, shorter ones are not worth programs of their own.
            widths=(8, 32, longest) if longest > 48 else (longest,),
        )
        return Lists(config.world, model, codec_of(strict), tuple(range(config.world.count)))

    def taught(self, lists: Lists) -> tuple[Any, dict[int, int]]:
        """The model after learning a new member of some categories, and which names they are."""
        config, rng = self.config, np.random.default_rng((self.config.seed, 3))
        new: dict[int, int] = {}
        for category in rng.choice(config.world.count, config.taught, replace=False):
            known = set(config.world.members[category].tolist())
            free = [n for n in range(len(config.world.names)) if n not in known]
            new[int(category)] = int(rng.choice(free))
        assert lists.codec.strict is not None
        model = self.train(
            "taught",
            lists.model,
            Lessons(config.world, new),
            lists.codec.strict,
            steps=config.lessons,
            rows=config.rows,
            widths=(12,),
            rate=1e-3,
        )
        return model, new

    def sums(self) -> Sums:
        """The model of ways."""
        config, task = self.config, Ways()
        strict = task.tokenizer()
        model = self.train(
            "ways",
            self.fresh(strict.vocab_size, 64),
            task,
            strict,
            steps=config.way_steps,
            rows=48,
            widths=(40,),
        )
        rng = np.random.default_rng((config.seed, 4))
        found: dict[str, Example] = {}
        while len(found) < config.questions:
            some = task.sample(rng, config.questions, "test")
            found |= {e.prompt: replace(e, target="") for e in some}
        return Sums(model, codec_of(strict), tuple(list(found.values())[: config.questions]))


@dataclass(frozen=True)
class Lessons:
    """Lists of a new member alone: category -> its name's number."""

    world: Categories
    new: Mapping[int, int]
    name = "lessons"

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        chosen = [int(c) for c in rng.choice(list(self.new), count)]
        return [
            Example(self.world.asked(c), f"{self.world.entities[self.new[c]]} {QUOTE}")
            for c in chosen
        ]
