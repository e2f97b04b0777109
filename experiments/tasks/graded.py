"""HumanEval with a grade: the share of a problem's unit tests that a program passes.

The statements of a problem's ``check`` that assert something are its cases, and the others are
run before each of them. The first half of the cases is public, what a search may ask for; the
rest is hidden and tells a right program from a lucky one. All cases of a program run in one
process, the program in another (`experiments.sandbox.calls`); where the program hangs or kills its
process, the cases that are left have failed.
"""

import ast
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from experiments.sandbox.calls import examine_all
from experiments.sandbox.program import Limits
from experiments.tasks.human_eval import HumanEval, surroundings


@dataclass(frozen=True)
class Graded:
    """Grades programs for the problems of a HumanEval file."""

    task: HumanEval
    limits: Limits = field(default_factory=Limits)
    workers: int | None = None

    def grades(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> list[tuple[float, float]]:
        """Shares of public and of hidden cases passed, program by program."""
        mark = secrets.token_hex(16)  # what tests print themselves is no verdict
        made = [self._examination(*pair, mark) for pair in zip(prompts, completions, strict=True)]
        pairs = [(program, tests) for program, tests, _ in made]
        found = []
        for done, (*_, count) in zip(
            examine_all(pairs, self.limits, self.workers), made, strict=True
        ):
            lines = set(done.tests.stdout.splitlines())
            passed = [f"{mark} {case}" in lines for case in range(count)]
            public = (count + 1) // 2
            hidden = passed[public:] or passed
            found.append((sum(passed[:public]) / public, sum(hidden) / len(hidden)))
        return found

    def _examination(self, prompt: str, completion: str, mark: str) -> tuple[str, str, int]:
        """The program, the tests that try every case, and how many there are."""
        body, record = self.task.body(prompt, completion)
        around, setup, asserts = cases(record["test"])
        lines = [surroundings(record), around]
        for number, case in enumerate(asserts):
            inside = "\n".join(f"    {line}" for line in f"{setup}\n{case}".splitlines())
            lines.append(
                f"def _case(candidate):\n{inside}\n"
                f"try: _case({record['entry_point']})\n"
                "except BaseException: pass\n"
                f"else: print('\\n{mark} {number}')\n"
            )
        return body, "\n".join(lines), len(asserts)


def cases(test: str) -> tuple[str, str, list[str]]:
    """A test's source apart: what stands around ``check``, what it prepares, what it asserts.

    Raises:
      ValueError: there is no ``check``, or it asserts nothing.
    """
    tree = ast.parse(test)
    found = [s for s in tree.body if isinstance(s, ast.FunctionDef) and s.name == "check"]
    around = "\n".join(ast.unparse(s) for s in tree.body if s not in found)
    inside = found[0].body if found else []
    told = [s for s in inside if any(isinstance(node, ast.Assert) for node in ast.walk(s))]
    if not told:
        raise ValueError(f"test {test[:60]!r}: there is no check(candidate) that asserts something")
    setup = "\n".join(ast.unparse(s) for s in inside if s not in told)
    return around, setup, [ast.unparse(s) for s in told]
