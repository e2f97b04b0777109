"""Transfer Q*, controlled decoding and ARGS: known answers, exact laws, what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.search.args import args
from algorithms.search.controlled_decoding import Blockwise, divergence_bound, monte_carlo
from algorithms.search.transfer_q_star import direct, indirect
from algorithms.selection.best_of_n import BestOfN
from jaxdecode.autoregress import Generator
from jaxdecode.cache import truncate
from jaxdecode.decoder import decode
from jaxdecode.guide import Candidates, Guided, tilted
from jaxdecode.lm import extend
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prefix_values import NextValues, PrefixScores, PrefixValue
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.rollouts import Rollouts, weighted
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import FunctionScorer
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_logits
from jaxdecode.testing.statistics import assert_distribution, completions, power, rejects
from tests.references import guidance as naive

# Two tokens, two steps: what the base does, what is rewarded, and how strongly it is aligned.
REWARDS: dict[tuple[int, ...], float] = {(0, 0): 0.6, (0, 1): 0.6, (1, 0): 1.0, (1, 1): 0.2}
OTHER: dict[tuple[int, ...], float] = {(0, 0): 1.0, (0, 1): 0.0, (1, 0): 0.5, (1, 1): 0.5}
LAWS: dict[tuple[int, ...], tuple[float, float]] = {
    (): (0.6, 0.4),
    (0,): (0.5, 0.5),
    (1,): (0.3, 0.7),
}
BETA, ALPHA = 0.25, 0.2
BASE = naive.trajectories(lambda s: np.array(LAWS[s]), 2, 2)
RHO = naive.aligned(BASE, REWARDS.__getitem__, BETA)
WRONG = naive.aligned(BASE, OTHER.__getitem__, BETA)


def model(law: naive.Trajectories) -> EnumerableLM:
    """A model after a prompt of one token whose laws are those of two steps."""
    following, at = naive.conditional(law, 2), np.tanh(1.0)
    bias = np.log(following(()))
    keys = np.zeros((4, 2, 2))
    keys[1] = np.eye(2)
    head = np.stack([np.log(following((z,))) - bias for z in (0, 1)]) / at
    return EnumerableLM(*(jnp.asarray(x, jnp.float32) for x in (keys, 0 * keys, head, bias)))


def lookup(rewards: dict[tuple[int, ...], float]) -> FunctionScorer:
    table = jnp.asarray([[rewards[a, b] for b in (0, 1)] for a in (0, 1)])
    return FunctionScorer(lambda prompt, start, tokens, length: table[tokens[:, 0], tokens[:, 1]])


R, R_OTHER = lookup(REWARDS), lookup(OTHER)
PROMPT = Prompt.of([[0]], width=1)


def generator(law: naive.Trajectories) -> Generator:
    return Generator(model(law), Identity(), Greedy(), Stop.of(), 2)


def first_values(decoder: Guided) -> np.ndarray:
    """Q of both tokens at the first step."""
    rows = decoder.generator.start(jax.random.key(0), PROMPT, 1, 3)
    state, _ = decoder.valuer.init(decoder.generator, jax.random.key(1), PROMPT)
    output = extend(decoder.generator.model, rows.root[:, None], rows.cache)
    rows = replace(rows, cache=truncate(output.cache, output.cache.length + 1))
    two = Candidates(jnp.array([[0, 1]]), jnp.zeros((1, 2)), jnp.zeros((1, 2)))
    value = decoder.valuer.value(decoder.generator, state, PROMPT, rows, two)[0]
    return np.asarray(value[0])


def tilt(law: naive.Trajectories, values: naive.Trajectories, alpha: float = ALPHA) -> Any:
    """The trajectories of a law tilted by the exact values of another."""

    def worth(prefix: tuple[int, ...]) -> float:
        return naive.value(values, REWARDS.__getitem__, prefix)

    return naive.trajectories(naive.tilted(naive.conditional(law, 2), worth, alpha), 2, 2)


def test_the_reference_gives_the_worked_numbers() -> None:
    np.testing.assert_allclose(list(RHO.values()), [0.239828, 0.239828, 0.475151, 0.045192], 2e-5)
    wanted = {
        "CD": (tilt(BASE, BASE), 0.230504, 0.684644, 0.294488),
        "base": (tilt(BASE, RHO), 0.776803, 0.885251, 1.070259),
        "rho": (tilt(RHO, RHO), 0.849925, 0.938788, 1.443767),
    }
    for law, second, reward, kl in wanted.values():
        assert law[1, 0] + law[1, 1] == pytest.approx(second, abs=2e-6)
        assert naive.expected(law, REWARDS.__getitem__) == pytest.approx(reward, abs=2e-6)
        assert naive.divergence(law, BASE) == pytest.approx(kl, abs=2e-6)


def test_tilts() -> None:
    base, rho = np.log(LAWS[()]), np.log([0.479656, 0.520344])
    for logit, value, second in (
        (base, (0.6, 0.44), 0.230504),
        (base, (0.6, 0.930519), 0.776803),
        (rho, (0.6, 0.930519), 0.849925),
    ):
        law = jax.nn.softmax(tilted(jnp.asarray(logit)[None], jnp.asarray(value)[None], ALPHA))
        assert float(law[0, 1]) == pytest.approx(second, abs=3e-6)
    scores = tilted(jnp.asarray(base)[None], jnp.array([[0.5, 0.7]]), 1 / 1.5)
    np.testing.assert_allclose(scores[0], [0.239174, 0.133709], atol=2e-6)
    assert np.isneginf(tilted(jnp.zeros((1, 2)), jnp.array([[jnp.nan, 1.0]]), 1.0)[0, 0])


def test_self_normalised_weights_undo_the_wrong_alignment() -> None:
    """Exactly, where every completion is a rollout weighed by its chance."""
    values = []
    for z in (0, 1):
        texts = [(z, 0), (z, 1)]
        reward = np.array([REWARDS[t] for t in texts])
        chance = np.log([WRONG[t] for t in texts])
        weight = (reward - [OTHER[t] for t in texts]) / BETA
        for shift in (0.0, 3.0):  # of the other reward
            value = weighted(jnp.asarray(reward), jnp.asarray(chance + weight - shift))
            values.append(float(value))
    np.testing.assert_allclose(values, [0.6, 0.6, 0.930519, 0.930519], atol=2e-6)


def test_rollouts_estimate_the_values() -> None:
    n: dict[str, Any] = {"candidates": 2, "samples": 2048}
    base, rho, wrong = generator(BASE), generator(RHO), generator(WRONG)
    for decoder, wanted in (
        (monte_carlo(base, R, ALPHA, **n), (0.6, 0.44)),
        (direct(rho, R, ALPHA, **n), (0.6, 0.930519)),
        (direct(base, R, ALPHA, rho.model, **n), (0.6, 0.930519)),
        (direct(wrong, R, ALPHA, **n), (0.6, 0.44)),
        (indirect(wrong, R, R_OTHER, BETA, ALPHA, **n), (0.6, 0.930519)),
    ):
        np.testing.assert_allclose(first_values(decoder), wanted, atol=0.03)


def test_transfer_finds_what_the_base_does_not() -> None:
    n: dict[str, Any] = {"candidates": 2, "samples": 64}
    guided = decode(monte_carlo(generator(BASE), R, 0.01, **n), 0, PROMPT)
    result = decode(direct(generator(RHO), R, 0.01, **n), 0, PROMPT)
    assert guided.tokens[0, 0] == 0 and result.tokens[0].tolist() == [1, 0]
    # The same reward on both sides weighs nothing: the very same numbers.
    same = decode(indirect(generator(RHO), R, R, BETA, 0.01, **n), 0, PROMPT)
    np.testing.assert_array_equal(same.trace.value, result.trace.value)


LM = EnumerableLM.random(1, 5)
POLICY = LM.perturbed(2, 1.5)
EOS, STEPS = 4, 4
PROMPTS = [[1, 2, 3], [4], [2, 2], [0, 3]]


def worth(prompt, start, tokens, length):
    inside = jnp.arange(tokens.shape[1]) < length[:, None]
    return jnp.sum(jnp.where(inside, (3 * tokens + jnp.arange(tokens.shape[1])) % 5, 0), 1) / 2.0


def worth_of(text: tuple[int, ...]) -> float:
    return sum((3 * token + t) % 5 for t, token in enumerate(text)) / 2.0


def plain(sampler: Any, model: EnumerableLM = LM, eos: int = EOS, steps: int = STEPS) -> Generator:
    return Generator(model, Identity(), sampler, Stop.of(eos), steps)


@pytest.mark.parametrize("horizon", [None, 1])
def test_greedy_rollouts_are_those_of_the_reference(horizon: int | None) -> None:
    valuer = Rollouts(FunctionScorer(worth), POLICY, sampler=Greedy(), samples=1, horizon=horizon)
    result = decode(Guided(plain(Greedy()), valuer, 3, 1.5), 0, Prompt.of(PROMPTS, width=3))
    assert (result.status == Status.EOS).any() and (result.status == Status.LENGTH).any()
    for row, prompt in enumerate(PROMPTS):
        output, ran = naive.greedy_transfer(
            lambda text: next_logits(LM, text),
            lambda text: next_logits(POLICY, text),
            *(worth_of, prompt, EOS, STEPS, 3, 1 / 1.5, horizon),
        )
        length, usage = len(output), result.usage
        assert result.tokens[row, :length].tolist() == output
        assert result.length[row] == length
        read = len(prompt) - 1 + length
        assert usage.emitted[row] == length + ran
        assert usage.target_tokens[row] == read
        assert usage.draft_tokens[row] == read + ran
        assert usage.flops[row] > 2 * LM.cost.parameters * (2 * read + ran)


def test_the_tilted_law_is_exact() -> None:
    """Prefix scores of a sampler, against every completion's chance."""
    steps, alpha, count = 2, 0.8, 3000
    decoder = args(
        plain(Categorical(), eos=9, steps=steps), FunctionScorer(worth), 1 / alpha, 5, 1.0
    )
    result = decode(decoder, 3, Prompt.of([[1, 2]] * count, width=2))

    def law(prefix: tuple[int, ...]) -> np.ndarray:
        weight = np.exp(next_logits(LM, [1, 2, *prefix]))
        return weight / weight.sum()

    laws = [
        naive.trajectories(naive.tilted(law, worth_of, a), 5, steps) for a in (alpha, 1.5 * alpha)
    ]
    drawn = completions(result.tokens, result.length)
    assert power(count, laws[0], laws[1]) > 0.99
    assert_distribution(drawn, laws[0])
    assert rejects(drawn, laws[1])
    np.testing.assert_allclose(result.trace.law, [np.log(laws[0][t]) for t in drawn], atol=1e-4)


def test_blocks() -> None:
    """One block is best-of-K, one sample is sampling; values of next tokens steer both ways."""
    prompt, sampling = Prompt.of(PROMPTS, width=3), plain(Categorical())
    whole = decode(Blockwise(sampling, FunctionScorer(worth), 4, STEPS), 5, prompt)
    best = decode(BestOfN(sampling, FunctionScorer(worth), 4), 5, prompt)
    for name in ("tokens", "length", "logprob"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(best, name))
    np.testing.assert_array_equal(whole.usage.emitted, best.usage.emitted)
    by_value = decode(Blockwise(sampling, PrefixValue(POLICY), 1, 1), 5, prompt)
    alone = decode(Autoregressive(sampling), 5, prompt)
    np.testing.assert_array_equal(by_value.tokens, alone.tokens)
    scores = [
        next_logits(POLICY, [*p, *t[: n - 1].tolist()])[t[n - 1]]
        for p, t, n in zip(PROMPTS, by_value.tokens, by_value.length, strict=True)
    ]
    np.testing.assert_allclose(by_value.trace, scores, atol=1e-4)
    steered = decode(Guided(plain(Greedy()), NextValues(POLICY), 5, 1e-4), 5, prompt)
    for row, p in enumerate(PROMPTS):
        output: list[int] = []
        while len(output) < STEPS and EOS not in output:
            output.append(int(np.argmax(next_logits(POLICY, p + output))))
        assert steered.tokens[row, : len(output)].tolist() == output


def test_bounds_of_theory() -> None:
    """Improvement over rho, and the KL to the base, on tables with exact values."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        tables = {s: rng.dirichlet(np.ones(3)) for n in range(3) for s in np.ndindex(*[3] * n)}
        rewards = {t: float(rng.random()) for t in np.ndindex(3, 3, 3)}
        beta, alpha = rng.uniform(0.1, 1.0, 2)
        base = naive.trajectories(lambda s, laws=tables: laws[s], 3, 3)
        rho = naive.aligned(base, rewards.__getitem__, beta)
        policy = naive.tilted(
            naive.conditional(rho, 3),
            lambda s, law=rho, r=rewards: naive.value(law, r.__getitem__, s),
            alpha,
        )
        found = naive.trajectories(policy, 3, 3)
        gained = naive.expected(found, rewards.__getitem__)
        own = naive.expected(rho, rewards.__getitem__)
        moved = alpha * naive.divergence(found, rho)
        assert gained >= own + moved - 1e-9
        best = naive.expected(rho, rewards.__getitem__) - beta * naive.divergence(rho, base)
        assert best >= gained - beta * naive.divergence(found, base) - 1e-9
        assert naive.divergence(found, base) <= (1 / beta + 3 / alpha) * 1.0 + 1e-9


@pytest.mark.parametrize(("bad", "status"), [(2, Status.LENGTH), (None, Status.INVALID)])
def test_rewards_that_are_no_numbers(bad: int | None, status: Status) -> None:
    def broken(prompt, start, tokens, length):
        inside = jnp.arange(tokens.shape[1]) < length[:, None]
        hit = jnp.any(inside & (tokens == bad), axis=1) if bad is not None else length > 0
        return jnp.where(hit, jnp.nan, 1.0)

    valuer = PrefixScores(FunctionScorer(broken))
    result = decode(Guided(plain(Categorical(), eos=9), valuer, 5), 0, Prompt.of(PROMPTS, width=3))
    assert (result.status == status).all()
    # A candidate at every step; or all five at once, and the row with them.
    assert (result.usage.invalid == (STEPS if bad is not None else 6)).all()
    inside = np.arange(STEPS) < result.length[:, None]
    assert not (np.asarray(result.tokens)[inside] == 2).any()


def test_refusals() -> None:
    scorer, sampling = FunctionScorer(worth), plain(Categorical())
    for alpha in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="alpha="):
            direct(sampling, scorer, alpha)
    with pytest.raises(ValueError, match="samples=1: at least 2"):
        indirect(sampling, scorer, scorer, 1.0, samples=1)
    with pytest.raises(ValueError, match="beta="):
        indirect(sampling, scorer, scorer, 0.0)
    with pytest.raises(ValueError, match="horizon=-1"):
        direct(sampling, scorer, horizon=-1)
    with pytest.raises(ValueError, match="candidates=0"):
        direct(sampling, scorer, candidates=0)
    with pytest.raises(ValueError, match="weight="):
        args(sampling, scorer, 0.0)
    with pytest.raises(ValueError, match="block=0"):
        Blockwise(sampling, scorer, 2, 0)
    with pytest.raises(ValueError, match="vocab_size=2"):
        decode(Guided(sampling, NextValues(model(BASE))), 0, Prompt.of(PROMPTS, width=3))
    bounds = [divergence_bound(k) for k in (2, 4, 6, 16, 50)]
    np.testing.assert_allclose(bounds, [0.193147, 0.636294, 0.958426, 1.835089, 2.932023], 1e-6)
