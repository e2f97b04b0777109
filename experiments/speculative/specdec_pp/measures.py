"""What the experiment on SpecDec++ measures: rules, hindsight, a reliable head."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.lengths import Work, replay
from algorithms.speculative.policies.cost_aware import CostAware
from algorithms.speculative.policies.fixed import Fixed
from algorithms.speculative.policies.foresight import Product, evenness
from algorithms.speculative.policies.heuristic import Heuristic
from experiments.speculative.specdec_pp.setting import DEPTH, Setting
from jaxdecode.decoder import decode
from jaxdecode.lm import extend


def rules(setting: Setting) -> dict[str, tuple[str, Any]]:
    """Everything that is run: name -> (family, speculator)."""
    c, make = setting.config, setting.foreseen
    found: dict[str, tuple[str, Any]] = {}
    for k in c.lengths:
        found[f"K = {k}"] = ("fixed", partial(setting.chain, policy=Fixed(k)))
    found["heuristic"] = ("heuristic", partial(setting.chain, policy=Heuristic()))
    for ratio in c.ratios if c.few else ():
        costs = CostAware((1.0,) * (c.most + 1), 1 / ratio)
        found[f"by cost at {ratio:g}"] = ("by cost", partial(setting.chain, policy=costs))
    for h in c.thresholds:
        found[f"head, h = {h}"] = ("SpecDec++", partial(make, h))
    for h in c.thresholds:
        probability = partial(setting.chain, halt=Product(h))
        found[f"draft's probability, h = {h}"] = ("probability", probability)
    for h in c.few:
        entropy = partial(setting.chain, halt=Product(h, factor=evenness))
        found[f"draft's entropy, h = {h}"] = ("entropy", entropy)
        for w in c.weights:
            found[f"head, w = {w:g}, h = {h}"] = (f"w = {w:g}", partial(make, h, weight=w))
        for d in c.depths:
            found[f"head, D = {d}, h = {h}"] = (f"D = {d}", partial(make, h, depth=d))
        found[f"head, r = 0, h = {h}"] = ("no mixing", partial(make, h, mixing=0.0))
    return found


def hindsight(setting: Setting) -> dict[str, Any]:
    """Greedy decoding: fixed lengths and the best in hindsight, replayed on the target's text."""
    c, here = setting.config, setting.pair.field
    each: dict[int | None, list[list[float]]] = {}
    for prompt in here.batches(c.batch):
        found = decode(here.plain(), c.seed, prompt)
        width = prompt.tokens.shape[1]
        index = jnp.arange(width + c.max_tokens)
        tokens = jnp.pad(prompt.tokens, ((0, 0), (0, c.max_tokens)))
        place = jnp.where(
            jnp.arange(c.max_tokens) < found.length[:, None],
            prompt.length[:, None] + jnp.arange(c.max_tokens),
            len(index),
        )
        tokens = jax.vmap(lambda row, at, new: row.at[at].set(new, mode="drop"))(
            tokens, place, found.tokens
        )
        cache = here.draft.init_cache(*tokens.shape)
        guess = jnp.argmax(extend(here.draft, tokens, cache, fresh=True).logits, axis=2)
        for row in range(tokens.shape[0]):
            first, count = int(prompt.length[row]), int(found.length[row])
            matches = np.asarray(
                guess[row, first - 1 : first - 1 + count] == tokens[row, first : first + count]
            )
            for length in (*range(1, c.most + 1), None):
                work = replay(matches, length, c.most)
                each.setdefault(length, []).append([work.emitted, work.passes, work.discarded])
    each = {length: works[: len(here.prompts)] for length, works in each.items()}
    works = {length: Work(*np.sum(rows, axis=0)) for length, rows in each.items()}
    ratio = c.ratios[len(c.ratios) // 2]
    speeds = {length: work.speed_up(1, ratio) for length, work in works.items()}
    best = max((k for k in speeds if k is not None), key=lambda k: speeds[k])
    return {
        "ratio": ratio,
        "hindsight": speeds[None],
        "best fixed": speeds[best],
        "best length": best,
        "discard": works[None].discard,
        "by prompt": {str(length): rows for length, rows in each.items()},
    }


def reliability(setting: Setting) -> dict[str, Any]:
    """Predicted and labelled acceptance of a head without weights, on held-out lessons."""
    lesson = setting.lesson(setting.config.mixing)
    held = slice(lesson.label.shape[0] - max(lesson.label.shape[0] // 8, 1), None)
    head = setting.head(1.0, DEPTH, setting.config.mixing)
    counted = np.asarray(lesson.counted[held])
    predicted, labels = np.asarray(head(lesson.hidden[held])), np.asarray(lesson.label[held])
    bins = np.clip((predicted * 10).astype(int), 0, 9)
    chosen = np.stack([counted & (bins == b) for b in range(10)], axis=2)  # [lessons, T, 10]
    sums = {
        "count": chosen.sum(axis=1),
        "predicted": (chosen * predicted[..., None]).sum(axis=1),
        "labelled": (chosen * labels[..., None]).sum(axis=1),
    }
    count, said, true = (x.sum(axis=0) for x in sums.values())
    used = count > 0
    return {
        "predicted": said[used] / count[used],
        "labelled": true[used] / count[used],
        "share": count[used] / count.sum(),
        "spread": float(predicted[counted].std()),
        "by lesson": sums,
    }
