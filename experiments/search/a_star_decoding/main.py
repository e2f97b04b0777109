"""A*-decoding: the same accuracy from fewer tokens by searching over steps best-first.

Claim (Chatziveroglou 2025, arXiv 2505.13672): A* over reasoning steps, guided by a process reward,
is as right as best-of-N and particle filtering with up to 3x fewer generated tokens and 30 % fewer
passes of the reward model.

    python -m experiments a_star_decoding --preset cpu

Multi-step arithmetic by the zoo's generator at temperature 0.8. Everything is measured twice, to
tell the method from its judge: under the zoo's process reward model, which was trained on other
questions, and under an exact reward, the labels of steps behind a host callback. Of every method
tokens are all that it drew, passes all texts that were scored; best-of-N scores each sample once.

Rules fixed before measuring: how much less A* needs is read off a baseline's curve over N at A*'s
accuracy, in the logarithm; where A* is more accurate than the whole curve, the largest N counts
and the saving is a lower bound. A saving is one if its 95 % bootstrap interval over questions
lies above 1, "up to 3x" holds if that of one saving lies above 3 (with as wide an interval as
the best of six asks for), "30 % fewer passes" if A* surely needs less than 0.7 of what particle
filtering does. About 5 minutes on two cores, half of it compiling.

Expect the claims to fail under the zoo's reward: it puts a right answer above a wrong one to the
same question 49 % of the time, for all that it labels 86 % of steps rightly. It knows hard
questions from easy ones and how far an answer has come, and nothing else, so that whatever
follows it further does worse: best-of-N, beams and particle filtering as much as A*; the 12x on
best-of-N is the bound for a baseline that this judge ruins, within noise of its accuracy. Under
exact labels A* has 54 % right at the tokens of 4 samples and 29 % of the passes of particle
filtering, but saves 1.5x of the tokens of best-of-N and no more: the generator, which takes 98 %
of first and 36 % of fourth steps rightly, often draws no right child, and A* draws from a node
only once.

The preset `paper` takes published checkpoints of one vocabulary and GSM8K's JSON lines by path;
its reward model is read at the line break after each step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.inputs.sources import open_model, open_reward
from experiments.search.a_star_decoding.config import Config
from experiments.search.a_star_decoding.figure import draw
from experiments.search.a_star_decoding.findings import (
    EXACT,
    FILTER,
    baselines,
    claims,
    judging,
    kept,
    star,
    table,
)
from experiments.search.a_star_decoding.setting import Bench, Measured
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.gsm8k import Gsm8k

PRESETS = {
    "smoke": Config(
        questions=16,
        batch=16,
        samples=4,
        repetitions=4,
        particles=(2, 4),
        children=(4,),
        expansions=8,
        ablations=False,
        exact=False,
        noises=(),
    ),
    "cpu": Config(),
    "paper": Config(
        generator="Qwen2.5-1.5B-Instruct",
        judge="Skywork-o1-Open-PRM-Qwen-2.5-1.5B",
        data=Path("gsm8k"),
        questions=500,
        batch=1,
        samples=64,
        particles=(4, 8, 16, 32, 64),
        children=(2, 4, 8),
        expansions=64,
        exact=False,
        noises=(),
        width=256,
        depth=40,
        max_tokens=1024,
    ),
}


def bench(config: Config) -> Bench:
    """What a configuration stands for."""
    source = open_model(config.generator)
    judge = open_reward(config.judge, source).model
    task: Arithmetic | Gsm8k = Arithmetic(config.operations)
    if config.data is not None:
        files = (config.data / "train.jsonl", config.data / "test.jsonl")
        for file in files:
            if not file.is_file():
                raise ValueError(f"data={config.data}: there is no {file.name} in it")
        task = Gsm8k(*files, flexible=True)
    return Bench(
        source.model,
        judge,
        source.codec,
        task,
        task.sample(np.random.default_rng(config.seed), config.questions, "test"),
        config.delimiter,
        config.width,
        config.depth,
        config.max_tokens,
        config.temperature,
        config.batch,
        config.seed,
    )


def run(config: Config) -> Report:
    """Every method on the same questions."""
    return study(config, bench(config))


def methods(config: Config, here: Bench) -> dict[str, Callable[[], Any]]:
    """Name -> decoder, of all but best-of-N and the votes."""
    main, most = config.main, {"expansions": config.expansions}
    found: dict[str, Callable[[], Any]] = {}
    judges = {"": None} | ({EXACT: here.oracle(0.0)} if config.exact else {})
    for judge, reward in judges.items():
        for count in config.particles:
            found[f"{FILTER}, N={count}{judge}"] = partial(here.particles, count, reward)
        for count in config.children:
            found[star(count, judge)] = partial(here.a_star, count, reward, **most)
    if config.ablations:
        found[f"A* without costs, k={main}"] = partial(here.a_star, main, costs=False, **most)
        found[f"A* without a frontier, k={main}"] = partial(
            here.a_star, main, frontier=False, **most
        )
        wide = max(main, config.particles[-1] // main * main)
        found[f"particle Gibbs, {main} sweeps of {wide // main}"] = partial(
            here.particles, max(2, wide // main), iterations=main
        )
        found[f"beam over steps, {wide // main} of {wide}"] = partial(here.beam, wide // main, main)
        found[f"DVTS, {wide // main} trees of {main}"] = partial(here.trees, wide, main)
    some = config.particles[len(config.particles) // 2]
    for noise in config.noises:
        oracle = here.oracle(noise)
        found[f"A*, k={main}, noise {noise:g}"] = partial(here.a_star, main, oracle, **most)
        found[f"{FILTER}, N={some}, noise {noise:g}"] = partial(here.particles, some, oracle)
    return found


def study(config: Config, here: Bench) -> Report:
    """`run` with the models at hand."""
    asked = methods(config, here)
    with Resumption(config) as finished, Progress("A*-decoding", len(asked) + 2) as progress:
        drawn = finished.row("samples", lambda: _samples(here, config.samples, config.exact))
        progress.advance(note=f"{config.samples} samples")
        found: dict[str, Measured] = {}
        for name, make in asked.items():
            row = finished.row(name, lambda make=make: _measure(here, make()))
            found[name] = Measured.of([row])
            progress.advance(note=f"{name}: {100 * found[name].right.mean():.1f} %")
        speed: dict[str, float] = {}
        if config.ablations:
            search = here.a_star(config.main, expansions=config.expansions)
            speed = finished.row("speed", lambda: here.share_outside(search))
        progress.advance(note="speed")
        return analyse(config, drawn, found, speed, finished.seconds)


def analyse(
    config: Config,
    drawn: dict[str, Any],
    found: dict[str, Measured],
    speed: dict[str, float],
    seconds: float,
) -> Report:
    """Claims, table and figure from what was measured."""
    curves = {
        judge: baselines(config, drawn, found, judge) for judge in ("", EXACT)[: 1 + config.exact]
    }
    if config.out is not None:
        draw(Path(config.out) / "figure.png", config, curves, found)
    rows = [*judging(drawn), *table(config, curves, found, speed)]
    return Report.of(claims, config, kept(curves, found), rows, seconds)


def _measure(here: Bench, decoder: Any) -> dict[str, Any]:
    parts = here.all(decoder)
    columns = ("right", "tokens", "passes")
    row: dict[str, Any] = {name: np.concatenate([p[name] for p in parts]) for name in columns}
    trace = [part["trace"] for part in parts]
    return row | {
        "seconds": sum(part["seconds"] for part in parts),
        "nodes": sum(int(np.sum(t.nodes - 1)) for t in trace),
        "capped": sum(int(np.sum(t.capped)) for t in trace),
        "full": sum(int(np.sum(t.full)) for t in trace),
    }


def _samples(here: Bench, count: int, exact: bool) -> dict[str, Any]:
    """Answers, scores and lengths of `count` samples of every question."""
    questions, seconds = [], 0.0
    for first, part in zip(here.firsts, here.all(here.samples(count)), strict=True):
        pool = part["trace"]
        seconds += part["seconds"]
        for i, example in enumerate(here.questions[first : first + here.batch]):
            rows = zip(pool.tokens[i], pool.length[i], strict=True)
            texts = [here.codec.decode(row[:size].tolist()) for row, size in rows]
            scores = {"reward": pool.score[i]}
            if exact:
                scores["exact"] = here.exactly(example.prompt, pool.tokens[i], pool.length[i])
            questions.append(
                {
                    "answers": [here.task.extract(text) for text in texts],
                    "reference": example.meta["answer"],
                    "length": pool.length[i],
                    "scores": scores,
                    "greedy": None,
                    "level": example.meta.get("operations", 0),
                }
            )
    return {"questions": questions, "seconds": seconds}
