"""The target's own first layers draft, behind an adapter that lets them exit early (Kangaroo,
Liu et al. 2024, arXiv 2404.18911).

    repeat    run the first l layers on the newest drafts; stop if the drafter was not sure of
              them, or if there are enough; else adapter, output matrix, next drafts
    verify    the other layers, once, on what the first have left (`Draft.begun`)

A draft of which the drafter was not sure is itself verified; only what would follow it is not
drafted. The first layers write into the target's own cache. `width` 1 is the published chain:
its tokens are drawn by `sampler` and carry their laws. A wider draft is a tree, in our reading: the
`width` most probable paths go on. At a confidence of exactly `threshold`, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp

from algorithms.speculative.drafters.heads import bill
from algorithms.speculative.drafters.hop import Hop
from jaxdecode import struct
from jaxdecode.cache import Cache, put, truncate
from jaxdecode.draft import Begun, Draft, Shape, at
from jaxdecode.drafter import Now, Outcome
from jaxdecode.follower import rewind
from jaxdecode.judge import stream
from jaxdecode.lm import LanguageModel, LayeredModel, ModelCost, View
from jaxdecode.logits import Identity, LogitsTransform
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy, Sampler, likeliest, step_keys
from jaxdecode.text import Text
from jaxdecode.train.frozen import whole
from jaxdecode.types import Array, Bool, Float, Int

PAPER = Paper(
    slug="kangaroo",
    title="Kangaroo: Lossless Self-Speculative Decoding for Accelerating LLMs via Double Early "
    "Exiting",
    authors=(
        "Fangcheng Liu",
        "Yehui Tang",
        "Zhenhua Liu",
        "Yunsheng Ni",
        "Duyu Tang",
        "Kai Han",
        "Yunhe Wang",
    ),
    year=2024,
    arxiv="2404.18911",
    venue="NeurIPS 2024",
    claim="a target's first layers with a small trained adapter draft well enough to speed it up "
    "with a ninth of the extra parameters of Medusa, if drafting stops where it is unsure",
    losslessness="exact",
)

CHUNK = 2


@runtime_checkable
class Adapter(Protocol):
    """Makes laws of the residual stream after some layers, whose cost its own leaves out."""

    @property
    def layers(self) -> int:
        """After how many layers of the target."""
        ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def cost(self) -> ModelCost: ...

    def init_cache(self, batch: int, capacity: int) -> Cache | None: ...

    def __call__(
        self, target: Any, stream: Float[Array, "B T D"], cache: Any, view: View
    ) -> tuple[Float[Array, "B T V"], Cache | None]: ...


@struct.dataclass
class Hopping:
    """State of the drafter.

    Attributes:
      text: prompt and output.
      cache: the adapter's, or None.
      length: i32[B], tokens of the text that the adapter has read.
      stood: i32[B], how many it had when the last draft began, the root included.
      ran: bool[B, N], nodes of the last draft that it has read.
    """

    text: Text
    cache: Cache | None
    length: Int[Array, "B"]
    stood: Int[Array, "B"]
    ran: Bool[Array, "B N"]


@struct.dataclass
class Kangaroo:
    """See the module.

    Attributes:
      adapter: see `Adapter`.
      length: static; the most nodes on a path.
      width: static; nodes of a level.
      path: static; whether a node's confidence is the probability of its whole path.
      threshold: confidence below which drafting stops; of a level's nodes the highest counts.
      sampler: draws the tokens of a chain.
      transform: edits a chain's logits: the generator's own, whose state it is, or `Identity`.
    """

    adapter: Adapter
    length: int = struct.field(pytree_node=False, default=6)
    width: int = struct.field(pytree_node=False, default=1)
    path: bool = struct.field(pytree_node=False, default=False)
    threshold: float | Array = 0.6
    sampler: Sampler = Greedy()
    transform: LogitsTransform = Identity()

    def __post_init__(self) -> None:
        for name in ("length", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        vocab = getattr(self.adapter, "vocab_size", None)
        if isinstance(vocab, int) and self.width > vocab:
            raise ValueError(f"width={self.width} exceeds the vocabulary of {vocab} tokens")

    @property
    def drawn(self) -> bool:
        return self.width == 1

    @property
    def nodes(self) -> int:
        return self.length * self.width

    @property
    def depth(self) -> int:
        return self.length

    @property
    def vocab_size(self) -> int:
        return self.adapter.vocab_size

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Hopping:
        batch, width = prompt.tokens.shape
        read = prompt.length - 1
        cache = self.adapter.init_cache(batch, max(capacity, width) + self.nodes + CHUNK)
        if cache is not None and width > 1:
            view = whole(jnp.arange(width - 1) < read[:, None])
            layered = cast(LayeredModel, target)
            early = layered.embed(prompt.tokens[:, :-1], view.position)
            early, _ = layered.run_layers(early, None, view, 0, self.adapter.layers)
            _, cache = self.adapter(target, early, cache, view)
        return Hopping(
            text=Text.of(prompt, room),
            cache=None if cache is None else truncate(cache, read),
            length=read,
            stood=prompt.length,
            ran=jnp.zeros((batch, self.nodes), bool),
        )

    def propose(self, target: LanguageModel, state: Hopping, now: Now) -> tuple[Draft, Hopping]:
        layered, layers = cast(LayeredModel, target), self.adapter.layers
        going = now.active & (now.limit > 0)
        state, logits, hop = self.catch_up(layered, state, now, going)
        hop = self.branch(hop, now, logits[:, None])

        def body(hop: Hop) -> Hop:
            hop, early = hop.early(layered, layers)
            hop, logits = self.adapt(layered, hop, early)
            return self.branch(hop, now, logits)

        hop = jax.lax.while_loop(lambda hop: jnp.any(hop.going), body, hop)
        hop, _ = replace(hop, going=going).early(layered, layers)
        batch = going.shape[0]
        if hop.laws is None:
            depth = jnp.sum(hop.seen, axis=2, dtype=jnp.int32)
            shape, logq, source = Shape(hop.parent, depth, hop.seen), None, None
        else:
            shape, logq = Shape.line(batch, self.nodes), jnp.log(hop.laws)
            source = jnp.broadcast_to(jnp.arange(self.nodes), hop.tokens.shape)
        draft = Draft(
            tokens=hop.tokens,
            shape=shape,
            valid=hop.valid,
            spent=hop.spent,
            logq=logq,
            source=source,
            begun=Begun(hop.stream, hop.deep, layers),
        )
        return draft, replace(state, cache=hop.cache, stood=state.length, ran=hop.ran)

    def catch_up(
        self, target: LayeredModel, state: Hopping, now: Now, going: Bool[Array, "B"]
    ) -> tuple[Hopping, Float[Array, "B V"], Hop]:
        """Read on, by the first layers and the adapter, until the root is read.

        After a round of drafting that is the root and at most the last accepted draft.
        """
        blank = target.embed(now.root[:, None])[:, 0]
        laws = self.vocab_size if self.width == 1 else None
        hop = Hop.begin(now, going, blank, state.cache, self.width, self.nodes, laws)

        def behind(length: Int[Array, "B"]) -> Int[Array, "B"]:
            return jnp.where(going, now.length + 1 - length, 0)

        def body(carry):
            length, logits, hop = carry
            count, order = jnp.minimum(behind(length), CHUNK), jnp.arange(CHUNK)
            position = length[:, None] + order
            view = View(position, length, length, order < count[:, None])
            tokens = jnp.maximum(state.text.window(length, CHUNK), 0)
            early = target.embed(tokens, position)
            early, deep = target.run_layers(early, hop.deep, view, 0, self.adapter.layers)
            found, cache = self.adapter(target, early, hop.cache, view)
            reads = (count > 0)[:, None]
            logits = jnp.where(reads, at(found, count - 1), logits)
            root = jnp.where(reads, at(early, count - 1), hop.stream[:, 0])
            attended = count * length + count * (count + 1) // 2
            hop = replace(
                hop,
                stream=hop.stream.at[:, 0].set(root),
                deep=deep,
                cache=cache,
                spent=bill(hop.spent, self.adapter.cost, count, attended),
            )
            return length + count, logits, hop

        start = state.length
        if state.cache is None:  # nothing to catch up with but the root
            start = jnp.where(going, now.length, start)
        carry = (start, jnp.zeros((going.shape[0], self.vocab_size), jnp.float32), hop)
        carry = jax.lax.while_loop(lambda c: jnp.any(behind(c[0]) > 0), body, carry)
        length, logits, hop = carry
        return replace(state, length=length), logits, hop

    def adapt(
        self, target: LayeredModel, hop: Hop, early: Float[Array, "B W D"]
    ) -> tuple[Hop, Float[Array, "B W V"]]:
        """Logits of the front, from its residual streams."""
        view = hop.view((hop.deep if hop.cache is None else hop.cache).capacity)
        logits, cache = self.adapter(target, early, hop.cache, view)
        count = jnp.sum(view.valid, axis=1)
        spent = bill(hop.spent, self.adapter.cost, count, count * (hop.root + 2 + hop.level))
        ran = put(hop.ran, jnp.where(view.valid, hop.front, hop.nodes), view.valid)
        edits = hop.edits
        if hop.laws is not None:
            edits = self.transform.observe(edits, hop.there(hop.tokens)[:, 0], hop.going)
        return replace(hop, cache=cache, spent=spent, ran=ran, edits=edits), logits

    def branch(self, hop: Hop, now: Now, logits: Float[Array, "B W V"]) -> Hop:
        """Draft the level below the front, whose logits these are: [B, 1, V] for the root."""
        root = hop.level[:, None] < 0
        score = jnp.where(root, 0.0, hop.there(hop.score))[:, : logits.shape[1]]
        if hop.laws is not None:
            edited = self.transform.apply(hop.edits, logits[:, 0])
            keys = step_keys(stream(now.key, 0), hop.level + 1)
            token = self.sampler(keys, edited)[:, None]
            own = jnp.max(jax.nn.log_softmax(edited), axis=1, keepdims=True)
            law = self.sampler.distribution(edited)[:, None]
            level = jnp.where(hop.going, hop.level + 1, hop.nodes)
            hop = replace(hop, laws=put(hop.laws, level[:, None], law))
            above, joint, valid = 0 * token, score + own, token >= 0
        else:
            batch, width = len(logits), self.width
            logp, order = likeliest(jax.nn.log_softmax(logits), width, "width")
            open_ = (root | hop.open)[:, : logits.shape[1]]
            joint = jnp.where(open_[..., None], score[..., None] + logp, -jnp.inf)
            joint, flat = jax.lax.top_k(joint.reshape(batch, -1), width)
            token = jnp.take_along_axis(order.reshape(batch, -1), flat, axis=1)
            own = jnp.take_along_axis(logp.reshape(batch, -1), flat, axis=1)
            above, valid = flat // width, jnp.isfinite(joint)
        sure = jnp.where(valid, joint if self.path else own, -jnp.inf)
        hop = hop.add(above, jnp.maximum(token, 0), joint, valid)
        more = hop.level + 1 < jnp.minimum(now.limit, self.length)
        more &= jnp.any(valid, axis=1) & (jnp.exp(jnp.max(sure, axis=1)) >= self.threshold)
        return replace(hop, going=hop.going & more)

    def commit(
        self, target: LanguageModel, state: Hopping, draft: Draft, outcome: Outcome
    ) -> Hopping:
        text = state.text.append(outcome.tokens, outcome.count)
        if state.cache is None:
            return replace(state, text=text)
        cache = rewind(state.cache, state.stood, draft, outcome, state.ran)
        length = cache.length if draft.nodes else state.length
        return replace(state, text=text, cache=cache, length=length)
