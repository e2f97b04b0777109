"""Questions over generated tables, to be answered by a query that real SQLite executes.

    prompt   table 4 8 2 : show price and sold with size over 40 by date falling , few rows ?
    target   select net , sold from items where width > 40 order by paid desc limit 5

Questions leave things open, as people's do: "price" may mean one of three columns, "sorted" rises
or falls, "few" is a number. What the asker meant is drawn from known odds by a hash of the
question, so nobody can read it off the text; a verifier that compares results knows. The number of
open parts is the difficulty: with all six open, 486 queries are possible.

The score of a query compares its rows with those of the query that was meant. It is the mean of
two F1 scores over cells: as a bag, and in place (row and column), in the manner of the soft F1 of
the BIRD benchmark (Li et al. 2023, arXiv 2305.03111); 1 exactly where the results are equal.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from experiments.sandbox.database import Answer, Cell, Database
from experiments.tasks import tokenizer
from experiments.tasks.task import Example, Split, check_split, split_of

# What an open word may mean, and how often it means it.
MEANINGS: dict[str, tuple[str, ...]] = {
    "price": ("net", "gross", "listed"),
    "amount": ("stock", "sold", "lost"),
    "size": ("width", "height", "depth"),
    "date": ("made", "sent", "paid"),
    "sorted": ("asc", "desc"),
    "few": ("3", "5", "8"),
}
ODDS = {2: (0.6, 0.4), 3: (0.5, 0.3, 0.2)}
CONCEPTS = ("price", "amount", "size", "date")
COLUMNS = tuple(column for concept in CONCEPTS for column in MEANINGS[concept])
_PLAIN = {"rising": "asc", "falling": "desc"}  # other words mean themselves
_SPELLED = {meaning: word for word, meaning in _PLAIN.items()}
_BOUNDS = {"over": range(20, 60, 10), "under": range(50, 90, 10)}
_SIGNS = {"over": ">", "under": "<"}
_QUESTION = re.compile(
    r"table (\d) (\d) (\d) : show (\w+) and (\w+) with (\w+) (over|under) (\d+) "
    r"by (\w+) (\w+) , (\w+) rows \?"
)
_WORDS = (
    *("table", ":", "show", "and", "with", "over", "under", "by", "rising", "falling"),
    *(",", "rows", "?"),
    *MEANINGS,
    *COLUMNS,
    *("select", "from", "items", "where", ">", "<", "order", "asc", "desc", "limit"),
    *(str(n) for n in (*range(10), *range(20, 90, 10))),
)
_PARTS = 6


@dataclass(frozen=True)
class Question:
    """A question taken apart: the number of its table, its bound, and six words of meaning.

    `words` are two columns to show, one to filter by, one to sort by, direction and row count.
    """

    table: int
    sign: str
    bound: str
    words: tuple[str, ...]

    @classmethod
    def parse(cls, prompt: str) -> "Question":
        """Raises ValueError where the text is no question of this task."""
        found = _QUESTION.fullmatch(prompt)
        if not found:
            raise ValueError(f"prompt {prompt!r} is no question of the task 'sql'")
        a, b, c, one, two, by, side, bound, order, direction, count = found.groups()
        words = (one, two, by, order, direction, count)
        return cls(int(a + b + c), _SIGNS[side], bound, words)

    @property
    def options(self) -> tuple[tuple[str, ...], ...]:
        """What each of the words may mean."""
        return tuple(MEANINGS.get(word, (_PLAIN.get(word, word),)) for word in self.words)

    def draw(self, rng: np.random.Generator) -> tuple[str, ...]:
        """Meanings by the odds."""
        return tuple(
            options[0]
            if len(options) == 1
            else options[int(rng.choice(len(options), p=ODDS[len(options)]))]
            for options in self.options
        )

    def query(self, meanings: Sequence[str]) -> str:
        """The SQL under the meanings given."""
        one, two, by, order, direction, count = meanings
        return (
            f"select {one} , {two} from items where {by} {self.sign} {self.bound} "
            f"order by {order} {direction} limit {count}"
        )


@dataclass(frozen=True)
class Sql:
    """Questions with `open_parts` (fewest, most) words left open, over tables of `rows` rows."""

    open_parts: tuple[int, int] = (2, 6)
    rows: int = 24

    def __post_init__(self) -> None:
        fewest, most = self.open_parts
        if not 0 <= fewest <= most <= _PARTS:
            raise ValueError(f"open_parts is {self.open_parts}: pass 0 <= fewest <= most <= 6")
        if self.rows < 1:
            raise ValueError(f"rows is {self.rows}: a table needs at least one")

    @property
    def name(self) -> str:
        return "sql"

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        """One token a word; the same for every difficulty. Holds the words of feedback too."""
        return tokenizer.words((*_WORDS, "best", "worst", "scores", "10", "answer"))

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``meta``: ``open`` (the difficulty), ``answer`` (the query meant)."""
        check_split(split)
        examples = []
        while len(examples) < count:
            parts = int(rng.integers(self.open_parts[0], self.open_parts[1] + 1))
            prompt = _write(rng, parts)
            if split_of(prompt) == split:
                target = meant(prompt)
                examples.append(Example(prompt, target, {"open": parts, "answer": target}))
        return examples

    def run(self, prompt: str, completion: str) -> Answer:
        """What the query gives on the table that the prompt names; the same query is run once."""
        try:
            return _settled(Question.parse(prompt).table, self.rows, completion)
        except TimeoutError as late:
            return late.args[0]

    def verify(self, prompt: str, completion: str) -> float:
        """The score of the rows; 0 for a query that fails or is refused."""
        answer = self.run(prompt, completion)
        if answer.status != "ok":
            return 0.0
        return similarity(answer.rows, self.run(prompt, meant(prompt)).rows)

    def extract(self, completion: str) -> str | None:
        """The query with single spaces."""
        return " ".join(completion.split()) or None


def intent(prompt: str) -> tuple[str, ...]:
    """The meanings that the asker of a question had in mind."""
    seed = int.from_bytes(blake2b(prompt.encode(), digest_size=8, person=b"sql").digest(), "big")
    return Question.parse(prompt).draw(np.random.default_rng(seed))


def meant(prompt: str) -> str:
    """The query that the asker of a question had in mind."""
    return Question.parse(prompt).query(intent(prompt))


def similarity(rows: Sequence[Sequence[Cell]], wanted: Sequence[Sequence[Cell]]) -> float:
    """The mean of the F1 of cells as a bag and in place; 1 exactly where all rows are equal."""
    if tuple(map(tuple, rows)) == tuple(map(tuple, wanted)):
        return 1.0
    bags = [Counter(cell for row in table for cell in row) for table in (rows, wanted)]
    places = [
        Counter((i, j, cell) for i, row in enumerate(table) for j, cell in enumerate(row))
        for table in (rows, wanted)
    ]
    # Of unequal results the bags may be equal, the places not: the mean is below 1.
    return (_f1(*bags) + _f1(*places)) / 2


def _f1(one: Counter, other: Counter) -> float:
    return 2 * (one & other).total() / max(1, one.total() + other.total())


def _write(rng: np.random.Generator, parts: int) -> str:
    """A question that leaves `parts` of its words open."""
    concepts = [CONCEPTS[i] for i in rng.permutation(len(CONCEPTS))]
    words = [*concepts, "sorted", "few"]
    for place in rng.permutation(_PARTS)[parts:]:
        options = MEANINGS[words[place]]
        meaning = options[int(rng.integers(len(options)))]
        words[place] = _SPELLED.get(meaning, meaning)
    side = str(rng.choice(list(_BOUNDS)))
    bound = int(rng.choice(_BOUNDS[side]))
    digits = " ".join(f"{int(rng.integers(1000)):03d}")
    one, two, by, order, direction, count = words
    return (
        f"table {digits} : show {one} and {two} with {by} {side} {bound} "
        f"by {order} {direction} , {count} rows ?"
    )


@lru_cache(maxsize=1 << 16)
def _settled(number: int, rows: int, query: str) -> Answer:
    """An answer that another run would give too; one that came too late is raised."""
    answer = _table(number, rows).run(query)
    if answer.status == "timeout":
        raise TimeoutError(answer)
    return answer


@lru_cache(maxsize=1000)
def _table(number: int, rows: int) -> Database:
    values = np.random.default_rng((number, rows)).integers(0, 100, (rows, len(COLUMNS)))
    columns = ", ".join(f"{column} integer" for column in COLUMNS)
    marks = ", ".join("?" * len(COLUMNS))
    make = [f"create table items ({columns})", f"insert into items values ({marks})"]
    return Database.of(make, values.tolist())
