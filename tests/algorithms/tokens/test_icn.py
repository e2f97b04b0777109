"""ICN against plain Python, a scripted list that only navigation finds, and its votes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.selection.self_certainty import Voting, on_host
from algorithms.tokens.icn import ICN
from algorithms.tokens.navigation.conclusions import Conclusions
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_probs
from jaxdecode.voting import majority
from tests.references import icn as naive

MODEL, ENDS, MOST = EnumerableLM.random(5, 12, sharpness=1.2, max_positions=64), (0, 7), 4
LAW = partial(next_probs, MODEL)
PROMPTS = ([1, 2, 3], [4], [2, 2], [5, 1, 5, 1])
PROMPT = Prompt.of(PROMPTS, width=4)
GENERATOR = Generator(MODEL, Identity(), Greedy(), Stop.of(ENDS), MOST)
BETWEEN = [[7, 8 + i % 3] if i % 2 else [7] for i in range(5)]


def run(decoder, prompt=PROMPT):
    return jax.device_get(decode(decoder, 0, prompt))


def items(result, row: int = 0) -> list[tuple[int, ...]]:
    pairs = zip(result.trace.tokens[row], result.trace.length[row], strict=True)
    return [tuple(tokens[:length].tolist()) for tokens, length in pairs if length]


@pytest.mark.parametrize(
    "options, more",
    [({}, {}), ({"decode_from": "list", "among": 5, "room": 6}, {"from_list": True, "among": 5})],
)
def test_it_does_what_the_reference_does(options, more) -> None:
    """Both ways of continuing; from few tokens, and with less room than some lists would take."""
    found = run(ICN.of(GENERATOR, BETWEEN, 3, 2, [9], **options))
    full = 0
    for row, prompt in enumerate(PROMPTS):
        rules = {"ends": ENDS, "most": MOST, "nothing": [9], "room": options.get("room", np.inf)}
        expected, logprobs, _ = naive.explore(LAW, prompt, BETWEEN, 3, 2, **rules, **more)
        assert items(found, row) == expected
        np.testing.assert_allclose(found.trace.logprob[row, : len(expected)], logprobs, 1e-4)
        length = found.length[row]
        assert tuple(found.tokens[row, :length].tolist()) == expected[0]
        missing = found.trace.status[row, len(expected) :]
        assert (missing == Status.CAPACITY).all()  # the room was filled before the tokens
        assert np.isneginf(found.trace.score[row, len(expected) :]).all()
        full += len(expected) < 6
    assert full if more else not full
    if not options:
        # The list is read once, and every item costs its tokens but the one that began it.
        count = found.trace.length.sum(1) - 6
        texts = [naive.explore(LAW, p, BETWEEN, 3, 2, **rules)[2] for p in PROMPTS]
        assert found.usage.target_tokens.tolist() == (count + [len(t) for t in texts]).tolist()
        # One run is walking down the ranks, and the first run of several is its beginning.
        base = run(ICN.of(GENERATOR, BETWEEN, 1, 6, [9]))
        for row in range(len(PROMPTS)):
            assert items(base, row)[:2] == items(found, row)[:2]
            law, mine = LAW(PROMPTS[row]), [item[0] for item in items(base, row)]
            assert mine == np.argsort(-law, kind="stable")[:6].tolist()
        assert any(items(base, row) != items(found, row) for row in range(len(PROMPTS)))


def scripted(members: int, family: int) -> EnumerableLM:
    """Token 0 asks; the first `members` tokens of families 1, 2, ... are right, the one of family 1
    on top and its relatives next. What was listed is not said again, nor are its relatives. A
    token at an odd place is followed by token 1, a quotation mark."""
    vocab, places = 2 + members * family, 2 * members + 2
    first = 2 + family * np.arange(members)
    added = np.zeros((places, vocab, members + 1))
    for m, token in enumerate(first):
        added[:, token : token + family, m] = 9.0
    added[1::2, :, members], added[2::2, :, members] = 9.0, -9.0
    head, bias = np.zeros((members + 1, vocab)), np.zeros(vocab)
    bias[:2], bias[first] = -20.0, 2.0
    bias[first[0]], bias[first[0] + 1 : first[0] + family] = 4.0, 3.0
    for m, token in enumerate(first):
        head[m, token : token + family] = -5.0
    head[members, 1] = 90.0
    arrays = (jnp.asarray(x, jnp.float32) for x in (added, 0 * added, head, bias))
    return EnumerableLM(*arrays)


def test_only_navigation_finds_members_behind_a_family() -> None:
    members, family = 4, 5
    model = scripted(members, family)
    generator = Generator(model, Identity(), Greedy(), Stop.of(1), 3)
    first = (2 + family * np.arange(members)).tolist()
    between = [[1]] * (members - 1)
    ask = Prompt.of([[0]], width=1)
    found = run(ICN.of(generator, between, members, 1), ask)
    assert sorted(item[0] for item in items(found)) == first  # precision 1
    walked = run(ICN.of(generator, between, 1, members), ask)
    relatives = [first[0] + i for i in range(members)]
    assert [item[0] for item in items(walked)] == relatives  # one of them right
    cosine = np.asarray(found.trace.query[0] @ found.trace.query[0, 0])
    assert cosine[1:].max() <= cosine[0] + 1e-6


def test_it_ends_where_no_token_is_left() -> None:
    small = Generator(scripted(1, 1), Identity(), Greedy(), Stop.of(1), 2)
    found = run(ICN.of(small, [[1]] * 3, 2, 2), Prompt.of([[0]], width=1))
    assert [item[0] for item in items(found)] == [2, 0, 1]  # ties in the order of their ids
    assert found.trace.status[0, 3] == Status.EXHAUSTED


def test_ways_vote_by_what_they_come_to() -> None:
    cue, short = [3, 8], Generator(MODEL, Identity(), Greedy(), Stop.of(ENDS), 2)
    ways = ICN.of(GENERATOR, BETWEEN[:3], 4, 1, among=8)
    answered = Conclusions.of(ways, short, cue)
    last = on_host(lambda tokens: tokens[0] % 2)
    found = run(Voting(answered, last, rule=jax.tree_util.Partial(majority)))
    for row, prompt in enumerate(PROMPTS):
        said = []
        for way in naive.explore(LAW, prompt, BETWEEN, 4, 1, ends=ENDS, most=MOST)[0]:
            kept = way[:-1] if way[-1] in ENDS else way
            text = [*prompt, *kept, *cue]
            said.append(naive.continued(LAW, text, int(np.argmax(LAW(text))), ENDS, 2)[0])
        votes = [answer[0] % 2 for answer in said]
        elected = votes.index(max(dict.fromkeys(votes), key=votes.count))
        assert tuple(found.tokens[row, : found.length[row]].tolist()) == said[elected]
        assert int(found.trace.chosen[row]) == elected
    assert (found.usage.prompt_tokens == PROMPT.length).all()


@pytest.mark.parametrize(
    "answers, elected", [((7, 8, 8, 7), 0), ((8, 7, 7), 1), ((-1, 8, -1), 1), ((-1, -1), 0)]
)
def test_worked_votes(answers, elected) -> None:
    """Ties go to the first seen; ways without an answer have no vote, unless none has one."""
    assert int(majority(jnp.array(answers))) == elected


def test_refusals() -> None:
    for match, make in (
        ("runs=0", lambda: replace(ICN.of(GENERATOR, [], 1, 1), runs=0)),
        ("between: 2 given", lambda: ICN.of(GENERATOR, BETWEEN[:2], 2, 2)),
        ("is no token", lambda: ICN.of(GENERATOR, [[99]], 2, 1)),
        ("width=13 exceeds", lambda: ICN.of(GENERATOR, [[7]] * 12, 1, 13)),
        ("decode_from='both'", lambda: ICN.of(GENERATOR, [[7]], 2, 1, decode_from="both")),
        ("among=1", lambda: ICN.of(GENERATOR, [[7]], 1, 2, among=1)),
        ("room=0", lambda: ICN.of(GENERATOR, [[7]], 2, 1, room=0)),
        ("cue=", lambda: Conclusions.of(ICN.of(GENERATOR, [[7]], 2, 1), GENERATOR, [])),
    ):
        with pytest.raises(ValueError, match=match):
            make()
