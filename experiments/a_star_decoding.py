"""A*-decoding: the same accuracy from fewer tokens by searching over steps best-first.

Claim (Chatziveroglou 2025, arXiv 2505.13672): A* over reasoning steps, guided by a process reward,
is as right as best-of-N and particle filtering with up to 3x fewer generated tokens and 30 % fewer
passes of the reward model.

    python -m experiments.a_star_decoding --preset cpu

Multi-step arithmetic by the zoo's generator at temperature 0.8, with the zoo's process reward
model, which was trained on other questions. Of every method tokens are all that it drew, passes
all texts that were scored; best-of-N scores each sample once. How much less A* needs is read off
the baseline's curve over N at A*'s accuracy, in the logarithm; where A* is more accurate than the
whole curve, the largest N counts and the saving is a lower bound. Rules fixed before measuring: a
saving is one if its 95 % bootstrap interval over questions lies above 1, "up to 3x" holds if the
largest saving over the numbers of children is 3 or more, "30 % fewer passes" if A* needs at most
0.7 of what particle filtering does. The figure adds what a reward of known quality does: exact
labels behind a host callback, with noise on their logit. About 4 minutes on two cores, half of it
compiling.

Expect most claims to fail at this size: the zoo's reward is right of 86 % of the steps, which is
not enough to tell right from wrong answers to one question, and the answers that it likes best are
right less often than others. Whatever follows it further does worse, which is best-of-N, beams and
particle filtering as much as A*.

The preset `paper` takes published checkpoints of one vocabulary and GSM8K's JSON lines by path;
its reward model is read at the line break after each step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jax.tree_util import Partial

from experiments.compute import Baseline, Run
from experiments.figures import MARKERS, PALETTE
from experiments.panel import Panel
from experiments.progress import Progress
from experiments.report import Claim, Journal, Out, Report, Seed, figure, run_main
from experiments.sources import open_model, open_reward
from experiments.step_search import Bench, Measured
from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.gsm8k import Gsm8k
from jaxdecode import voting

RULES = {
    "best-of-N": Partial(voting.best_of),
    "weighted best-of-N": Partial(voting.weighted_sum),
    "self-consistency": Partial(voting.majority),
}
FILTER = "particle filtering"


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
      generator, judge: names in the zoo, or folders of published checkpoints.
      data: folder with GSM8K's train.jsonl and test.jsonl; None for arithmetic.
      operations: fewest and most operations of an arithmetic question.
      questions, batch: how many, and how many at a time; a whole number of batches.
      samples: of best-of-N and the votes; sizes are the powers of 2 up to it.
      repetitions: subsets for each smaller N.
      particles: N of particle filtering, rising.
      children: k of A*; claims on one k are on the one in the middle.
      expansions: the most of A*.
      ablations: run A* without costs and without a frontier, beams and DVTS too, and time A*.
      noises: deviations of the noise on an exact reward's logit; none where there is no exact one.
      delimiter: text that ends a step.
      width, depth, max_tokens: tokens of a step, steps of a response, tokens of a response.
    """

    generator: str = "arithmetic"
    judge: str = "arithmetic-steps"
    data: Path | None = None
    operations: tuple[int, int] = (2, 5)
    questions: int = 96
    batch: int = 32
    samples: int = 32
    repetitions: int = 20
    particles: tuple[int, ...] = (2, 4, 8, 16)
    children: tuple[int, ...] = (2, 4, 8)
    expansions: int = 16
    ablations: bool = True
    noises: tuple[float, ...] = (0.0, 3.0)
    delimiter: str = "\n"
    width: int = 10
    depth: int = 7
    max_tokens: int = 58
    temperature: float = 0.8
    seed: Seed = 0
    out: Out = None

    def __post_init__(self):
        if self.questions % self.batch:
            raise ValueError(
                f"questions={self.questions}: not a whole number of batches of {self.batch}"
            )
        if self.samples < 2 or self.samples & (self.samples - 1):
            raise ValueError(f"samples={self.samples}: a power of 2 from 2 on is needed")
        if len(self.particles) < 2 or not self.children:
            raise ValueError(
                f"particles={self.particles} and children={self.children}: a curve needs two "
                "numbers of particles, and A* one of children"
            )

    @property
    def sizes(self) -> list[int]:
        return [2**power for power in range(self.samples.bit_length())]

    @property
    def main(self) -> int:
        """The k that claims on one k are on."""
        return self.children[len(self.children) // 2]


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
    for count in config.particles:
        found[f"{FILTER}, N={count}"] = partial(here.particles, count)
    for count in config.children:
        found[f"A*, k={count}"] = partial(here.a_star, count, **most)
    if config.ablations:
        found[f"A* without costs, k={main}"] = partial(here.a_star, main, costs=False, **most)
        found[f"A* without a frontier, k={main}"] = partial(
            here.a_star, main, frontier=False, **most
        )
        wide = max(main, config.particles[-1] // main * main)
        found[f"beam over steps, {wide // main} of {wide}"] = partial(here.beam, wide // main, main)
        found[f"DVTS, {wide // main} trees of {main}"] = partial(here.trees, wide, main)
    for noise in config.noises:
        oracle = here.oracle(noise)
        found[f"A*, k={main}, noise {noise:g}"] = partial(here.a_star, main, oracle, **most)
        some = config.particles[len(config.particles) // 2]
        found[f"{FILTER}, N={some}, noise {noise:g}"] = partial(here.particles, some, oracle)
    return found


def study(config: Config, here: Bench) -> Report:
    """`run` with the models at hand."""
    asked = methods(config, here)
    with Journal(config) as journal, Progress("A*-decoding", len(asked) + 2) as progress:
        drawn = journal.row("samples", lambda: _samples(here, config.samples))
        progress.advance(note=f"{config.samples} samples")
        found: dict[str, Measured] = {}
        for name, make in asked.items():
            row = journal.row(name, lambda make=make: _measure(here, make()))
            found[name] = Measured.of([row])
            progress.advance(note=f"{name}: {100 * found[name].right.mean():.1f} %")
        speed: dict[str, float] = {}
        if config.ablations:
            search = here.a_star(config.main, expansions=config.expansions)
            speed = journal.row("speed", lambda: here.share_outside(search))
        progress.advance(note="speed")
        return analyse(config, drawn, found, speed, journal.seconds)


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


def _samples(here: Bench, count: int) -> dict[str, Any]:
    """Answers, scores and lengths of `count` samples of every question."""
    questions, seconds = [], 0.0
    for first, part in zip(here.firsts, here.all(here.samples(count)), strict=True):
        pool = part["trace"]
        seconds += part["seconds"]
        for i, example in enumerate(here.questions[first : first + here.batch]):
            rows = zip(pool.tokens[i], pool.length[i], strict=True)
            texts = [here.codec.decode(row[:size].tolist()) for row, size in rows]
            questions.append(
                {
                    "answers": [here.task.extract(text) for text in texts],
                    "reference": example.meta["answer"],
                    "length": pool.length[i],
                    "scores": {"reward": pool.score[i]},
                    "greedy": None,
                    "level": example.meta.get("operations", 0),
                }
            )
    return {"questions": questions, "seconds": seconds}


def baselines(
    config: Config, drawn: dict[str, Any], found: dict[str, Measured]
) -> dict[str, tuple[Baseline, Baseline]]:
    """Every baseline's curve over N: accuracy against tokens, and against passes."""
    panel, sizes = Panel.of(drawn["questions"]), config.sizes
    mean = panel.length.mean(axis=1, keepdims=True).astype(float)
    tokens, passes = mean * sizes, np.ones_like(mean) * sizes
    seconds = drawn["seconds"] / config.questions * np.array(sizes) / config.samples
    curves = {}
    for name, rule in RULES.items():
        right = [
            panel.accuracy(rule, panel.scores["reward"], panel.subsets(n, _times(config, n), 0))
            for n in sizes
        ]
        score, scored = np.stack(right, axis=1), name != "self-consistency"
        curves[name] = (
            Baseline(np.array(sizes), score, tokens, seconds),
            Baseline(np.array(sizes), score, passes if scored else 0 * passes, seconds),
        )
    runs = [found[f"{FILTER}, N={count}"] for count in config.particles]
    numbers, score = np.array(config.particles), np.stack([run.right for run in runs], axis=1)
    seconds = np.array([run.seconds / config.questions for run in runs])
    curves[FILTER] = tuple(
        Baseline(numbers, score, np.stack([getattr(run, name) for run in runs], axis=1), seconds)
        for name in ("tokens", "passes")
    )
    return curves


def _times(config: Config, size: int) -> int:
    return 1 if size == config.samples else config.repetitions


def saving(curve: Baseline, mine: Measured, name: str) -> tuple[float, float, float]:
    """Times that A* needs less of tokens or passes, with its interval."""
    spent = np.full(len(mine.right), mine.seconds / len(mine.right))
    one = Run(mine.right, getattr(mine, name), spent)
    low, high = curve.interval(one, draws=400)
    return curve.speed_up(one)[0], low[0], high[0]


def analyse(
    config: Config,
    drawn: dict[str, Any],
    found: dict[str, Measured],
    speed: dict[str, float],
    seconds: float,
) -> Report:
    """Claims, table and figure from what was measured."""
    curves = baselines(config, drawn, found)
    mine = found[f"A*, k={config.main}"]
    stated, savings = [], {}
    for name, (tokens, _) in curves.items():
        times, low, high = saving(tokens, mine, "tokens")
        top = 100 * tokens.score.mean(0).max()
        stated.append(
            Claim(
                f"A* with k={config.main} needs fewer tokens than {name} for its accuracy",
                "up to 3x fewer than best-of-N and particle filtering (MATH500, AIME 2024)",
                f"{times:.2f}x ({low:.2f}..{high:.2f}) at {100 * mine.right.mean():.1f} %; "
                f"{name} comes to {top:.1f} % at most",
                bool(low > 1),
            )
        )
    for name in ("best-of-N", FILTER):
        for count in config.children:
            one = found[f"A*, k={count}"]
            savings[f"{name}, k={count}"] = saving(curves[name][0], one, "tokens")[0]
    stated.append(
        Claim(
            "the saving of tokens goes up to 3x",
            "up to 3x",
            ", ".join(f"{times:.2f}x on {name}" for name, times in savings.items()),
            max(savings.values()) >= 3,
        )
    )
    times, low, high = saving(curves[FILTER][1], mine, "passes")
    stated.append(
        Claim(
            f"A* with k={config.main} needs 30 % fewer passes than particle filtering",
            "30 % fewer",
            f"{100 / times:.0f} % of its passes ({100 / high:.0f}..{100 / low:.0f}) at equal "
            "accuracy",
            bool(times >= 1 / 0.7),
        )
    )
    if config.out is not None:
        draw(Path(config.out) / "figure.png", config, curves, found)
    return Report(stated, table(config, curves, found, speed), seconds=seconds)


def table(
    config: Config,
    curves: dict[str, tuple[Baseline, Baseline]],
    found: dict[str, Measured],
    speed: dict[str, float],
) -> list[dict[str, Any]]:
    """A row for every method and size; means a question."""
    rows = []
    for name in RULES:
        tokens, passes = curves[name]
        for at, size in enumerate(config.sizes):
            rows.append(
                {
                    "method": f"{name}, N={size}",
                    "accuracy, %": 100 * tokens.score[:, at].mean(),
                    "tokens": tokens.tokens[:, at].mean(),
                    "passes": passes.tokens[:, at].mean(),
                    "seconds": tokens.seconds[at],
                }
            )
    for name, one in found.items():
        row = {
            "method": name,
            "accuracy, %": 100 * one.right.mean(),
            "tokens": one.tokens.mean(),
            "passes": one.passes.mean(),
            "seconds": one.seconds / config.questions,
        }
        rows.append(row | (speed if name == f"A*, k={config.main}" else {}))
    return rows


def draw(
    path: Path,
    config: Config,
    curves: dict[str, tuple[Baseline, Baseline]],
    found: dict[str, Measured],
) -> None:
    """Accuracy against tokens and against passes, and what noise in the reward does."""
    stars = [found[f"A*, k={count}"] for count in config.children]
    order = {name: place for place, name in enumerate(curves)}  # one colour in all panels
    with figure(path, columns=3 if config.noises else 2, width=4.0, height=3.8) as axes:
        for panel, column, (which, label) in zip(
            axes,
            ("tokens", "passes"),
            enumerate(("tokens drawn", "passes of the reward")),
            strict=False,
        ):
            for name, pair in curves.items():
                curve = pair[which]
                at = curve.tokens.mean(0)
                if at.max() > 0:
                    panel.plot(
                        at,
                        100 * curve.score.mean(0),
                        color=PALETTE[order[name]],
                        marker=MARKERS[order[name]],
                        label=name,
                    )
            at = [getattr(one, column).mean() for one in stars]
            panel.plot(at, [100 * one.right.mean() for one in stars], "k*-", ms=9, label="A*")
            for x, one, count in zip(at, stars, config.children, strict=True):
                panel.annotate(
                    f"k={count}",
                    (x, 100 * one.right.mean()),
                    textcoords="offset points",
                    xytext=(0, 7),
                    ha="center",
                    fontsize=7,
                )
            panel.set_xscale("log", base=2)
            panel.set(xlabel=f"{label}, mean of a question", ylabel="accuracy, %")
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, fontsize=7)
        for method, place in {"A*": -1, FILTER: order[FILTER]}.items() if config.noises else ():
            runs = [name for name in found if name.startswith(method) and ", noise " in name]
            values = [100 * found[name].right.mean() for name in runs]
            tokens = np.mean([found[name].tokens.mean() for name in runs])
            label = f"{runs[0].split(', noise')[0]}: {tokens:.0f} tokens"
            color, marker = PALETTE[place], MARKERS[place]
            axes[2].plot(config.noises, values, color=color, marker=marker, label=label)
            axes[2].set(xlabel="noise on the logit of an exact reward", ylabel="accuracy, %")
            axes[2].legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=7)


if __name__ == "__main__":
    run_main(run, PRESETS)
