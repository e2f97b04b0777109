"""Superposed decoding: k drafts for the passes of one (Shen et al. 2024, arXiv 2405.18400).

    input of a pass = sum_i gamma_i E[newest token of draft i],   gamma = softmax(draft scores)
    log p_f(v | draft i) = (1 - alpha) log p(v) + alpha log p_ngram(v | draft i)

The model runs once a step, on one token and one cache for each prompt; its most probable
`kept` tokens, at a low temperature, are combined with all drafts, judged by n-grams of each
draft's own text, and the k best combinations are the next drafts. Of a draft whose n-grams know
none of the tokens all are taken with a penalty `floor`; of others those unknown are excluded.
Like the authors' code, a draft that ends is kept apart, the k best of them by score, and in the
end the list, they and the k drafts that are full, is ordered by score over length. The first
step reads the model alone, as the paper has it and its code does not (`first_step_ngram`).
Passes see no real text, so what the model itself thinks of the drafts is read in one more pass
over them at the end (`rescored`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import jax
import jax.numpy as jnp

from algorithms.search.beam_search import check_beams, check_generator
from algorithms.search.rereading import reread, restarted
from jaxdecode import beam, struct
from jaxdecode.autoregress import Generator
from jaxdecode.beam_state import Search, start
from jaxdecode.cache import resize
from jaxdecode.extension import Beam, Likeliest, pick, placed
from jaxdecode.finished import Finished, LengthPenalty
from jaxdecode.lm import LayeredModel, View
from jaxdecode.logits import Identity
from jaxdecode.logits.transform import check_number
from jaxdecode.ngram.interpolation import Interpolation
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import check_start, where_rows
from jaxdecode.sampling import Categorical, likeliest, step_keys
from jaxdecode.types import Array, Bool, Float, Int, Key

PAPER = Paper(
    slug="superposed_decoding",
    title=("Superposed Decoding: Multiple Generations from a Single Autoregressive Inference Pass"),
    authors=(
        "Ethan Shen",
        "Alan Fan",
        "Sarah M. Pratt",
        "Jae Sung Park",
        "Matthew Wallingford",
        "Sham M. Kakade",
        "Ari Holtzman",
        "Ranjay Krishna",
        "Ali Farhadi",
        "Aditya Kusupati",
    ),
    year=2024,
    arxiv="2405.18400",
    venue="NeurIPS 2024",
    claim="k drafts cost the model's passes of one, and the best of three is less perplexing "
    "than a nucleus sample, at least 2.44 times as fast",
    losslessness="not-applicable",
)

WEIGHTS = (0.01, 0.04, 0.15, 0.18, 0.12)  # of contexts of 1 to 5 tokens


def among(candidates: Finished, which: Bool[Array, "B C"]) -> Finished:
    """Those of the candidates [B, C], as one group."""
    rank = jnp.where(which, candidates.rank, -jnp.inf)
    return jax.tree.map(lambda x: x[:, None], replace(candidates, rank=rank))


def by_length(finished: Finished) -> Finished:
    """Ordered by score over length from now on."""
    each = finished.score / jnp.maximum(finished.length, 1)
    return replace(finished, rank=jnp.where(jnp.isfinite(finished.rank), each, -jnp.inf))


@struct.dataclass
class SuperposedDecoding:
    """Returns the draft with the best score per token; the trace lists all (`Listed`).

    Attributes:
      generator: a `LayeredModel`, end rules and room; no edits, the sampler `Greedy()`.
      drafts: static, k. The numbers below are the paper's for k = 3.
      kept: static, tokens of a pass that are considered.
      alpha: share of the n-grams, 0..1.
      temperature: of the model, before tokens are kept.
      ngrams: None leaves the judgement to the model alone.
      floor: log of the penalty of a draft that no n-gram knows a token for.
      first_step_ngram: static.
      uniform: weigh all drafts alike in the superposition, an ablation.
      reset: static; every so many steps one draft is drawn, by its weight, and becomes the
        text that all go on from, on a cache of its own tokens.
      rescored: static; False saves the last pass, and log-probabilities are then those under
        the superposed passes.
    """

    generator: Generator
    drafts: int = struct.field(pytree_node=False, range=(1, 2**24), default=3)
    kept: int = struct.field(pytree_node=False, default=9)
    alpha: Float[Array, ""] | float = 0.54
    temperature: Float[Array, ""] | float = 0.06
    ngrams: Interpolation | None = None
    floor: Float[Array, ""] | float = -200.0
    first_step_ngram: bool = struct.field(pytree_node=False, default=False)
    uniform: bool | Bool[Array, ""] = False
    reset: int | None = struct.field(pytree_node=False, default=None)
    rescored: bool = struct.field(pytree_node=False, default=True)

    def __post_init__(self) -> None:
        check_generator(self.generator)
        check_beams(self.drafts)
        check_number("alpha", self.alpha, 0.0, 1.0)
        check_number("temperature", self.temperature, 0.0, above=True)
        if isinstance(self.generator, Generator) and not isinstance(
            self.generator.transform, Identity
        ):
            raise ValueError(
                "generator.transform: drafts share one distribution, which cannot be edited by "
                "their histories; pass Identity() and use `temperature` and `kept`"
            )
        if self.kept < self.drafts:
            raise ValueError(
                f"kept={self.kept}: the {self.drafts} drafts of the first step take as many "
                "different tokens; keep at least that many"
            )
        if self.reset is not None and self.reset < 1:
            raise ValueError(f"reset={self.reset}: at least one step, or None for no resets")
        if not isinstance(self.generator, Generator):  # a tree transformation's stand-in
            return
        if self.kept > self.generator.model.vocab_size:
            raise ValueError(
                f"kept={self.kept} exceeds the vocabulary of {self.generator.model.vocab_size}"
            )
        if self.reset is not None and self.reset > self.generator.max_tokens:
            raise ValueError(
                f"reset={self.reset}: a text ends after {self.generator.max_tokens} tokens; give "
                "at most that, or None for no resets"
            )

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        rules = Beam(self.generator, Likeliest(), LengthPenalty(), self.drafts)
        found = start(rules, key, prompt, 1)
        room = prompt.tokens.shape[1] + self.generator.max_tokens
        found = replace(found, cache=resize(found.cache, room))
        found = jax.lax.while_loop(
            lambda s: jnp.any(s.active),
            lambda s: self.step(rules, prompt, self.rebased(prompt, s)),
            found,
        )
        if self.rescored:
            found = reread(self.generator.model, prompt, found)
        return beam.finish(rules, found, found.finished.rank)

    def step(self, rules: Beam, prompt: Prompt, search: Search) -> Search:
        """One pass on the superposition, and the best combinations."""
        model = cast(LayeredModel, self.generator.model)
        score = search.score[:, 0]
        weight = self.weights(score)
        place = prompt.length - 1 + search.step
        position = jnp.broadcast_to(place[:, None], search.root.shape)
        # Weights add up to one: a learned position, added to every draft, is added once.
        mixed = jnp.einsum("bk,bkd->bd", weight, model.embed(search.root, position))
        view = View(place[:, None], place, place, search.active[:, None])
        hidden, cache = model.run_layers(mixed[:, None], search.cache, view)
        assert cache is not None
        logits = model.unembed(model.final(hidden))[:, 0]
        top, token = likeliest(logits / self.temperature, self.kept, "kept")
        fused = self.fused(prompt, search, jax.nn.log_softmax(top, axis=1), token)
        total = score[..., None] + fused
        total = jnp.where(jnp.isnan(total), -jnp.inf, total)
        order = jnp.argsort(-total, axis=2, stable=True)
        chosen = pick(
            rules,
            search.tokens[:, 0],
            search.step,
            jnp.take_along_axis(total, order, 2),
            jnp.take_along_axis(jnp.broadcast_to(token[:, None], total.shape), order, 2),
        )
        raw = jax.nn.log_softmax(logits, axis=1)
        logprob = jnp.take_along_axis(search.logprob[:, 0], chosen.parent, 1)
        logprob += jnp.take_along_axis(raw, chosen.token, 1)
        length = search.step + 1
        candidates = Finished(
            rank=chosen.score,
            score=chosen.score,
            total=chosen.score,
            logprob=logprob,
            tokens=chosen.text,
            length=jnp.full_like(chosen.token, length),
            status=jnp.where(chosen.ends, Status.EOS, Status.LENGTH).astype(jnp.int8),
        )
        enters = chosen.ends & search.active[:, None]
        finished = search.finished.merged(among(candidates, enters))
        full = chosen.goes & search.active[:, None] & (length == self.generator.max_tokens)
        goes = jnp.where(placed(chosen, chosen.goes), placed(chosen, chosen.score), -jnp.inf)
        over = search.active & self.settled(finished, goes, length)
        ordered = by_length(finished).merged(by_length(among(candidates, full)))
        emitted = jnp.sum(chosen.goes | enters, axis=1) * search.active
        active = search.active.astype(jnp.int32)
        return replace(
            search,
            step=length,
            tokens=placed(chosen, chosen.text)[:, None],
            score=goes[:, None],
            logprob=placed(chosen, logprob)[:, None],
            root=placed(chosen, chosen.token),
            cache=cache,
            finished=where_rows(over, ordered, finished),
            active=search.active & ~over,
            usage=search.usage.add(
                emitted=emitted,
                bonus=emitted,
                target_passes=active,
                target_tokens=active,
                attended=(active * (place + 1)).astype(jnp.float32),
                invalid=active * jnp.isnan(jnp.max(logits, axis=1)),
            ).peak(active * (place + 1)),
        )

    def settled(
        self, finished: Finished, score: Float[Array, "B K"], length: Int[Array, ""]
    ) -> Bool[Array, "B"]:
        """No open draft, of a score that only falls, can enter the list any more."""
        best, longest = jnp.max(score, axis=1), self.generator.max_tokens
        least = jnp.min(by_length(finished).rank, axis=(1, 2))
        shut = (finished.worst[:, 0] >= best) & (least >= best / longest)
        return shut | ~jnp.isfinite(best) | (length >= longest)

    def weights(self, score: Float[Array, "B K"]) -> Float[Array, "B K"]:
        """gamma; 0 for what is no draft."""
        there = jnp.isfinite(score)
        score = jnp.where(jnp.any(there, axis=1, keepdims=True), score, 0.0)
        alike = jnp.where(there, 0.0, score)
        return jax.nn.softmax(jnp.where(self.uniform, alike, score), axis=1)

    def fused(
        self,
        prompt: Prompt,
        search: Search,
        logp: Float[Array, "B N"],
        token: Int[Array, "B N"],
    ) -> Float[Array, "B K N"]:
        """log p_f of the kept tokens after every draft; logp is normalised over them."""
        shape = (*search.root.shape, self.kept)
        plain = jnp.broadcast_to(logp[:, None], shape)
        if self.ngrams is None:
            return plain
        share = self.ngrams.shares(self.newest(prompt, search), token[:, None])
        known = share > 0
        scaled = (1.0 - self.alpha) * plain
        both = scaled + self.alpha * jnp.log(jnp.where(known, share, 1.0))
        some = jnp.any(known, axis=2, keepdims=True)
        fused = jnp.where(some, jnp.where(known, both, -jnp.inf), scaled + self.floor)
        first = (search.step == 0) & (not self.first_step_ngram)
        return jnp.where(first, plain, fused)

    def newest(self, prompt: Prompt, search: Search) -> Int[Array, "B K O"]:
        """The last tokens of prompt and draft; -1 before the prompt."""
        assert self.ngrams is not None
        index = search.step - self.ngrams.order + jnp.arange(self.ngrams.order)
        own = jnp.take(search.tokens[:, 0], jnp.maximum(index, 0), axis=2)
        at = prompt.length[:, None] + index
        given = jnp.take_along_axis(prompt.tokens, jnp.clip(at, 0, prompt.tokens.shape[1] - 1), 1)
        given = jnp.where(at >= 0, given, -1)[:, None]
        return jnp.where(index >= 0, own, given)

    def rebased(self, prompt: Prompt, search: Search) -> Search:
        """Every `reset` steps: one draft, on the cache of its own tokens."""
        if self.reset is None:
            return search
        count = self.reset

        def one(search: Search) -> Search:
            weight = self.weights(search.score[:, 0])
            keys = step_keys(search.key, jnp.broadcast_to(search.step, prompt.length.shape))
            drawn = jnp.maximum(Categorical()(keys, jnp.log(weight)), 0)
            return restarted(self.generator.model, prompt, search, drawn, count)

        due = (search.step > 0) & (search.step % count == 0)
        return jax.lax.cond(due, one, lambda search: search, search)
