"""Speed of aligning: a step of leave-one-out policy gradients, against TRL's trainer.

    python -m experiments align_bench --preset cpu

Both draw the same number of responses of the same length to the same prompts from the same
weights in float32, score them by the same rule, take the same KL penalty against the frozen base
and one step of Adam. Goal: three times TRL's steps a second. The peer is `trl.RLOOTrainer`, on one
core and on all, of which the faster counts; it needs the `parity` extra, and without it only our
own numbers are stored. Rounds take turns, the first of each is not counted, medians do, with a 95 %
interval over rounds. A step's rollout is the drawing of its responses; the rest is reading, judging
and learning from them. About two minutes on two cores with the peer.

To expect: rollouts two to three times as fast as the peer's, and learning as fast, since on two
cores both are bound by the arithmetic of the products, about 85 billion operations a second here.
Learning is the larger part of a step at this length, so the whole gains a third.
"""

from __future__ import annotations

import inspect
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from algorithms.alignment.calibration import RawReward
from algorithms.alignment.infalign import Plan, optimise
from experiments.bench import trl_peer
from experiments.harness.environment import usable_cpus
from experiments.harness.judging.claim import above
from experiments.harness.measuring import timing
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Seed, figure
from experiments.harness.statistics import bootstrap
from experiments.inputs import sources
from jaxdecode.autoregress import Generator, generate
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import FunctionScorer
from jaxdecode.stop import Stop
from jaxdecode.train.policy_gradient import Reinforce

GOAL = 3.0  # times TRL's steps a second
PARTS = ("rollout", "train")


@dataclass(frozen=True)
class Config:
    """What is timed.

    Attributes:
      model: a name in the zoo, or the folder of a published checkpoint.
      prompts, group: of a step, and responses to each.
      prompt, new: tokens of every prompt and of every response.
      steps, rounds: steps of a round, and rounds of either side that count.
      beta, rate: of the KL penalty; of Adam.
    """

    model: str = "stdlib"
    prompts: int = 4
    group: int = 8
    prompt: int = 32
    new: int = 48
    steps: int = 3
    rounds: int = 4
    beta: float = 0.05
    rate: float = 1e-5
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(prompts=2, group=2, prompt=8, new=6, steps=2, rounds=1),
    "cpu": Config(),
    "paper": Config(model="", prompts=64, prompt=256, new=256, rate=1e-6),
}


class Ours:
    """Our trainer on the very same work."""

    def __init__(self, config: Config) -> None:
        c, source = config, sources.open_model(config.model)
        half = source.model.vocab_size // 2

        def share(prompt: Any, start: Any, tokens: jax.Array, length: jax.Array) -> jax.Array:
            return jnp.mean((tokens < half).astype(jnp.float32), axis=1)

        self.texts, self.tokens = excerpts(source, c.prompt, 4 * c.prompts)
        self.liked, self.config = half, config
        self.generator = Generator(source.model, Identity(), Categorical(), Stop.of(), c.new)
        self.reward = RawReward(FunctionScorer(share))
        self.plan = Plan(
            prompts=c.prompts,
            group=c.group,
            steps=c.steps,
            optimizer=optax.adam(c.rate),
            learner=Reinforce(),
            seed=c.seed,
        )

    def steps(self) -> list[float]:
        """Seconds of each step of a round."""
        taken: list[float] = []

        def watch(step: int, means: Any) -> None:
            taken.append(means["seconds_per_step"])

        optimise(self.generator, self.reward, self.tokens, self.config.beta, self.plan, watch=watch)
        return taken

    def rollouts(self) -> list[float]:
        """Seconds of drawing the responses of as many steps."""
        c, taken = self.config, []
        for step in range(c.steps):
            start = time.perf_counter()
            prompt = Prompt.of(self.tokens[: c.prompts], width=c.prompt)
            rows = drawn(self.generator, jax.random.key(step), prompt, c.group)
            jax.block_until_ready(rows)
            taken.append(time.perf_counter() - start)
        return taken


@partial(jax.jit, static_argnums=3)
def drawn(generator: Generator, key: jax.Array, prompt: Prompt, group: int) -> Rows:
    """What a rollout is: responses, and nothing learned from them."""
    return generate(generator, key, prompt, group)


def excerpts(source: sources.Source, length: int, count: int) -> tuple[list[str], list[list[int]]]:
    """Texts of exactly `length` tokens, from the source of a module that Python comes with.

    Raises:
      ValueError: too few were found.
    """
    text, texts, tokens = inspect.getsource(textwrap), [], []
    for start in range(0, len(text), len(text) // (8 * count)):
        # A token has a character at least, but for the one that begins the text.
        for end in range(start + length - 1, min(start + 16 * length, len(text))):
            ids = source.codec.prompt(text[start:end])
            if len(ids) == length:
                texts.append(text[start:end])
                tokens.append(ids)
            if len(ids) >= length:
                break
        if len(texts) == count:
            return texts, tokens
    raise ValueError(f"prompt={length}: only {len(texts)} of {count} texts have as many tokens")


def measure(config: Config) -> dict[str, Any]:
    """Seconds of every step of either side, and of its rollout, round by round."""
    c, load = config, timing.load()
    ours, reason = Ours(config), trl_peer.missing()
    if reason:
        print(f"no peer to race: {reason}")
    peer = trl_peer.Peer(
        folder=sources.folder_of(c.model),
        texts=ours.texts,
        prompts=c.prompts,
        group=c.group,
        new=c.new,
        liked=ours.liked,
        beta=c.beta,
        rate=c.rate,
    )
    taken: dict[str, dict[str, list[list[float]]]] = {}
    with Progress("align_bench", c.rounds + 1) as progress:
        for number in range(c.rounds + 1):
            found = {"jaxdecode": (ours.steps(), ours.rollouts())}
            for threads in () if reason else sorted({1, usable_cpus()}):
                found[f"TRL, {threads} threads"] = peer.steps(c.steps, threads)
            for name, (whole, part) in found.items() if number else ():
                one = taken.setdefault(name, {"steps": [], "rollouts": []})
                one["steps"].append(whole)
                one["rollouts"].append(part)
            progress.advance()
    return {"load": load, "trainers": taken}


def table(config: Config, evidence: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for either side, from the medians of all steps."""
    return [
        described(name, float(np.median(one["steps"])), float(np.median(one["rollouts"])), config)
        | {"steps": int(np.size(one["steps"])), "load": evidence["load"]}
        for name, one in evidence["trainers"].items()
    ]


def described(name: str, step: float, rollout: float, config: Config) -> dict[str, Any]:
    """Rates of one trainer, from the seconds of a step and of its rollout."""
    rows = config.prompts * config.group
    rest = max(step - rollout, 1e-9)
    return {
        "trainer": name,
        "steps/s": 1.0 / step,
        "rollout tokens/s": rows * config.new / rollout,
        "train tokens/s": rows * (config.prompt + config.new) / rest,
        "rollout share": rollout / step,
        "train share": rest / step,
    }


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """The goal against what was measured, by an interval over rounds, in each of which both took
    their steps; without a peer nothing is claimed."""
    ours, *others = table(config, evidence)
    if not others:
        return []
    peer = max(others, key=lambda row: row["steps/s"])
    seconds = [evidence["trainers"][row["trainer"]]["steps"] for row in (peer, ours)]
    times = bootstrap(
        lambda slow, fast: float(np.median(slow) / np.median(fast)), *seconds, unit="x"
    )
    return [
        Claim.tested(
            "leave-one-out policy gradients: times TRL's steps a second",
            f"goal {GOAL:g}",
            above(times, f"{GOAL:g}x"),
            measured=f"rollout {ours['rollout share']:.0%} of our step, "
            f"{peer['rollout share']:.0%} of TRL's",
        )
    ]


def run(config: Config) -> Report:
    """Measure both, and hold the ratio against the goal."""
    evidence = measure(config)
    report = Report.of(claims, config, evidence, table(config, evidence))
    draw(config, report.rows)
    return report


def draw(config: Config, rows: Sequence[dict[str, Any]]) -> None:
    """Steps a second, and where a step's seconds go."""
    with figure(config.out and config.out / "figure.png", columns=2) as (steps, shares):
        names = [row["trainer"] for row in rows]
        steps.bar(names, [row["steps/s"] for row in rows], width=0.5)
        steps.set(ylabel="steps a second")
        seconds = [[row[f"{part} share"] / row["steps/s"] for row in rows] for part in PARTS]
        shares.bar(names, seconds[0], width=0.5, label="rollout")
        shares.bar(names, seconds[1], width=0.5, bottom=seconds[0], label="train")
        shares.set(ylabel="seconds of a step")
