"""Sequential Monte-Carlo guided decoding, planning's rival without a tree (Zhang et al. 2023,
arXiv 2303.05510).

A population of n prefixes grows token by token. Every round each place of the population draws
a parent in proportion to fitness, and a next token among the k most probable. A text that has
ended leaves the population; every other is completed greedily, and the reward of the completion
is its fitness. Fitness that is 0 throughout is uniform. All completed texts are candidates, and
the best of them is returned, the first of equals.

The particles, their weights and their redrawing are `particles.Resampling` over steps of one
token; what is new is that a particle is weighed by how it would end. A completion that begins
with a later prefix is that prefix's too, and is no generation, nor is the second of two equal
ones of a round. They are run all the same, beside the others.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from algorithms.search.particles import Resampling, Swarm
from algorithms.search.texts import Text, beginning, best_text, noted
from jaxdecode import struct
from jaxdecode.arena import Choice, Evaluator, Search
from jaxdecode.autoregress import Generator
from jaxdecode.cache import put
from jaxdecode.lm import LanguageModel
from jaxdecode.logits import LogitsTransform
from jaxdecode.nodes import Arena, Fresh, insert, look
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import check_start
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from jaxdecode.types import Array, Int, Key


@struct.dataclass
class Foresight:
    """The expander: one drawn token a lane, and the greedy text behind it as its outlook.

    The text is run in the slots that follow and leaves nothing behind. `note` of what is grown
    are the texts.
    """

    generator: Generator

    @property
    def model(self) -> LanguageModel:
        return self.generator.model

    @property
    def transform(self) -> LogitsTransform:
        return self.generator.transform

    @property
    def max_tokens(self) -> int:
        return self.generator.max_tokens

    @property
    def width(self) -> int:
        return self.max_tokens + 1

    @property
    def depth(self) -> int:
        return self.max_tokens

    def grow(self, key: Key[Array, ""], arena: Arena, choice: Choice) -> tuple[Arena, Fresh]:
        never, longest = Stop.of(()), self.max_tokens
        arena, fresh = StepSampler(self.generator, never, 1, longest + 1).grow(key, arena, choice)
        trial, child = insert(arena, fresh)
        going = look(trial.status, child) == Status.RUNNING
        ends = StepSampler(self.generator, never, longest, longest + 1)
        parents = jnp.where((child >= 0) & going, child, -1)
        greedy = jnp.ones_like(choice.greedy)
        trial, text = ends.grow(key, trial, Choice(parents, greedy, choice.done))
        on = parents >= 0
        said = Text(
            jnp.where(on[..., None], text.tokens, fresh.tokens),
            jnp.where(on, text.length, fresh.length),
            jnp.where(on, text.status, fresh.status).astype(jnp.int32),
            jnp.where(on, text.logprob, fresh.logprob),
        )
        arena = replace(arena, cache=trial.cache, usage=trial.usage)
        return arena, replace(fresh, outlook=(said.tokens, said.length), note=said)


@struct.dataclass
class Population:
    """The note: the particles, what completes every node, and completions that were new.

    `when` i32[B, N] are those until a node was made, its own included.
    """

    swarm: Swarm
    text: Text
    generations: Int[Array, "B"]
    when: Int[Array, "B N"]


@struct.dataclass
class Growth:
    """The strategy: `Resampling`, with an eye on all completed texts."""

    resampling: Resampling

    @property
    def lanes(self) -> int:
        return self.resampling.lanes

    def init(self, arena: Arena) -> Population:
        status = jnp.full(arena.length.shape, Status.INVALID, jnp.int32)
        text = Text(arena.tokens, arena.length, status, arena.logprob)
        return Population(
            self.resampling.init(arena),
            text,
            jnp.zeros_like(arena.nodes),
            jnp.zeros_like(arena.length),
        )

    def select(
        self, key: Key[Array, ""], arena: Arena, note: Population, step: Int[Array, ""]
    ) -> tuple[Choice, Population]:
        choice, swarm = self.resampling.select(key, arena, note.swarm, step)
        return choice, replace(note, swarm=swarm)

    def backup(
        self, arena: Arena, note: Population, fresh: Fresh, child: Int[Array, "B K"]
    ) -> Population:
        seek = jax.vmap(beginning, (None, 1, 1), 1)
        seen, _ = seek(note.text, fresh.tokens, fresh.length)
        equal = jnp.all(fresh.tokens[:, :, None] == fresh.tokens[:, None], axis=3)
        before = jnp.tri(child.shape[1], k=-1, dtype=bool) & fresh.alive[:, None]
        seen |= jnp.any(equal & before, axis=2)
        wrote = fresh.alive & (fresh.status == Status.RUNNING) & ~seen
        node = jnp.where(child >= 0, child, note.text.length.shape[1])
        written = note.generations[:, None] + jnp.cumsum(wrote, axis=1)
        return Population(
            self.resampling.backup(arena, note.swarm, fresh, child),
            noted(note.text, node, fresh.note),
            written[:, -1],
            put(note.when, node, written),
        )


@struct.dataclass
class SequentialMonteCarlo:
    """Sequential Monte-Carlo guided decoding; the trace is `Searched`, its note `Population`.

    Attributes:
      generator: draws the tokens; the authors take the 3 most probable at temperature 1.
      evaluator: the reward of completed texts, in [0, 1].
      particles: static, n; the authors take 200.
    """

    generator: Generator
    evaluator: Evaluator
    particles: int = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        if self.particles < 1:
            raise ValueError(f"particles={self.particles}: at least 1 is needed")

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    @property
    def search(self) -> Search:
        rules = Resampling(self.particles, 1, "proportional", "last", False, 1, 1.0, 1.0)
        ahead, strategy = Foresight(self.generator), Growth(rules)
        most = self.particles * ahead.depth
        slots = most + self.particles * ahead.width
        return Search(ahead, self.evaluator, strategy, ahead.depth + 1, 1 + most, slots)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        arena, note, _ = self.search.run(key, prompt)
        return best_text(self.generator.model, arena, note.text, note)
