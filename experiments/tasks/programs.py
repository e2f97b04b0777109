"""Small list programs to be found from examples, with public and hidden unit tests.

    prompt   4 1 7 > 2 8 14 ; 3 > 6 ; 5 5 2 9 > 4 10 10 18 ; 8 0 > 0 16 :
    target   sort mul 2

A program is a chain of operations on a list of integers. A problem is a set of pairs of input and
output: the public ones are the prompt, the hidden ones are kept in ``meta`` and tell a program
that found the rule from one that found a coincidence. Every operation of a reference program
matters: no shorter chain made by leaving one out passes all tests. Values are kept within
-99..99, where the arithmetic saturates: every number is a word, and so is every operation's name.
"""

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from experiments.sandbox.calls import examine
from experiments.sandbox.program import Limits
from experiments.tasks import tokenizer
from experiments.tasks.task import Example, Split, check_split, split_of

Numbers = list[int]
BOUND = 99
_PLAIN: dict[str, tuple[Callable[[Numbers], Numbers], str]] = {
    "rev": (lambda x: x[::-1], "x = x[::-1]"),
    "sort": (sorted, "x = sorted(x)"),
    "uniq": (lambda x: list(dict.fromkeys(x)), "x = list(dict.fromkeys(x))"),
    "neg": (lambda x: [-v for v in x], "x = [-v for v in x]"),
    "even": (lambda x: [v for v in x if v % 2 == 0], "x = [v for v in x if v % 2 == 0]"),
    "odd": (lambda x: [v for v in x if v % 2], "x = [v for v in x if v % 2]"),
    "sum": (lambda x: [_clip(sum(x))], "x = [clip(sum(x))]"),
    "diff": (
        lambda x: [_clip(b - a) for a, b in pairwise(x)],
        "x = [clip(b - a) for a, b in zip(x, x[1:])]",
    ),
}
_WITH_NUMBER: dict[str, tuple[Callable[[Numbers, int], Numbers], str]] = {
    "add": (lambda x, n: [_clip(v + n) for v in x], "x = [clip(v + {n}) for v in x]"),
    "mul": (lambda x, n: [_clip(v * n) for v in x], "x = [clip(v * {n}) for v in x]"),
    "take": (lambda x, n: x[:n], "x = x[:{n}]"),
    "drop": (lambda x, n: x[n:], "x = x[{n}:]"),
    "over": (lambda x, n: [v for v in x if v > n], "x = [v for v in x if v > {n}]"),
}
_NUMBERS = {"add": range(1, 10), "mul": range(2, 5), "take": range(1, 5), "drop": range(1, 4)}
_STEP = re.compile(r"([a-z]+)(?: (\d))?")
_PAIR = re.compile(r"((?:-?\d+ )*)>((?: -?\d+)*)")
_FEEDBACK = ("best", "worst", "scores", "answer")  # as `experiments.tasks.refinement` words it
_WORDS = (
    *(">", ";", ":", *_PLAIN, *_WITH_NUMBER, *_FEEDBACK),
    *map(str, range(-BOUND, BOUND + 1)),
)

_RESIZED = 0.15  # how often a near miss is shorter, and how often longer

Pair = tuple[Numbers, Numbers]


def _clip(value: int) -> int:
    return max(-BOUND, min(BOUND, value))


@dataclass(frozen=True)
class Programs:
    """Problems of ``operations`` (fewest, most) operations with public and hidden pairs."""

    operations: tuple[int, int] = (1, 3)
    public: int = 4
    hidden: int = 4
    longest: int = 5

    def __post_init__(self) -> None:
        fewest, most = self.operations
        if not 1 <= fewest <= most:
            raise ValueError(f"operations is {self.operations}: pass 1 <= fewest <= most")
        for name in ("public", "hidden", "longest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: at least 1 is needed")

    @property
    def name(self) -> str:
        return "programs"

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        """One token a word; the same for every difficulty."""
        return tokenizer.words(_WORDS)

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``meta``: ``operations``, ``answer`` (the reference), ``hidden`` (its hidden pairs)."""
        check_split(split)
        examples: list[Example] = []
        while len(examples) < count:
            size = int(rng.integers(self.operations[0], self.operations[1] + 1))
            while True:
                program, pairs = self._problem(rng, size)
                prompt = show(pairs[: self.public])
                if split_of(prompt) == split:
                    break
            meta = {"operations": size, "answer": program, "hidden": pairs[self.public :]}
            examples.append(Example(prompt, program, meta))
        return examples

    def verify(self, prompt: str, completion: str) -> float:
        """The share of the public pairs that a program gets right; 0 where it is none."""
        return passed(completion, parse(prompt))

    def extract(self, completion: str) -> str | None:
        """The program, None where the text is none."""
        return completion if _steps(completion) is not None else None

    def _problem(self, rng: np.random.Generator, size: int) -> tuple[str, list[Pair]]:
        """A program of which no operation can be left out, with its pairs."""
        while True:
            steps = [_draw(rng) for _ in range(size)]
            program = " ".join(steps)
            lengths = rng.integers(1, self.longest + 1, self.public + self.hidden)
            inputs = [rng.integers(0, 10, length).tolist() for length in lengths]
            pairs = [(x, run(program, x)) for x in inputs]
            shorter = [" ".join(steps[:i] + steps[i + 1 :]) for i in range(size)]
            if all(passed(other, pairs[: self.public]) < 1.0 for other in shorter):
                return program, pairs


def run(program: str, x: Sequence[int]) -> Numbers:
    """The program's output; ValueError where the text is no program. Empty text changes nothing."""
    steps = _steps(program)
    if steps is None:
        raise ValueError(
            f"program {program!r} is no chain of {', '.join([*_PLAIN, *_WITH_NUMBER])}"
        )
    out = list(x)
    for name, number in steps:
        out = _PLAIN[name][0](out) if number is None else _WITH_NUMBER[name][0](out, number)
    return out


def passed(program: str, pairs: Sequence[Pair]) -> float:
    """The share of pairs that a program gets right; 0 where the text is no program."""
    if _steps(program) is None:
        return 0.0
    return sum(run(program, x) == y for x, y in pairs) / len(pairs)


def python(program: str) -> str:
    """The same program as a Python function ``solve(x)``."""
    lines = [f"def clip(v): return max(-{BOUND}, min({BOUND}, v))", "def solve(x):"]
    for name, number in _steps(program) or ():
        text = _PLAIN[name][1] if number is None else _WITH_NUMBER[name][1].format(n=number)
        lines.append(f"    {text}")
    return "\n".join([*lines, "    return x", ""])


def passed_in_sandbox(code: str, pairs: Sequence[Pair], limits: Limits | None = None) -> float:
    """The share of pairs that ``solve`` of model-written Python gets right, run in the sandbox.

    Answers are compared in another process than the program's: see `experiments.sandbox.calls`.

    Every pair is tried even where others fail; where the program ends early, the rest are wrong.
    """
    mark = secrets.token_hex(16)  # what tests print themselves is no verdict
    tests = "solve = ask('solve')\n" + "".join(
        f"try:\n    if solve({list(x)!r}) == {list(y)!r}: print('{mark} {number}')\n"
        "except Exception: pass\n"
        for number, (x, y) in enumerate(pairs)
    )
    lines = set(examine(code, tests, limits).tests.stdout.splitlines())
    return sum(f"{mark} {number}" in lines for number in range(len(pairs))) / len(pairs)


def near_miss(rng: np.random.Generator, program: str, anew: float) -> str:
    """A program like another: steps drawn anew with a chance each, at times one less or more."""
    steps = [_draw(rng) if rng.random() < anew else step for step in split_steps(program)]
    change = rng.random()
    if change < _RESIZED and len(steps) > 1:
        del steps[int(rng.integers(len(steps)))]
    elif change > 1 - _RESIZED:
        steps.insert(int(rng.integers(len(steps) + 1)), _draw(rng))
    return " ".join(steps)


def split_steps(program: str) -> list[str]:
    """The operations of a program, each with its number; none where the text is no program."""
    return [
        name if number is None else f"{name} {number}" for name, number in _steps(program) or ()
    ]


def show(pairs: Sequence[Pair]) -> str:
    """Pairs as a prompt."""
    texts = (" ".join([*map(str, x), ">", *map(str, y)]) for x, y in pairs)
    return " ; ".join(texts) + " :"


def parse(prompt: str) -> list[Pair]:
    """The pairs of a prompt; ValueError where it is none."""
    found = [_PAIR.fullmatch(text) for text in prompt.removesuffix(" :").split(" ; ")]
    if not prompt.endswith(" :") or not all(found):
        raise ValueError(f"prompt {prompt!r} is not 'x > y ; ... :' over integers x and y")
    return [(_numbers(match[1]), _numbers(match[2])) for match in found if match]


def _numbers(text: str) -> Numbers:
    return [int(number) for number in text.split()]


def _steps(program: str) -> list[tuple[str, int | None]] | None:
    """None where the text is no program: a name or number is wrong, or a space too many. The one
    that parts it from its prompt may stand before it."""
    program = program.removeprefix(" ")
    found = [(m[1], None if m[2] is None else int(m[2])) for m in _STEP.finditer(program)]
    words = [name if number is None else f"{name} {number}" for name, number in found]
    sound = " ".join(words) == program and all(
        name in (_PLAIN if number is None else _WITH_NUMBER) for name, number in found
    )
    return found if sound else None


def _draw(rng: np.random.Generator) -> str:
    names = [*_PLAIN, *_WITH_NUMBER]
    name = names[int(rng.integers(len(names)))]
    return name if name in _PLAIN else f"{name} {rng.choice(_NUMBERS.get(name, range(10)))}"
