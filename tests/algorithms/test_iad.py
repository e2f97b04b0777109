"""Iterative Agent Decoding against a naive double, its exact chain, and verifiers that fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest

from algorithms.agents.agent import Attempt, Reply, Review, Verdict
from algorithms.agents.iad import IAD
from experiments.agents.iad.refinement_chain import Chain, score
from tests.algorithms.bits import Bits, share, strings
from tests.references import iad as naive

PROMPTS = strings(20)


def fussy(prompt: str, text: str) -> Verdict:
    """Refuses every third string, in four ways."""
    kind = int(text, 2) % 12
    if kind == 0:
        raise KeyError(text)
    if kind == 3:
        raise RuntimeError("the program died")
    if kind in (6, 9):
        return Verdict(math.nan if kind == 6 else math.inf)
    return share(prompt, text)


@pytest.mark.parametrize("verify", [share, fussy])
@pytest.mark.parametrize("accept", ["better", "always"])
@pytest.mark.parametrize(("rounds", "samples"), [(1, 4), (5, 3), (6, 1)])
def test_every_draw_and_choice_is_the_naive_ones(verify, accept, rounds, samples):
    agent = Bits()
    found = IAD(agent, verify, rounds, samples, accept)(PROMPTS, range(7, 27))
    for id, (prompt, outcome) in enumerate(zip(PROMPTS, found, strict=True), start=7):

        def draw(best, worst, number, prompt=prompt, id=id):
            one, other = (None if scored is None else scored[0] for scored in (best, worst))
            return agent.draw(prompt, one, other, id, number)

        def reward(text, prompt=prompt):
            try:
                value = verify(prompt, text).score
            except (KeyError, RuntimeError):
                return -math.inf
            return value if math.isfinite(value) else -math.inf

        best, history = naive.refine(draw, reward, rounds, samples, gate=accept == "better")
        assert [[(a.text, a.score) for a in turn.attempts] for turn in outcome.rounds] == history
        assert (outcome.best and (outcome.best.text, outcome.best.score)) == best


@pytest.mark.parametrize(
    ("redraw", "rounds", "samples", "accept", "mean", "solved"),
    [
        (1.0, 1, 1, True, 0.6, None),
        (1.0, 1, 4, True, 0.742174, 0.008679),
        (1.0, 1, 16, True, 0.836721, None),
        (1.0, 1, 24, True, 0.858604, 0.050956),
        (1.0, 6, 4, True, 0.858604, 0.050956),
        (0.1, 6, 4, True, 0.8810, 0.1696),
        (0.1, 12, 2, True, 0.8724, 0.1648),
        (0.2, 6, 4, True, 0.9121, 0.275909),
        (0.2, 4, 6, True, 0.9076, 0.243251),
        (0.2, 3, 8, True, 0.9020, 0.207763),
        (0.3, 6, 4, True, 0.9187, 0.2966),
        (0.5, 6, 4, True, 0.9093, 0.2259),
        (0.2, 6, 4, False, 0.8941, None),
        (0.2, 12, 2, False, 0.8053, None),
        (0.2, 24, 1, False, 0.6000, None),
        (1.0, 6, 4, False, 0.7422, None),
    ],
)
def test_the_chain_gives_the_known_answers(redraw, rounds, samples, accept, mean, solved):
    law = Chain(redraw=redraw, accept=accept).run(rounds, samples)[-1]
    assert score(law) == pytest.approx(mean, abs=6e-5)
    assert solved is None or law[-1] == pytest.approx(solved, abs=6e-5)


def test_the_chain_rises_as_known():
    rising = [score(law) for law in Chain().run(6, 4)]
    assert rising == pytest.approx([0.7422, 0.7938, 0.8343, 0.8663, 0.8917, 0.9121], abs=6e-5)
    alone = [score(law) for law in Chain(redraw=0.1).run(5, 1)]
    assert alone == pytest.approx([0.6, 0.6189, 0.6368, 0.6537, 0.6697], abs=6e-5)


@pytest.mark.parametrize("accept", ["better", "always"])
def test_the_loop_follows_the_chain(accept):
    """Per round, within 4 standard errors of 800 strings; best-of-N lies 10 of them lower."""
    prompts = strings(800, seed=2)
    found = IAD(Bits(), share, 6, 4, accept, show_worst=False)(prompts)
    laws = Chain(accept=accept == "better").run(6, 4)
    for turn, law in enumerate(laws):
        incumbents = [outcome.rounds[turn].best for outcome in found]
        scores = [best.score for best in incumbents if best is not None]
        error = np.std(scores) / np.sqrt(len(scores))
        assert np.mean(scores) == pytest.approx(score(law), abs=4 * error)


def test_an_agent_deaf_to_feedback_makes_best_of_n():
    deaf = Bits(redraw=1.0)
    best = IAD(deaf, share, 1, 12)(PROMPTS)
    for rounds, samples in ((3, 4), (12, 1)):
        found = IAD(deaf, share, rounds, samples, show_worst=False)(PROMPTS)
        assert [o.best for o in found] == [o.best for o in best]
        assert [o.spent for o in found] == [o.spent for o in best]


def test_the_best_of_all_rounds_is_returned_and_never_falls():
    for outcome in IAD(Bits(redraw=0.6), share, 8, 2)(PROMPTS):
        scores = [attempt.score for r in outcome.rounds for attempt in r.attempts]
        incumbents = [r.best.score for r in outcome.rounds if r.best is not None]
        assert outcome.best is not None and outcome.best.score == max(scores)
        assert incumbents == list(np.maximum.accumulate(incumbents))
        assert [r.accepted for r in outcome.rounds[1:]] == [
            new > old for old, new in pairwise(incumbents)
        ]


def test_feedback_shows_the_best_and_the_worst_of_all_rounds():
    for outcome in IAD(Bits(redraw=0.6), share, 6, 3)(PROMPTS):
        seen: list[Attempt] = []
        for turn in outcome.rounds:
            if seen:
                assert turn.review.best == max(seen, key=lambda a: a.score)
                assert turn.review.worst == min(seen, key=lambda a: a.score)
            else:
                assert turn.review == Review(turn.review.prompt)
            seen += turn.attempts
    (one,) = IAD(Bits(), share, 2, 1)(PROMPTS[:1])
    assert one.rounds[1].review.best is not None and one.rounds[1].review.worst is None
    (last,) = IAD(Bits(redraw=0.6), share, 5, 3, worst_of="round")(PROMPTS[:1])
    lowest = min(last.rounds[3].attempts, key=lambda a: a.score)
    assert last.rounds[4].review.worst == lowest


def test_ties_keep_the_first_and_the_goal_ends_a_prompt():
    (flat,) = IAD(Bits(), lambda prompt, text: Verdict(0.5), 3, 2)(PROMPTS[:1])
    assert flat.best == flat.rounds[0].attempts[0]
    assert [turn.accepted for turn in flat.rounds] == [True, False, False]
    found = IAD(Bits(), share, 30, 4, goal=1.0)(PROMPTS)
    assert any(outcome.reached for outcome in found)
    for outcome in found:
        assert outcome.spent.agent_calls == outcome.spent.verifier_calls
        assert outcome.spent.agent_calls == 4 * len(outcome.rounds) <= 120
        assert outcome.reached == (outcome.best is not None and outcome.best.score == 1.0)
        before = [turn.best.score for turn in outcome.rounds[:-1] if turn.best is not None]
        assert all(value < 1.0 for value in before)


def test_a_verifier_that_raises_makes_an_answer_invalid_and_the_run_goes_on():
    for outcome in IAD(Bits(), fussy, 5, 4)(PROMPTS):
        attempts = [attempt for turn in outcome.rounds for attempt in turn.attempts]
        assert outcome.spent.verifier_calls == len(attempts) == 20
        for attempt in attempts:
            kind = int(attempt.text, 2) % 12
            assert attempt.valid == (kind % 3 != 0)
            assert attempt.error == {
                0: f"KeyError: {attempt.text!r}",
                3: "RuntimeError: the program died",
                6: "score nan is not finite",
                9: "score inf is not finite",
            }.get(kind, "")


def test_rounds_without_a_valid_answer_change_nothing():
    @dataclass
    class Moody:
        """Scores nothing from its seventh call on, or nothing at all."""

        left: int

        def __call__(self, prompt: str, text: str) -> Verdict:
            self.left -= 1
            if self.left < 0:
                raise OSError("gone")
            return share(prompt, text)

    (outcome,) = IAD(Bits(), Moody(6), 4, 3)(PROMPTS[:1])
    assert [turn.accepted for turn in outcome.rounds[2:]] == [False, False]
    assert outcome.best == outcome.rounds[1].best and outcome.best is not None
    (nothing,) = IAD(Bits(), Moody(0), 2, 3)(PROMPTS[:1])
    assert nothing.best is None and nothing.spent.agent_calls == 6
    assert nothing.rounds[1].review.worst == nothing.rounds[0].attempts[0]
    with pytest.raises(OSError, match="gone"):
        IAD(Bits(), Moody(0), 2, 3, survives=(ValueError,))(PROMPTS[:1])


def test_a_noisy_incumbent_is_judged_again_at_a_price():
    @dataclass
    class Noisy:
        """One number of noise after another."""

        rng: np.random.Generator

        def __call__(self, prompt: str, text: str) -> Verdict:
            return Verdict(share(prompt, text).score + 0.2 * self.rng.standard_normal())

    def mean(rescore: bool) -> float:
        verify = Noisy(np.random.default_rng(0))
        agent = IAD(Bits(), verify, 6, 4, rescore=rescore, show_worst=False)
        found = agent(strings(400, seed=3))
        assert {o.spent.verifier_calls for o in found} == {29 if rescore else 24}
        assert {o.spent.agent_calls for o in found} == {24}
        assert {(o.spent.read, o.spent.written) for o in found} == {(24, 48)}
        best = [(o.rounds[0].review.prompt, o.best) for o in found]
        return float(np.mean([share(p, b.text).score for p, b in best if b is not None]))

    frozen = mean(False)
    assert frozen == pytest.approx(0.728, abs=0.03)
    assert mean(True) > frozen


def test_workers_change_nothing():
    one, many = (IAD(Bits(), fussy, 3, 4, workers=workers)(PROMPTS) for workers in (1, 4))
    assert one == many


class Mute:
    """Answers nothing at first, then something."""

    def __call__(self, reviews: Sequence[Review], ids, samples, first):
        return [[Reply("01" if first else "")] * samples for _ in reviews]


def test_an_empty_answer_is_shown_to_nobody():
    (outcome,) = IAD(Mute(), lambda prompt, text: Verdict(len(text)), 3, 2)(["x"])
    assert outcome.rounds[1].review.worst is None
    assert outcome.best is not None and outcome.best.text == "01"


def test_bad_arguments_are_refused():
    sound = IAD(Bits(), share, 1, 1)
    for change, match in (
        ({"rounds": 0}, "rounds=0: at least 1"),
        ({"samples": -1}, "samples=-1: at least 1"),
        ({"accept": "never"}, "accept='never': choose one of"),
        ({"worst_of": "all"}, "worst_of='all': choose one of"),
    ):
        with pytest.raises(ValueError, match=match):
            replace(sound, **change)
    with pytest.raises(ValueError, match="ids: 1 given for 2 prompts"):
        sound(["0", "1"], [3])
