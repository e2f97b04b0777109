"""Multi-step arithmetic with every step written out, one a line.

    prompt   ((3+4)*2)-5=
    target   3+4=7
             7*2=14
             14-5=9
             #9

Expressions are random binary trees over +, - and *, parenthesised inside and bare outside, so
Python's own grammar reads them. Difficulty has three knobs: the number of operations, the largest
operand, and the largest value any step may reach. The reference solution reduces innermost left
first; ``check_steps`` accepts any order, since every order is right.

With operands of one digit and n operations a prompt has at most 4n characters (24 at n = 6) and
a completion under the default bound at most 9n + 3 (57).
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.tasks import tokenizer
from experiments.tasks.task import Example, Split, check_split, split_of

ALPHABET = "0123456789+-*()=\n#"
_APPLY: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_STEP = re.compile(r"(-?\d+)([+\-*])(-?\d+)=(-?\d+)")
_ANSWER = re.compile(r"(?:^|\n)#(-?\d+)\Z")
_READY = re.compile(r"\((-?\d+)([+\-*])(-?\d+)\)")
_TOKEN = re.compile(r"\d+|[+\-*()=]")


@dataclass(frozen=True)
class Arithmetic:
    """Expressions with ``operations`` (fewest, most) operators, drawn uniformly in between.

    ``operand`` is the largest leaf (leaves are 1..operand); every intermediate value lies in
    ``lowest``..``highest``, which caps what a step costs to compute.
    """

    operations: tuple[int, int] = (1, 6)
    operand: int = 9
    lowest: int = 0
    highest: int = 99

    def __post_init__(self) -> None:
        fewest, most = self.operations
        if not 1 <= fewest <= most:
            raise ValueError(f"operations is {self.operations}: pass 1 <= fewest <= most")
        if self.operand < 1:
            raise ValueError(f"operand is {self.operand}: the largest leaf must be at least 1")
        if self.lowest > 0 or self.highest < self.operand:
            raise ValueError(
                f"values may lie in {self.lowest}..{self.highest}: widen to hold 0..{self.operand}"
            )

    @property
    def name(self) -> str:
        return "arithmetic"

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        """One token a character; the same for every difficulty."""
        return tokenizer.characters(ALPHABET)

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``meta``: ``operations`` (the difficulty), ``answer`` (a string of digits)."""
        check_split(split)
        examples: list[Example] = []
        while len(examples) < count:
            operations = int(rng.integers(self.operations[0], self.operations[1] + 1))
            while True:  # redraw at this difficulty, so that rejection does not favour the easy
                text, value, steps = self._expression(rng, operations)
                prompt = _bare(text) + "="
                if split_of(prompt) == split:
                    break
            target = "\n".join([*steps, f"#{value}"])
            meta = {"operations": operations, "answer": str(value)}
            examples.append(Example(prompt, target, meta))
        return examples

    def verify(self, prompt: str, completion: str) -> float:
        """1 where the answer is the prompt's value, whatever the steps say; else 0."""
        return float(self.extract(completion) == str(evaluate(prompt)))

    def extract(self, completion: str) -> str | None:
        """The integer after the last line's ``#``, without leading zeros."""
        found = _ANSWER.search(completion)
        return str(int(found.group(1))) if found else None

    def _expression(self, rng: np.random.Generator, operations: int) -> tuple[str, int, list[str]]:
        """A random tree: its text in parentheses (a leaf has none), its value, its steps."""
        if operations == 0:
            leaf = int(rng.integers(1, self.operand + 1))
            return str(leaf), leaf, []
        left_size = int(rng.integers(operations))
        left, a, left_steps = self._expression(rng, left_size)
        right, b, right_steps = self._expression(rng, operations - 1 - left_size)
        allowed = [
            symbol for symbol, apply in _APPLY.items() if self.lowest <= apply(a, b) <= self.highest
        ]
        if not allowed:  # only the subtree that cannot be joined is drawn again
            return self._expression(rng, operations)
        symbol = allowed[int(rng.integers(len(allowed)))]
        value = _APPLY[symbol](a, b)
        steps = [*left_steps, *right_steps, f"{a}{symbol}{b}={value}"]
        return f"({left}{symbol}{right})", value, steps


def evaluate(prompt: str) -> int:
    """The value of ``expression=``; ValueError where it is not a parenthesised expression."""
    tokens = _TOKEN.findall(prompt)
    if "".join(tokens) != prompt or prompt.count("=") != 1 or tokens[-1] != "=":
        raise ValueError(f"prompt {prompt!r} is not 'expression=' over integers and +-*()")
    value, rest = _operand(tokens)
    if rest != ["="]:
        value, rest = _operation(value, rest)
    if rest != ["="]:
        raise ValueError(f"prompt {prompt!r}: parenthesise what follows before {''.join(rest)!r}")
    return value


def check_steps(prompt: str, completion: str) -> list[bool]:
    """Whether each line before the answer is a right reduction of what the lines before it left.

    A line ``a+b=c`` is right when ``a+b`` is a ready subexpression and c its value; after a wrong
    line every later one is wrong, as a process reward labels them. Where equal subexpressions
    occur twice every choice is followed, so no valid order is refused.
    """
    states = {prompt.removesuffix("=")}
    labels = []
    for line in completion.split("\n"):
        if line.startswith("#"):
            break
        states = _reduce(states, line)
        labels.append(bool(states))
    return labels


def right_so_far(prompt: str, completion: str, ended: bool) -> list[bool]:
    """For each character, and for the end where it `ended`: can this still become right?

    Right is a completion of right steps, in any order, down to the answer, and nothing more.
    """
    states = {prompt.removesuffix("=")}
    labels, line, answered = [], "", False
    for character in completion:
        line += character
        if character == "\n" and not answered:
            states, line = _reduce(states, line[:-1]), ""
            labels.append(bool(states))
            continue
        answers = {f"#{state}" for state in states if state.lstrip("-").isdigit()}
        lines = answers | {step for state in states for step in _steps(state)}
        labels.append(any(full.startswith(line) for full in lines))
        answered = line in answers
    return [*labels, answered] if ended else labels


def _steps(state: str) -> set[str]:
    """The right lines that can come next."""
    found = _READY.findall(f"({state})")
    return {f"{a}{symbol}{b}={_APPLY[symbol](int(a), int(b))}" for a, symbol, b in found}


def _reduce(states: set[str], line: str) -> set[str]:
    found = _STEP.fullmatch(line)
    if not found:
        return set()
    a, symbol, b, c = found.groups()
    if str(_APPLY[symbol](int(a), int(b))) != c:
        return set()
    whole, inner = f"{a}{symbol}{b}", f"({a}{symbol}{b})"
    reduced = {c for state in states if state == whole}
    for state in states:
        for match in re.finditer(re.escape(inner), state):
            reduced.add(state[: match.start()] + c + state[match.end() :])
    return reduced


def _operand(tokens: list[str]) -> tuple[int, list[str]]:
    head, rest = tokens[0], tokens[1:]
    if head.isdigit():
        return int(head), rest
    if head != "(":
        raise ValueError(f"expected a number or '(' before {''.join(tokens)!r}")
    value, rest = _operand(rest)
    value, rest = _operation(value, rest)
    if rest[0] != ")":
        raise ValueError(f"expected ')' before {''.join(rest)!r}")
    return value, rest[1:]


def _operation(left: int, tokens: list[str]) -> tuple[int, list[str]]:
    symbol = tokens[0]
    if symbol not in _APPLY:
        raise ValueError(f"expected one of +-* before {''.join(tokens)!r}")
    right, rest = _operand(tokens[1:])
    return _APPLY[symbol](left, right), rest


def _bare(text: str) -> str:
    return text[1:-1] if text.startswith("(") else text
