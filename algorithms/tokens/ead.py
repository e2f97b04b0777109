"""EAD: two models of one family take turns, by the entropy of what they write (Simonds 2025,
arXiv 2502.06833).

The model whose turn it is says the next token's law, of which a token is drawn and the entropy
noted, untempered and in bits; a `Switch` makes of it who writes the next one. Nothing is
verified: the text is neither model's. Each model has a cache of its own, and reads what the
other has written when its turn comes, in strides; the prompt too, which a model that is never
called never reads.

The published text leaves open when caches are filled, who begins, how the first tokens are
averaged, whether a change empties the window, and whether the token at which the entropy rose is
written anew: `caches`, `regenerate` and the fields of `RollingEntropy` are these, the defaults
the plainest reading. Caches make no difference to the text.

`EAD` is an expander, for whatever takes a generator, and a decoder. The usage counts the large
model as the target and the small one as the draft, both with what they read to catch up; the
log-probability is that under whoever wrote.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from algorithms.tokens.rules.switches import Switch
from jaxdecode import autoregress, entropy, struct
from jaxdecode.appending import append
from jaxdecode.autoregress import Generator, fork
from jaxdecode.cache import Cache, put, resize, spread, truncate
from jaxdecode.follower import CHUNK, Follower, catch_up
from jaxdecode.judge import stream
from jaxdecode.lm import LanguageModel, Prefill
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Usage
from jaxdecode.rows import Rows, check_start, run_until
from jaxdecode.sampling import step_keys
from jaxdecode.text import Text
from jaxdecode.types import Array, Bool, Float, Int, Key

PAPER = Paper(
    slug="ead",
    title="Entropy Adaptive Decoding: Dynamic Model Switching for Efficient Inference",
    authors=("Toby Simonds",),
    year=2025,
    arxiv="2502.06833",
    venue="arXiv",
    claim="A small and a large model that take turns by the rolling entropy of what they write "
    "keep 93 to 97 % of the large one's score at 33 to 59 % of its cost.",
    losslessness="approximate",
)
TURN = 32  # stream of the switches' keys
Caches = Literal["lazy", "lockstep", "recompute"]


class Turned(NamedTuple):
    """What rows remember beside the large model's cache.

    Attributes:
      cache: the small model's.
      text: prompt and output.
      switch: state of the switch.
      large: bool[R, L], which tokens the large model wrote.
      bits: f32[R, L], the entropy of the law that each came of.
    """

    cache: Cache
    text: Text
    switch: Any
    large: Bool[Array, "R L"]
    bits: Float[Array, "R L"]


class Written(NamedTuple):
    """The trace: who wrote each token, and the entropy of its law in bits; 0 past the length."""

    large: Bool[Array, "B L"]
    bits: Float[Array, "B L"]


@struct.dataclass
class EAD:
    """See the module; the trace is `Written`.

    Attributes:
      generator: the large model, and the rules that both write by.
      small: of the same vocabulary.
      switch: who writes.
      caches: static, "lazy" reads what is missing when a model's turn comes, "lockstep" has the
        idle model read along, "recompute" reads everything anew at each change.
      regenerate: static; a token after which the small model hands over is not kept, and the
        large one writes it; its entropy is.
      stride: static, tokens read at once by a model that is behind.
    """

    generator: Generator
    small: LanguageModel
    switch: Switch
    caches: Caches = struct.field(pytree_node=False, default="lazy")
    regenerate: bool = struct.field(pytree_node=False, default=False)
    stride: int = struct.field(pytree_node=False, default=32)

    depth = 0

    def __post_init__(self) -> None:
        if self.caches not in ("lazy", "lockstep", "recompute"):
            raise ValueError(f"caches={self.caches!r}: use lazy, lockstep or recompute")
        if self.stride < CHUNK:
            raise ValueError(f"stride={self.stride}: at least {CHUNK} tokens are read at once")
        if not isinstance(self.generator, Generator):  # a tree transformation's stand-in
            return
        own, other = self.generator.model.vocab_size, self.small.vocab_size
        if own != other:
            raise ValueError(
                f"small: its vocabulary has {other} tokens, the large model's {own}; the two are "
                "to share a tokenizer, and rows that pad a table do not count"
            )

    @property
    def model(self) -> LanguageModel:
        return self.generator.model

    @property
    def max_tokens(self) -> int:
        return self.generator.max_tokens

    @property
    def cache_growth(self) -> int:
        return self.generator.cache_growth

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)
        check_start(replace(self.generator, model=self.small), prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        rows = autoregress.generate(self, key, prompt)
        memory = rows.speculation
        return autoregress.finish(self, rows, trace=Written(memory.large, memory.bits))

    def start(
        self,
        key: Key[Array, ""],
        prompt: Prompt,
        samples: int,
        capacity: int,
        first: Int[Array, ""] | int = 0,
    ) -> Rows:
        """See `Generator.start`; nothing is read yet."""
        width, room = prompt.tokens.shape[1], capacity + self.stride
        last = jnp.take_along_axis(prompt.tokens, prompt.length[:, None] - 1, axis=1)[:, 0]
        unread = Prefill(self.model.init_cache(prompt.batch, width), last, jnp.zeros(()))
        rows = fork(self.generator, key, prompt, unread, samples, room, first)
        count = rows.length.shape[0]
        text = Text.of(prompt, width + self.max_tokens)
        memory = Turned(
            cache=self.small.init_cache(count, room),
            text=spread(text, samples),
            switch=self.switch.init(count),
            large=jnp.zeros(rows.tokens.shape, bool),
            bits=jnp.zeros(rows.tokens.shape, jnp.float32),
        )
        usage = Usage.zeros(count).add(prompt_tokens=rows.usage.prompt_tokens)
        return replace(rows, usage=usage, speculation=memory)

    def room(self, rows: Rows, capacity: int) -> Rows:
        """See `Generator.room`."""
        memory, room = rows.speculation, capacity + self.stride
        small = memory._replace(cache=resize(memory.cache, room))
        return replace(rows, cache=resize(rows.cache, room), speculation=small)

    def advance(self, rows: Rows, until: Int[Array, "R"]) -> Rows:
        """See `Generator.advance`."""
        until = jnp.minimum(until, rows.cache.capacity - self.stride)

        return run_until(rows, until, self._step)

    def _step(self, rows: Rows, active: Bool[Array, "R"]) -> Rows:
        """A token on every active row, unless it is to be written anew."""
        generator, memory = self.generator, rows.speculation
        big, along = self.switch.large(memory.switch), self.caches == "lockstep"
        before = rows.cache.length

        def law(model: LanguageModel, cache: Cache, turn: Bool[Array, "R"]):
            follower = Follower(cache, memory.text)
            return catch_up(model, follower, active & (turn | along), self.stride)

        one, two = law(self.model, rows.cache, big), law(self.small, memory.cache, ~big)
        raw = jnp.where(big[:, None], one.logits, two.logits)
        bits = entropy.bits(raw)
        # A token that is written anew is observed twice, by either writer once.
        keys = step_keys(stream(rows.key, TURN), 2 * rows.length + big)
        switch = self.switch.observe(memory.switch, keys, bits, active)
        next_big = self.switch.large(switch)
        again = active & ~big & next_big & self.regenerate
        edited = generator.transform.apply(rows.transform, raw)
        drawn = generator.sampler(step_keys(rows.key, rows.length), edited)
        after = append(generator, rows, active & ~again, raw, drawn)
        place = jnp.where(after.length > rows.length, rows.length, rows.tokens.shape[1])[:, None]
        lost = (big != next_big) & (self.caches == "recompute")
        length = one.cache.length
        attended = (length * (length + 1) - before * (before + 1)) / 2.0
        return replace(
            after,
            cache=truncate(one.cache, jnp.where(lost & next_big, 0, length)),
            speculation=Turned(
                cache=truncate(two.cache, jnp.where(lost & big, 0, two.cache.length)),
                text=memory.text.append(after.root[:, None], after.length - rows.length),
                switch=switch,
                large=put(memory.large, place, big[:, None]),
                bits=put(memory.bits, place, bits[:, None]),
            ),
            usage=after.usage.add(
                target_passes=one.spent.passes,
                target_tokens=one.spent.tokens,
                attended=attended,
                draft_passes=two.spent.passes,
                draft_tokens=two.spent.tokens,
                flops=two.spent.flops,
            ).peak(length),
        )
