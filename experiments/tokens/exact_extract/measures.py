"""What is measured of a model that answers from passages, by every way of decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.search.beam_search import BeamSearch
from algorithms.tokens.exact_extract import ExactExtract
from experiments.harness.likelihood import continuations
from experiments.harness.measuring.timing import interleaved
from experiments.inputs.squad import exact, f1
from experiments.tokens.exact_extract.setting import Config, Item, World
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import Decoder, decode
from jaxdecode.logits import Identity
from jaxdecode.logits.quotation import Quotation
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop

Row = dict[str, Any]
SLACK = 1e-3  # nats within which two scores are one


class Said(NamedTuple):
    """An answer: its text, its log-probability, and whether it is a run of the passage's own tokens
    and an end, as every part that the search tries is. A text that no end closed, or with a token
    between that is not written, can look like a part and has the probability of something else."""

    text: str
    logprob: float
    whole: bool


def decoders(world: World, config: Config, model: Any) -> dict[str, Decoder]:
    """Greedy, beams, greedy within the passage, and the exact search."""
    stop = Stop.of(world.end)

    def greedy(transform: Any) -> Generator:
        return Generator(model, transform, Greedy(), stop, config.max_tokens)

    quoting = Quotation(world.rule, jnp.array([world.end]))
    return {
        "greedy": Autoregressive(greedy(Identity())),
        "beams": BeamSearch(greedy(Identity()), config.beams),
        "constrained": Autoregressive(greedy(quoting)),
        "exact": ExactExtract(model, world.rule, world.end, config.longest, config.chunk),
    }


def answered(world: World, config: Config, decoder: Decoder) -> list[Said]:
    """The answer to each question: of the windows of its passage the likeliest."""
    items, found = world.items, [Said("", -np.inf, False)] * world.questions
    width = bucket(max(len(item.tokens) for item in items))
    batch = min(config.batch, len(items))
    for first in range(0, len(items), batch):
        ids = [min(first + i, len(items) - 1) for i in range(batch)]
        prompt = Prompt.of([items[i].tokens for i in ids], ids, width)
        result = jax.device_get(decode(decoder, config.seed, prompt))
        passage = jax.device_get(world.rule(prompt))
        for row, index in enumerate(ids):
            said = result.tokens[row, : result.length[row]].tolist()
            ended = said[-1:] == [world.end]
            said = said[:-1] if ended else said
            begin = int(passage.start[row])
            inside = items[index].tokens[begin : begin + int(passage.count[row])]
            owner, total = items[index].question, float(result.logprob[row])
            if total > found[owner].logprob:
                text = world.source.decode(said).strip()
                found[owner] = Said(text, total, ended and within(said, inside))
    return found


def within(run: Sequence[int], tokens: Sequence[int]) -> bool:
    """Whether a run of at least one token stands among the tokens."""
    size, run = len(run), list(run)
    return size > 0 and any(list(tokens[i : i + size]) == run for i in range(len(tokens)))


def measure(world: World, config: Config, model: Any) -> Row:
    """Of each way of decoding f64[N]: F1, EM, whether its text is a part of the passage, whether
    its tokens are, and its score."""
    by_question: dict[int, list[Item]] = {}
    for item in world.items:
        by_question.setdefault(item.question, []).append(item)
    row: Row = {}
    texts: dict[str, list[str]] = {}
    for name, decoder in decoders(world, config, model).items():
        said = answered(world, config, decoder)
        texts[name] = [one.text for one in said]
        row[name] = {
            "f1": [f1(t, by_question[i][0].answers) for i, t in enumerate(texts[name])],
            "em": [exact(t, by_question[i][0].answers) for i, t in enumerate(texts[name])],
            "part": [float(quoted(world, t, by_question[i])) for i, t in enumerate(texts[name])],
            "whole": [float(one.whole) for one in said],
            "score": [one.logprob for one in said],
        }
    row["same"] = [float(a == b) for a, b in zip(texts["greedy"], texts["exact"], strict=True)]
    return row


def quoted(world: World, text: str, items: Sequence[Item]) -> bool:
    """Whether a text is a part of its passage: of whole words where a token is a word, as
    published of characters elsewhere."""
    if world.source.strict is not None:
        return bool(text) and any(f" {text} " in f" {item.passage} " for item in items)
    return bool(text) and any(text in item.passage for item in items)


def costs(world: World, config: Config, model: Any, repeats: int = 5) -> Row:
    """Tokens and seconds of the exact search and of scoring every part in a row of its own."""
    some = world.items[:8]
    width = max(len(item.tokens) for item in some)
    prompt = Prompt.of([item.tokens for item in some], width=width)
    search = decoders(world, config, model)["exact"]
    start, count = (np.asarray(x) for x in world.rule(prompt))
    rows, spans = [], []
    for item, first, n in zip(some, start, count, strict=True):
        for i in range(n):
            for size in range(1, n - i + 1):
                part = item.tokens[first + i : first + i + size]
                rows.append([*item.tokens, *part, world.end])
                spans.append(len(item.tokens))
    texts = Prompt.of(rows, width=max(map(len, rows)))
    naive = partial(continuations, model, texts, jnp.asarray(spans))
    result = jax.device_get(decode(search, config.seed, prompt))
    best = np.asarray(naive()[0])
    owners = np.repeat(np.arange(len(some)), count * (count + 1) // 2)
    most = np.array([best[owners == i].max() for i in range(len(some))])
    calls: dict[str, Callable[[], Any]] = {
        "exact": lambda: decode(search, config.seed, prompt).tokens,
        "naive": naive,
    }
    times = interleaved(calls, repeats)
    usage = result.usage
    return {
        "passages": len(some),
        "tokens, exact": int(np.sum(usage.target_tokens)),
        "tokens, naive": int(sum(map(len, rows))),
        "rows, exact": int(count.sum()),
        "rows, naive": len(rows),
        "seconds": times,
        "apart": float(np.abs(most - result.logprob).max()),
    }
