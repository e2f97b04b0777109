"""The setting of Learn2PD: traces, filters, and every way of decoding that is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.diffusion import oracle
from algorithms.diffusion.choosers import Factor, Threshold
from algorithms.diffusion.filter import Filter, Lesson, fingerprint, quality, train
from algorithms.diffusion.learn2pd import learn2pd
from experiments.diffusion.canvas_ground import Ground, Questions
from experiments.harness.report import Out, Seed
from jaxdecode.choose import Fixed, Top
from jaxdecode.ending import Ending, EndOfText, Whole
from jaxdecode.guess import Chooser
from jaxdecode.rows import Expander
from jaxdecode.sampling import Greedy
from jaxdecode.unmask import Unmasker

LISTS = "lists"


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      denoiser: a name in the zoo, or the folder of a published denoiser.
      data: folder of GSM8K's files, for a published denoiser.
      places, block: of a canvas.
      lengths: places of the canvases on which the gain is followed.
      lessons: training questions whose traces teach the filter.
      tuning: validation questions on which thresholds are chosen.
      questions: test questions.
      long: test questions asked on the canvases of several lengths.
      taus, thresholds, factors, counts: what is chosen from, or compared with; thresholds reach
        below the lowest tau, so that the end of their range is not what the filter gains by.
      depths: layers of the filter; two is the method's.
      steps: of training.
      caches: beside none.
    """

    denoiser: str = "denoiser"
    data: Path | None = None
    places: int = 32
    block: int = 8
    lengths: tuple[int, ...] = (16, 32, 64)
    lessons: int = 96
    tuning: int = 32
    questions: int = 64
    long: int = 24
    taus: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9, 0.96)
    thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
    factors: tuple[float, ...] = (0.7, 1.0, 1.3)
    counts: tuple[int, ...] = (2, 4)
    depths: tuple[int, ...] = (1, 2, 4)
    steps: int = 3000
    caches: tuple[str, ...] = ("prefix", "dual")
    seed: Seed = 0
    out: Out = None

    def __post_init__(self) -> None:
        for name in ("places", "block", "lessons", "tuning", "questions", "long", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        wrong = [n for n in (self.places, *self.lengths) if n % self.block]
        if wrong or len(self.lengths) < 2:
            raise ValueError(f"lengths={self.lengths}: two or more, all multiples of {self.block}")
        if 2 not in self.depths:
            raise ValueError(f"depths={self.depths}: the method's filter has 2 layers")
        if self.long > self.questions:
            raise ValueError(f"long={self.long}: they are among the {self.questions} questions")

    @property
    def measures(self) -> int:
        """How many rows a run measures."""
        kinds = self.thresholds, self.factors, self.counts, self.caches, self.depths
        filters = len(self.taus) * len(self.depths) + 2 * (self.data is None)
        own = self.places in self.lengths
        return 5 + sum(map(len, kinds)) + filters + 3 * (len(self.lengths) - own)

    def kind(self, depth: int) -> str:
        """What the policies of a filter of so many layers are called."""
        return "filter" if depth == 2 else f"{depth} layers"


@dataclass(frozen=True)
class Study:
    """What a configuration stands for."""

    config: Config
    ground: Ground

    @cached_property
    def asked(self) -> Questions:
        """Validation questions first, then test questions: one batch."""
        c, task = self.config, self.ground
        tuning = task.questions(c.tuning, c.seed, "validation")
        test = task.questions(c.questions, c.seed, "test")
        return joined(tuning, test)

    @cached_property
    def few(self) -> Questions:
        """The first test questions."""
        first = self.config.tuning
        return self.asked.of(range(first, first + self.config.long))

    @property
    def names(self) -> list[str]:
        """The task of every question."""
        return self.asked.names

    @property
    def filters(self) -> list[tuple[str, int, bool]]:
        """Name, layers, and whether list operations alone teach it."""
        every = [(f"{depth} layers", depth, False) for depth in self.config.depths]
        several = self.config.data is None
        return [*every, ("of lists", 2, True)] if several else every

    def decoding(
        self, chooser: Chooser, ending: Ending | None = None, places: int | None = None
    ) -> Unmasker:
        """The canvas without a cache, filled whole unless an ending says otherwise."""
        return Unmasker(
            self.ground.denoiser,
            chooser,
            Greedy(),
            self.ground.stop,
            places or self.config.places,
            self.config.block,
            ending=ending or Whole(),
        )

    def traces(self) -> dict[str, Any]:
        """What the oracle met on training questions, and the passes it made for each block."""
        c = self.config
        taught = self.ground.questions(c.lessons, c.seed, "train")
        lesson = oracle.lesson(self.decoding(Top()), jax.random.key(c.seed), taught.prompt)
        number = np.asarray(lesson.prompt)
        passes = np.bincount(number, minlength=c.lessons)
        return {
            "confidence": np.round(lesson.confidence, 5).tolist(),
            "label": lesson.label.tolist(),
            "open": lesson.open.tolist(),
            "prompt": number.tolist(),
            "passes": passes.tolist(),
            "lists": [i for i, name in enumerate(taught.names) if name == LISTS],
        }

    def teach(self, traces: Mapping[str, Any], depth: int, lists: bool) -> dict[str, Any]:
        """A filter taught on four fifths of the questions and judged on the rest."""
        c = self.config
        lesson = Lesson(*(np.asarray(traces[name]) for name in Lesson._fields))
        order = np.random.default_rng(c.seed).permutation(c.lessons)
        held, seen = order[: max(c.lessons // 5, 1)], order[max(c.lessons // 5, 1) :]
        if lists:
            seen = np.intersect1d(seen, traces["lists"])
        start = Filter.random(c.seed, c.block, depth)
        filter, losses = train(start, lesson.of_prompts(seen.tolist()), c.steps)
        judged = quality(filter, lesson.of_prompts(held.tolist()), 0.9)
        weights = [[np.asarray(x).tolist() for x in layer] for layer in filter.layers]
        return {"layers": weights, "loss": float(losses[-1]), **judged._asdict()}

    def filter(self, taught: Mapping[str, Any]) -> Filter:
        """The filter of a row, marked as this denoiser's."""
        layers = tuple((jnp.array(w), jnp.array(b)) for w, b in taught["layers"])
        return Filter(layers, fingerprint(self.ground.denoiser))

    def learned(
        self,
        filter: Filter,
        tau: float,
        ending: Ending | None = None,
        places: int | None = None,
        **options: Any,
    ) -> Unmasker:
        """Decoding by a filter."""
        return learn2pd(
            self.ground.denoiser,
            filter,
            self.ground.stop,
            places or self.config.places,
            jnp.float32(tau),
            ending or Whole(),
            **options,
        )

    def policies(self, taught: Mapping[str, Mapping[str, Any]]) -> dict[str, Expander]:
        """All that thresholds are chosen from, and what they are compared with."""
        c = self.config
        made: dict[str, Expander] = {"static": self.decoding(Top(Fixed(jnp.int32(1))))}
        made |= {f"fixed {k}": self.decoding(Top(Fixed(jnp.int32(k)))) for k in c.counts}
        for value in c.thresholds:
            made[f"threshold {value:g}"] = self.decoding(Threshold(jnp.float32(value)))
        for value in c.factors:
            made[f"factor {value:g}"] = self.decoding(Factor(jnp.float32(value)))
        for depth in c.depths:
            filter = self.filter(taught[f"{depth} layers"])
            made |= {f"{c.kind(depth)} {tau:g}": self.learned(filter, tau) for tau in c.taus}
        return made

    def tuned(self, found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """By validation questions: the fewest passes at no more than a point below static."""
        first = self.config.tuning

        def at(name: str, what: str) -> float:
            return float(np.mean(found[name][what][:first]))

        chosen = {}
        for kind in ("threshold", *map(self.config.kind, self.config.depths)):
            names = [name for name in found if name.startswith(kind)]
            sound = [n for n in names if at(n, "right") >= at("static", "right") - 0.01]
            chosen[kind] = (
                min(sound, key=lambda name: at(name, "passes"))
                if sound
                else max(names, key=lambda name: at(name, "right"))
            )
        return chosen

    def final(
        self, taught: Mapping[str, Mapping[str, Any]], tuned: Mapping[str, str]
    ) -> dict[str, Expander]:
        """The tuned filter with ends foreseen and with caches, and the one taught on lists."""
        tau, filter = value_of(tuned["filter"]), self.filter(taught["2 layers"])
        made: dict[str, Expander] = {"ends": self.learned(filter, tau, EndOfText())}
        for cache in self.config.caches:
            made[f"ends, {cache}"] = self.learned(filter, tau, EndOfText(), cache=cache)
        for name in taught:
            if "layers" not in name:
                made[f"by {name}"] = self.learned(self.filter(taught[name]), tau)
        return made

    def lengths(
        self, taught: Mapping[str, Mapping[str, Any]], tuned: Mapping[str, str]
    ) -> dict[str, Expander]:
        """Static decoding, the filter, and the filter with ends, on every length of canvas."""
        tau, filter = value_of(tuned["filter"]), self.filter(taught["2 layers"])
        longest = max(self.config.lengths)
        made: dict[str, Expander] = {}
        for n in self.config.lengths:
            if n == self.config.places:
                continue  # asked already, see `already`
            made[f"static, {n} places"] = self.decoding(Top(), places=n)
            made[f"filter, {n} places"] = self.learned(filter, tau, places=n)
            made[f"ends, {n} places"] = self.learned(filter, tau, EndOfText(), places=n)
        dual = self.learned(filter, tau, EndOfText(), places=longest, cache="dual")
        return made | {f"ends, dual, {longest} places": dual}

    def already(
        self, found: Mapping[str, Mapping[str, Any]], tuned: Mapping[str, str]
    ) -> dict[str, dict[str, Any]]:
        """What the canvas of the other comparisons says of the few questions."""
        n, first = self.config.places, self.config.tuning
        if n not in self.config.lengths:
            return {}
        keys, few = ("right", "passes", "tokens"), slice(first, first + self.config.long)
        return {
            f"{name}, {n} places": {key: found[was][key][few] for key in keys}
            for name, was in (("static", "static"), ("filter", tuned["filter"]), ("ends", "ends"))
        }


def value_of(name: str) -> float:
    """The parameter in a policy's name."""
    return float(name.split()[-1])


def joined(one: Questions, other: Questions) -> Questions:
    """Two lots of questions as one."""
    width = max(one.prompt.tokens.shape[1], other.prompt.tokens.shape[1])

    def wide(tokens: Any) -> Any:
        return np.pad(np.asarray(tokens), ((0, 0), (0, width - tokens.shape[1])))

    a, b = one.prompt, other.prompt
    prompt = type(a)(
        tokens=jnp.asarray(np.concatenate([wide(a.tokens), wide(b.tokens)])),
        length=jnp.concatenate([a.length, b.length]),
        id=jnp.arange(a.batch + b.batch),
    )
    return Questions([*one.names, *other.names], [*one.examples, *other.examples], prompt)
