"""What is measured of lists and ways: items by every method, queries, votes, what lessons move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from algorithms.search.diverse_beam_search import DiverseBeamSearch
from algorithms.selection.best_of_n import BestOfN
from algorithms.tokens.icn import ICN
from algorithms.tokens.navigation.conclusions import Conclusions
from algorithms.tokens.navigation.key_clusters import attraction, cluster, keys_of, movement, split
from experiments.tokens.icn.setting import Config, Lists, Sums
from experiments.tokens.icn.ways import CUE, DIGITS, END, LETTERS, MARK
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder, decode
from jaxdecode.lm import extend, prefill
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import FunctionScorer
from jaxdecode.stop import Stop
from jaxdecode.types import Array, Float

Row = dict[str, Any]
stood, turned = jax.jit(attraction), jax.jit(movement)


def precisions(right: ArrayLike) -> NDArray[np.float64]:
    """Precision at 1, 2, ... of items in the order in which they were explored."""
    true = np.asarray(right, float)
    return np.cumsum(true, axis=-1) / np.arange(1, true.shape[-1] + 1)


def mean_precision(right: ArrayLike) -> float:
    """The mean of the running precisions, which is published as MAP; it is not the classic one."""
    return float(precisions(right).mean())


def explored(lists: Lists, decoder: Decoder, count: int) -> Row:
    """`count` items of every category: texts and whether they are right, in order; and of the
    decoder the tokens that the model ran."""
    result = jax.device_get(decode(decoder, 0, lists.prompt))
    trace = result.trace
    order = np.argsort(-np.asarray(trace.score), axis=1, kind="stable")
    items: list[list[str]] = []
    right: list[list[bool]] = []
    for row in range(len(lists.categories)):
        chosen = order[row, :count]
        found = [lists.judged(row, trace.tokens[row, k], trace.length[row, k]) for k in chosen]
        items.append([item for item, _ in found])
        right.append([good for _, good in found])
    return {"items": items, "right": right, "tokens": np.asarray(result.usage.target_tokens)}


def unjudged(prompt: Any, prompt_length: Any, tokens: Any, length: Any) -> Any:
    """No response is better than another: they stay in the order in which they were drawn."""
    return jnp.zeros(length.shape, jnp.float32)


def navigator(lists: Lists, config: Config, runs: int, **options: Any) -> ICN:
    between = lists.between(config.items)
    return ICN.of(lists.generator, between, runs, config.items // runs, **options)


def methods(lists: Lists, config: Config) -> dict[str, Callable[[], Row]]:
    """Every way of exploring but those that rerank the ranks of one law."""

    def by(decoder: Decoder) -> Row:
        return explored(lists, decoder, config.items)

    def drawn() -> Decoder:
        sampled = Generator(
            lists.model, Identity(), Categorical(), lists.generator.stop, lists.generator.max_tokens
        )
        return BestOfN(sampled, FunctionScorer(unjudged), config.items)

    every: dict[str, Callable[[], Row]] = {
        f"ICN, {runs} x {config.items // runs}": lambda runs=runs: by(
            navigator(lists, config, runs)
        )
        for runs in config.runs
    }
    most = max(config.runs)
    every[f"ICN, {most} x {config.items // most}, items from the list"] = lambda: by(
        navigator(lists, config, most, decode_from="list")
    )
    every["sampling"] = lambda: by(drawn())
    if config.beams:
        every["diverse beams"] = lambda: by(
            DiverseBeamSearch(lists.generator, config.beams, config.beams)
        )
    return every


def ranked(lists: Lists, config: Config) -> Row:
    """The first ranks of one law: what each begins, whether it is right, its cluster and logit; and
    of each category how the middle ranks split."""
    decoder = ICN.of(lists.generator, lists.between(config.ranks), 1, config.ranks)
    result = jax.device_get(decode(decoder, 0, lists.prompt))
    keys = keys_of(lists.model)
    count = max(2, len(keys) // config.clusters)
    of = cluster(keys, count, config.seed).of
    first = result.trace.tokens[:, :, 0]
    logits = np.asarray(jnp.asarray(result.trace.query[:, 0]) @ keys.T)
    row: Row = {"items": [], "right": [], "clusters": of[first], "groups": []}
    row["logits"] = np.take_along_axis(logits, first, axis=1)
    for index in range(len(lists.categories)):
        found = [
            lists.judged(index, result.trace.tokens[index, k], result.trace.length[index, k])
            for k in range(config.ranks)
        ]
        row["items"].append([item for item, _ in found])
        row["right"].append([good for _, good in found])
        parts = split(of[first[index]].tolist(), row["right"][-1], config.top)
        groups = {"inside": parts.inside, "outside": parts.outside}
        row["groups"].append(
            {
                name: {
                    "count": len(group.ranks),
                    "right": group.accuracy * len(group.ranks) if group.ranks else 0.0,
                    "ranks": float(sum(group.ranks)),
                }
                for name, group in groups.items()
            }
            | {"top": parts.top}
        )
    return row


def reranked(row: Row, penalty: float, count: int) -> Row:
    """`count` items from the ranks of one law, each by the largest logit less `penalty` for every
    item that its cluster has given already; a penalty of 0 walks down the ranks."""
    found: Row = {"items": [], "right": []}
    for items, right, logits, clusters in zip(
        row["items"], row["right"], row["logits"], row["clusters"], strict=True
    ):
        score, of = np.array(logits, float), np.asarray(clusters)
        chosen = []
        for _ in range(count):
            best = int(np.argmax(score))
            chosen.append(best)
            score[best] = -np.inf
            score[of == of[best]] -= penalty
        found["items"].append([items[k] for k in chosen])
        found["right"].append([right[k] for k in chosen])
    return found


def moved(lists: Lists, config: Config) -> Row:
    """Of each category, run by run of one item: the query's cosine with the first one, and how far
    the first token explored stands above the vocabulary."""
    result = jax.device_get(decode(navigator(lists, config, config.items), 0, lists.prompt))
    keys, query, first = keys_of(lists.model), result.trace.query, result.trace.tokens[:, :, :1]
    stands = [stood(keys, q, f) for q, f in zip(query, first, strict=True)]
    return {"cosine": np.asarray(turned(query)), "stands": np.asarray(stands)}


def voted(sums: Sums) -> Row:
    """Of each question whether votes and single paths are right, by way of exploring."""
    piece, ends = sums.codec.piece, sums.codec.piece(MARK)
    greedy = Generator(sums.model, Identity(), Greedy(), Stop.of(ends), 2 * DIGITS)
    short = Generator(sums.model, Identity(), Greedy(), Stop.of(piece(END)), 3)
    count = len(LETTERS)
    between = [piece(MARK + letter) for letter in LETTERS[1:]]
    drawn = Generator(sums.model, Identity(), Categorical(), Stop.of(ends), 2 * DIGITS)
    ways: dict[str, Decoder] = {
        "ICN": ICN.of(greedy, between, count, 1),
        "first tokens of one law": ICN.of(greedy, between, 1, count),
        "sampling": BestOfN(drawn, FunctionScorer(unjudged), count),
    }
    answers = [e.meta["answer"] for e in sums.examples]
    row: Row = {}
    for name, decoder in ways.items():
        concluded = Conclusions.of(decoder, short, piece(MARK + CUE))
        trace = jax.device_get(decode(concluded, 0, sums.prompt)).trace
        said = [
            [sums.codec.decode(t[:n].tolist()) for t, n in zip(tokens, length, strict=True)]
            for tokens, length in zip(trace.tokens, trace.length, strict=True)
        ]
        paths = [[answer_of(text) for text in several] for several in said]
        row[name] = {
            "vote": [float(vote(p) == a) for p, a in zip(paths, answers, strict=True)],
            "path": [
                float(np.mean([path == a for path in p]))
                for p, a in zip(paths, answers, strict=True)
            ],
        }
        if name == "ICN":
            first = [float(p[0] == a) for p, a in zip(paths, answers, strict=True)]
            row["greedy"] = {"vote": first, "path": first}
    return row


@jax.jit
def read_next(model: Any, prompt: Prompt) -> tuple[Float[Array, "B D"], Float[Array, "B V"]]:
    """The hidden state behind each prompt, and the law of what comes next in logs."""
    before = prefill(model, prompt, prompt.tokens.shape[1] + 1)
    output = extend(model, before.root[:, None], before.cache)
    return output.hidden[:, 0], jax.nn.log_softmax(output.logits[:, 0])


def answer_of(text: str) -> str:
    """The digits of a text that closed; "" for none."""
    return "".join(c for c in text if c.isdigit()) if text.endswith(END) else ""


def vote(answers: Sequence[str]) -> str:
    """The answer that most ways come to, the first one of a tie; no answer has no vote."""
    real = [answer for answer in answers if answer]
    return max(dict.fromkeys(real), key=real.count) if real else ""


def taught(lists: Lists, config: Config, model: Any, new: dict[int, int]) -> Row:
    """What lessons moved: the keys, the queries of all categories' empty lists, and of each
    category that had one the mean gain, in nats, of names that belong there as little as before,
    inside and outside of the new member's cluster."""
    world = lists.world

    def state(model: Any) -> tuple[np.ndarray, np.ndarray]:
        hidden, logp = (np.asarray(x, np.float64) for x in read_next(model, lists.prompt))
        return hidden, logp

    keys, after = (np.asarray(keys_of(m), np.float64) for m in (lists.model, model))
    (hidden, logp), (moved_hidden, moved_logp) = state(lists.model), state(model)
    of = cluster(keys, max(2, len(keys) // config.clusters), config.seed).of
    ids = np.array([lists.codec.piece(name)[0] for name in world.names])
    inside, outside, member = [], [], []
    for category, name in new.items():
        gain = (moved_logp - logp)[category, ids]
        strange = np.ones(len(ids), bool)
        strange[[*world.members[category], name]] = False
        near = of[ids] == of[ids[name]]
        if (strange & near).any():
            inside.append(float(gain[strange & near].mean()))
            outside.append(float(gain[strange & ~near].mean()))
            member.append(float(gain[name]))

    def change(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.linalg.norm(other - one) / np.linalg.norm(one))

    # Relative Frobenius changes; those of the queries row by row, for their interval.
    queries = np.linalg.norm(moved_hidden - hidden, axis=1) / np.linalg.norm(hidden, axis=1)
    return {
        "keys": change(keys, after),
        "queries": queries,
        "inside": inside,
        "outside": outside,
        "member": member,
    }
