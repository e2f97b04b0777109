"""The experiment on ICN: worked measures, its world, and claims that can fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments.harness.files import compact
from experiments.tasks.task import split_of
from experiments.tokens.icn.categories import Categories
from experiments.tokens.icn.findings import WALK, Findings, claims
from experiments.tokens.icn.main import PRESETS, run
from experiments.tokens.icn.measures import (
    answer_of,
    mean_precision,
    precisions,
    reranked,
    vote,
)
from experiments.tokens.icn.setting import Config, Lessons
from experiments.tokens.icn.ways import DIGITS, STYLES, Ways, kind, way

CONFIG = Config()
C, N = CONFIG.world.count, CONFIG.items


@pytest.mark.parametrize(
    "right, expected",
    [
        ((1, 1, 0, 1, 0, 0, 1, 0, 0, 0), 0.6433),
        ((1,) * 5 + (0,) * 5, 0.8228),
        ((0,) * 5 + (1,) * 5, 0.1772),
        ((1,) * 10, 1.0),
    ],
)
def test_worked_mean_precisions(right, expected) -> None:
    assert mean_precision(right) == pytest.approx(expected, abs=5e-5)
    assert precisions((1, 1, 0, 1, 0, 0, 1, 0, 0, 0))[-1] == pytest.approx(0.4)


def test_categories_and_their_lists() -> None:
    world, rng = CONFIG.world, np.random.default_rng(0)
    codec = world.tokenizer()
    for example in world.sample(rng, 200, "train"):
        assert len(codec.encode(example.prompt + " " + example.target)) <= 6 + 5 * world.most
    lengths = set()
    for _ in range(200):
        category = int(rng.integers(world.count))
        items = world.listed(rng, category)
        assert len(set(items)) == len(items) and {*items} <= world.right(category)
        lengths.add(len(items))
    assert min(lengths) == 1 and max(lengths) > world.short
    members = world.members[0]
    common = [world.entities[members[0]] in world.listed(rng, 0) for _ in range(200)]
    rare = [world.entities[members[-1]] in world.listed(rng, 0) for _ in range(200)]
    assert np.mean(common) > 2 * np.mean(rare) > 0
    taught = Lessons(world, {3: 7}).sample(rng, 2, "train")[0]
    assert taught.prompt == world.asked(3) and world.entities[7] in taught.target


def test_ways_come_to_the_sum() -> None:
    digits = np.array([4, 0, 2, 9])
    assert [way(style, digits) for style in "SLRM"] == ["S15", "L040615", "R111115", "M041115"]
    guesses: list[int] = []
    for example in Ways().sample(np.random.default_rng(0), 100, "test"):
        question = example.prompt[: DIGITS + 1]
        assert split_of(question) == "test"
        total = f"{sum(map(int, question[:-1])):02}"
        assert example.meta["answer"] == total
        ways = [part for part in example.target.split("#") if part[:1] and part[0] != ">"]
        styles = [part.lstrip("abcd")[0] for part in ways]
        assert all(
            part[-2:] == total for part, style in zip(ways, styles, strict=True) if style in "LRM"
        )
        guesses += [
            int(p[-2:]) - int(total) for p, s in zip(ways, styles, strict=True) if s in "Ssz"
        ]
        assert len({kind(style) for style in styles}) == len(styles) and {*styles} <= {*STYLES}
        conclusion = example.target.partition(">")[2]
        assert not conclusion or conclusion == ways[0][-2:] + "."
    assert max(guesses) <= 9 and min(guesses) >= -9 and len({*guesses}) > 9


def test_answers_and_votes() -> None:
    assert [answer_of(text) for text in ("7.", "17.", "7", ".", "x.")] == ["7", "17", "", "", ""]
    assert vote(("7", "8", "8", "7")) == "7" and vote(("8", "7", "7")) == "7"
    assert vote(("", "8", "")) == "8" and vote(("", "")) == ""


def test_reranking_spends_a_cluster() -> None:
    row = {
        "items": [list("abcd")], "right": [[True, False, True, False]],
        "logits": [[4.0, 3.0, 2.5, 1.0]], "clusters": [[0, 0, 1, 2]],
    }  # fmt: skip
    assert reranked(row, 0.0, 3)["items"] == [["a", "b", "c"]]
    assert reranked(row, 1.0, 3)["items"] == [["a", "c", "b"]]
    assert reranked(row, 9.0, 3) == {"items": [["a", "c", "d"]], "right": [[True, True, False]]}


def evidence(**faults: float) -> dict[str, Any]:
    """The paper's world; each fault breaks one thing."""
    rng = np.random.default_rng(0)

    def found(share: float) -> dict:
        right = rng.random((C, N)) < faults.get("share", share)
        return {"items": [[f"i{k}" for k in range(N)]] * C, "right": right.tolist()}

    def group(count: int, right: float, rank: float) -> dict:
        return {"count": count, "right": count * right, "ranks": count * rank}

    inside, outside = faults.get("inside", 0.05), 0.25
    groups = [
        {
            "inside": group(30, inside + 0.02 * rng.normal(), 33.0),
            "outside": group(25, outside + 0.02 * rng.normal(), faults.get("rank", 34.0)),
            "top": 0.9,
        }
        for _ in range(C)
    ]
    ranks = found(0.4) | {"groups": groups, "logits": np.tile(-np.arange(N), (C, 1))}
    ranks["clusters"] = np.tile(np.arange(N) % 3, (C, 1))
    best = f"ICN, {N} x 1"
    methods = {best: found(0.8), "sampling": found(0.5), "diverse beams": found(0.5)}
    decay = np.linspace(1, 0.5, N) + 0.01 * rng.normal(size=(C, N))
    moved = {"cosine": decay, "stands": faults.get("stands", 3.0) * np.minimum(decay, 0.9)}
    moved["stands"][:, 0] = 3.0
    share = np.arange(100) < 80
    fewer = np.arange(100) < faults.get("vote", 40.0)
    votes = {name: {"vote": fewer * 1.0, "path": fewer * 1.0} for name in
             ("first tokens of one law", "greedy", "sampling")}  # fmt: skip
    votes["ICN"] = {"vote": share * 1.0, "path": share * 0.7}
    taught = {
        "keys": faults.get("keys", 0.001), "queries": 0.1 + 0.01 * rng.random(C),
        "inside": 1 + 0.1 * rng.random(15), "outside": faults.get("outside", 0.2) + np.zeros(15),
        "member": np.full(15, 3.0),
    }  # fmt: skip
    return compact(
        {"ranks": ranks, "methods": methods, "moved": moved, "votes": votes, "taught": taught}
    )


def test_claims_hold_in_the_papers_world() -> None:
    kept = evidence()
    found, stated = Findings.of(CONFIG, **kept), claims(CONFIG, kept)
    assert [claim.verdict for claim in stated] == ["holds"] * len(stated) and len(stated) == 13
    assert [claim.headline for claim in stated].index(True) == 0 and WALK in found.methods
    assert len(found.table()) == 3 + 3 + 4


@pytest.mark.parametrize(
    "fault, places",
    [
        ({"share": 0.5}, [0, 1, 2, 3, 4]),
        ({"inside": 0.3}, [5]),
        ({"rank": 30.0}, [6]),
        ({"stands": 6.0}, [7]),
        ({"vote": 80.0}, [8, 9, 10]),
        ({"keys": 0.1}, [11]),
        ({"outside": 1.5}, [12]),
    ],
)
def test_claims_fail_where_the_world_is_another(fault, places) -> None:
    stated = claims(CONFIG, evidence(**fault))
    assert [i for i, claim in enumerate(stated) if claim.verdict != "holds"] == places


def test_votes_of_a_model_that_learned_nothing_are_not_measurable() -> None:
    kept = evidence()
    for row in kept["votes"].values():
        row["vote"] = row["path"] = [1.0] * 10 + [0.0] * 90
    stated = claims(CONFIG, kept)
    vain = [i for i, claim in enumerate(stated) if claim.verdict == "not measurable here"]
    assert vain == [8, 9, 10] and "by chance" in stated[8].measured


def test_refusals() -> None:
    with pytest.raises(ValueError, match="3 does not divide items=10"):
        replace(CONFIG, runs=(3,))
    with pytest.raises(ValueError, match="never seen"):
        replace(CONFIG, items=20)
    with pytest.raises(ValueError, match="top=60"):
        replace(CONFIG, top=60)
    with pytest.raises(ValueError, match="taught=99"):
        replace(CONFIG, taught=99)
    with pytest.raises(ValueError, match="members of a category"):
        Categories(least=9, most=8)


@pytest.mark.slow
def test_smoke(tmp_path) -> None:
    report = run(replace(PRESETS["smoke"], out=tmp_path))
    names = [row["explored"] for row in report.rows]
    assert names[0] == WALK and "ICN, 4 x 1" in names and "ways: greedy" in names
    assert (tmp_path / "figure.png").stat().st_size > 10_000
