"""Speed of the canvas engine, against the simplest torch loop on the same weights.

    python -m experiments unmask_bench --preset cpu

The zoo's denoiser fills canvases behind questions of one length, the surest place of a block in
every pass over the whole canvas, in float32. Goals: 3x the torch loop at batch 1 and ahead of it
at batch 8, with equal tokens; less than 10 % of the time outside the model, which is timed as the
same passes with nothing chosen; and nothing traced or compiled again for other prompts of a
bucket. The loop runs on one core and on all, and the faster counts; it needs the `parity` extra,
without which only the other goals are measured. All calls of a batch take turns, medians count,
with 95 % intervals over rounds; compilation is apart. Under a minute on two cores that nothing else
runs on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import torch_denoiser
from experiments.bench.bench import BUSY
from experiments.bench.race import paired
from experiments.harness.environment import usable_cpus
from experiments.harness.judging.claim import above, below
from experiments.harness.measuring import timing
from experiments.harness.measuring.compiles import Compiles
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from experiments.harness.statistics import Floats, bootstrap
from experiments.inputs import sources
from experiments.inputs.sources import Source
from experiments.tasks.canvas.mixture import LISTS
from jaxdecode.choose import Fixed, Top
from jaxdecode.decoder import decode
from jaxdecode.denoiser import Denoiser
from jaxdecode.ending import Whole
from jaxdecode.look import Frame
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.unmask import Unmasker

GOALS = {1: 3.0, 8: 1.0}  # times the torch loop's places a second, by batch
OUTSIDE = 10  # % of the time, that the model does not take
OPERATION = "replace_index"


@dataclass(frozen=True)
class Config:
    """What is timed.

    Attributes:
      denoiser: a name in the zoo, or the folder of a published LLaDA.
      batches: rows filled together.
      places, block: of a canvas.
      repeats: rounds of a race.
      patience: seconds after which a race is cut short.
      caches: of our loop, timed beside the race.
      others: further batches of prompts in the same bucket, for which nothing is to be compiled.
    """

    denoiser: str = "denoiser"
    batches: tuple[int, ...] = (1, 8)
    places: int = 32
    block: int = 8
    repeats: int = 9
    patience: float = 25.0
    caches: tuple[Literal["prefix", "dual"], ...] = ("prefix", "dual")
    others: int = 3
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(batches=(1,), places=8, block=4, repeats=3, caches=(), others=1),
    "cpu": Config(),
    "paper": Config(denoiser="LLaDA-8B-Instruct", places=128, block=32, repeats=3),
}


def questions(config: Config, source: Source, batch: int, draw: int, length: int = 6) -> list:
    """Prompts of `batch` questions, all as long."""
    task = replace(LISTS, operations=(OPERATION,), lengths=(length, length))
    rng = np.random.default_rng((config.seed, draw))
    return [source.codec.prompt(e.prompt) for e in task.sample(rng, batch, "test")]


def decoder(config: Config, denoiser: Denoiser, cache: Any = "none") -> Autoregressive:
    """One place a pass, to the last."""
    ending, rules = Whole(), Top(Fixed(1))
    return Autoregressive(
        Unmasker(
            denoiser,
            rules,
            Greedy(),
            Stop.of(()),
            config.places,
            config.block,
            cache,
            ending=ending,
        )
    )


@functools.partial(jax.jit, static_argnums=(2, 3))
def passes(denoiser: Denoiser, prompt: Prompt, places: int, block: int) -> jax.Array:
    """The model's part of filling: as many passes over the canvas, and the logits of a block."""
    width = prompt.tokens.shape[1] + places
    row = jnp.arange(prompt.batch)
    tokens = jnp.pad(prompt.tokens, ((0, 0), (0, places)), constant_values=denoiser.mask_id)
    frame = Frame(0 * prompt.length, prompt.length + places, None, width)

    def body(count: jax.Array, tokens: jax.Array) -> jax.Array:
        hidden = frame.run(denoiser, tokens, denoiser.model.init_cache(len(row), width)).hidden
        at = prompt.length[:, None] + count // block * block + jnp.arange(block)
        logits = denoiser.logits(jnp.take_along_axis(hidden, at[..., None], axis=1))
        # A token that the next pass reads, so that no pass can be left out.
        best = jnp.argmax(logits[:, 0], axis=-1)
        return tokens.at[row, prompt.length + count].set(best)

    return jax.lax.fori_loop(0, places, body, tokens)


def race(config: Config, source: Source, batch: int) -> dict[str, Any]:
    """One batch: our loop, its passes alone, its caches and the torch loop, taking turns."""
    denoiser, load = source.model, timing.load()
    prompts = questions(config, source, batch, 0)
    prompt, key = Prompt.of(prompts), jax.random.key(config.seed)
    plain = decoder(config, denoiser)
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: decode(plain, key, prompt).tokens,
        "passes": lambda: passes(denoiser, prompt, config.places, config.block),
    }
    for cache in config.caches:
        kept = decoder(config, denoiser, cache)
        calls[cache] = lambda kept=kept: decode(kept, key, prompt).tokens
    row: dict[str, Any] = {"batch": batch, "load": load}
    if torch_denoiser.missing() is None:
        peer = torch_denoiser.TorchDenoiser(sources.folder_of(source.name))
        tokens = np.array(prompts)
        for n in sorted({1, usable_cpus()}):
            calls[f"torch {n}"] = lambda n=n: peer.fill(tokens, config.places, config.block, n)
        row["equal_rows"] = float((np.asarray(calls["ours"]()) == calls["torch 1"]()).all(1).mean())
    taken = timing.interleaved(calls, config.repeats, config.patience)
    row |= {"retraces": retraces(config, source, plain, batch), "rounds": len(taken["ours"])}
    filled = batch * config.places
    middle = timing.medians(taken)
    row["seconds"] = {name: np.round(taken[name], 6).tolist() for name in ("ours", "passes")}
    peers = [name for name in taken if name.startswith("torch")]
    if peers:
        best = min(peers, key=lambda name: middle[name])
        row["seconds"]["torch"] = np.round(taken[best], 6).tolist()
        row |= {"peer_threads": int(best.split()[1]), "ratio": paired(taken[best], taken["ours"])}
        row["torch_places/s"] = filled / middle[best]
    for name in (name for name in taken if name not in peers):
        row["places/s" if name == "ours" else f"{name}_places/s"] = filled / middle[name]
    # Below 0 where the two are alike and noise is all there is.
    row["outside"] = 1.0 - paired(taken["passes"], taken["ours"])
    return row


def retraces(config: Config, source: Source, plain: Autoregressive, batch: int) -> int:
    """Programs compiled for other prompts of the bucket, shorter ones among them."""
    with Compiles() as heard:
        for draw in range(config.others):
            prompts = questions(config, source, batch, 1 + draw, 6 - draw % 2)
            prompts[0] = prompts[0][: len(prompts[0]) - draw % 3]
            # Batched on the host, as `Prompt.of` does: a transfer is no program.
            prompt = Prompt.of(prompts)
            jax.block_until_ready(decode(plain, jax.random.key(draw), prompt))
    return heard.count


def claims(config: Config, evidence: list[dict[str, Any]]) -> list[Claim]:
    """The goals against what was measured, by intervals over the rounds of a race, in each of which
    all take their turn; a race without a peer claims nothing of it."""
    found = []
    for row in evidence:
        batch, seconds = row["batch"], row["seconds"]
        busy = "" if row["load"] is None else f"; {row['load']:.1f} processes a core"
        if "torch" in seconds:
            goal, same = GOALS.get(batch, 1.0), row["equal_rows"]
            times = bootstrap(quotient, seconds["torch"], seconds["ours"], unit="x")
            claim = Claim.tested(
                f"filling a canvas at batch {batch}: times the torch loop's places a second",
                f"goal {goal}, with equal tokens",
                above(times, f"{goal}x"),
                measured=f"{same:.0%} of rows equal{busy}",
            )
            wrong = replace(claim, holds=False, interval=None, mark=None)
            found.append(claim if same == 1.0 else wrong)
        outside = bootstrap(
            lambda part, whole: 100 * (1 - quotient(part, whole)),
            seconds["passes"],
            seconds["ours"],
            unit="%",
        )
        found.append(
            Claim.tested(
                f"share of the time outside the model at batch {batch}",
                f"goal below {OUTSIDE} %",
                below(outside, f"{OUTSIDE} %"),
                measured=f"{row['rounds']} rounds{busy}",
            )
        )
    again = sum(row["retraces"] for row in evidence)
    found.append(
        Claim(
            "programs compiled again for other prompts of a bucket",
            "goal 0",
            f"{again} over {config.others * len(evidence)} batches",
            again == 0,
        )
    )
    return found


def quotient(one: Floats, other: Floats) -> float:
    """`paired`, of arrays."""
    return float(np.median(one / other))


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Places a second by batch, side by side."""
    names = {
        "places/s": "ours",
        "passes_places/s": "its passes alone",
        **{f"{cache}_places/s": f"ours, {cache} cache" for cache in config.caches},
        "torch_places/s": "torch loop",
    }
    shown = {key: name for key, name in names.items() if key in rows[0]}
    wide = 0.8 / len(shown)
    with figure(config.out and Path(config.out) / "figure.png") as (axes,):
        at = np.arange(len(rows))
        for index, (key, name) in enumerate(shown.items()):
            axes.bar(at + wide * index, [row[key] for row in rows], 0.92 * wide, label=name)
        axes.set_xticks(at + 0.4 - wide / 2, [f"batch {row['batch']}" for row in rows])
        axes.set(ylabel="places filled a second")


def run(config: Config) -> Report:
    """Every batch."""
    reason = torch_denoiser.missing()
    if reason:
        print(f"no peer to race: {reason}")
    busy = timing.load()
    if busy is not None and busy > BUSY:
        print(f"this machine is busy, {busy:.1f} processes a core: measure again when it is not")
    source = sources.open_denoiser(config.denoiser, "auto")
    rows = []
    with Resumption(config) as finished, Progress("unmask_bench", len(config.batches)) as progress:
        for batch in config.batches:
            measure = functools.partial(race, config, source, batch)
            rows.append(finished.row(f"batch {batch}", cast(Any, measure)))
            progress.advance(note=f"batch {batch}")
    draw(config, rows)
    kept = ("batch", "load", "rounds", "equal_rows", "retraces", "seconds")
    evidence = [{name: row[name] for name in kept if name in row} for row in rows]
    shown = [{name: row[name] for name in row if name != "seconds"} for row in rows]
    return Report.of(claims, config, evidence, shown, finished.seconds)
