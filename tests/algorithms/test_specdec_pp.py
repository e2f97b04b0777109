"""SpecDec++: stopping, accounts, the head's data, loss and training, and known optima."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from algorithms.speculative.lengths import Renewal, Work, length_of, replay
from algorithms.speculative.specdec_pp import label, specdec_pp
from jaxdecode.autoregress import Generator
from jaxdecode.logits import LogitsTransform, RepetitionPenalty, Temperature, chain
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_logits, softmax
from jaxdecode.train.fit import fit
from jaxdecode.train.foresight import acceptance
from models.heads.acceptance import AcceptanceHead
from tests.references.specdec_pp import greedy, hidden

TARGET = EnumerableLM.random(3, 5)
DRAFT = TARGET.perturbed(1, 0.5)
PROMPTS = [[1, 2, 3], [4], [2, 2], [0, 1, 4, 1]]
PROMPT = Prompt.of(PROMPTS, [7, 2, 9, 3], 4)
LENGTH, MOST = 24, 6
HEAD = AcceptanceHead(8, 1, rngs=nnx.Rngs(4))
TOY = Renewal((0.95, 0.30), (0.75, 0.25))


@jax.jit
def run(decoder, key):
    return decoder(key, PROMPT)


def generator(sampler, transform: LogitsTransform | None = None) -> Generator:
    return Generator(TARGET, transform or Temperature(1.0), sampler, Stop.of(()), LENGTH)


def decode(threshold: float, least: int = 1, head=HEAD):
    spec = specdec_pp(generator(Greedy()), DRAFT, head, threshold, least, MOST)
    return jax.device_get(run(Autoregressive(spec), jax.random.key(0)))


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_drafts_end_where_the_reference_ends_them(threshold: float) -> None:
    found = decode(threshold)
    for row, prompt in enumerate(PROMPTS):
        text, drafted, accepted = greedy(
            TARGET, DRAFT, lambda x: float(HEAD(jnp.asarray(x))), prompt, LENGTH, threshold, 1, MOST
        )
        assert found.tokens[row].tolist() == text
        assert found.usage.drafted[row] == sum(drafted)
        assert found.usage.accepted[row] == sum(accepted)
        assert (
            found.usage.histogram[row].tolist()
            == np.bincount(accepted, minlength=MOST + 1).tolist()
        )
    assert 0 < found.usage.drafted.mean() < MOST * found.usage.histogram.sum(1).mean()


def test_thresholds_at_the_ends_are_fixed_lengths() -> None:
    rounds = {h: decode(h, least=2) for h in (-1.0, 0.5, 1.0)}
    drafted = {h: r.usage.drafted / r.usage.histogram.sum(1) for h, r in rounds.items()}
    assert (drafted[-1.0] == 2).all()
    assert (drafted[1.0] == MOST).all()
    assert (drafted[-1.0] <= drafted[0.5]).all() and (drafted[0.5] <= drafted[1.0]).all()


def test_the_account_adds_up_and_gives_the_time() -> None:
    usage = decode(0.5).usage
    passes = usage.histogram.sum(1)
    np.testing.assert_array_equal(usage.emitted, usage.accepted + passes - usage.truncated)
    emitted, total = usage.emitted + usage.truncated, passes.sum()
    work = Work(float(emitted.sum()), float(total), float((usage.drafted - usage.accepted).sum()))
    assert work.drafted == usage.drafted.sum()
    assert work.time(1, 10) == usage.drafted.sum() + 10 * total
    assert work.speed_up(1, 10) == pytest.approx(10 * work.emitted / work.time(1, 10))


def test_the_length_of_drafts_follows_from_the_two_rates() -> None:
    assert length_of(TOY.fixed(5)) == pytest.approx(5)
    published = Work(1.0, 0.285, 0.39)  # the first point of the published curve
    assert length_of(published) == pytest.approx(4, abs=0.15)


def test_the_renewal_models_known_optima() -> None:
    def speed(work: Work) -> float:
        return work.speed_up(TOY.draft, TOY.target)

    fixed = [speed(TOY.fixed(k)) for k in range(1, 9)]
    expected = [1.6250, 2.0064, 2.2277, 2.3433, 2.3890, 2.3887, 2.3587, 2.3099]
    np.testing.assert_allclose(fixed, expected, atol=1e-4)
    found = [speed(TOY.threshold(h)) for h in (0.1, 0.3, 0.5, 0.7, 0.9)]
    np.testing.assert_allclose(found, [2.2322, 2.5871, 2.6674, 2.6656, 2.4790], atol=1e-4)
    h, best = TOY.best()
    assert (h, speed(best)) == (pytest.approx(0.6608, abs=1e-4), pytest.approx(2.6710, abs=1e-4))
    assert speed(TOY.hindsight()) == pytest.approx(3.4335, abs=1e-4)
    half = TOY.threshold(0.5)
    found = (half.discard, half.verification, half.drafted)
    np.testing.assert_allclose(found, (0.3266, 0.2692, 3.9287), atol=1e-4)


def test_hindsight_discards_nothing() -> None:
    matches = [True, True, False, False, True, False]
    assert replay(matches, None) == Work(emitted=6, passes=3, discarded=0)
    assert replay(matches, None, most=1) == Work(emitted=6, passes=4, discarded=0)


def test_fixed_lengths_are_replayed() -> None:
    """With drafts of two the rounds are T T F, F, T F."""
    matches = [True, True, False, False, True, False]
    assert replay(matches, 2) == Work(emitted=6, passes=3, discarded=3)
    assert replay(matches, 1) == Work(emitted=6, passes=4, discarded=2)


def test_hindsight_of_greedy_texts() -> None:
    """The rounds of the best lengths are those of drafts too long for any text."""
    plain = jax.device_get(run(Autoregressive(generator(Greedy())), jax.random.key(0)))
    found = decode(1.0)
    for row, prompt in enumerate(PROMPTS):
        text = plain.tokens[row].tolist()
        guesses = [int(np.argmax(next_logits(DRAFT, [*prompt, *text[:i]]))) for i in range(LENGTH)]
        work = replay([a == b for a, b in zip(guesses, text, strict=True)], None, MOST)
        assert work.passes == found.usage.histogram[row].sum()


@pytest.mark.parametrize("sampler", [Categorical(), Greedy()])
def test_labels_are_the_chances_of_the_draws(sampler) -> None:
    """Each place by hand: both laws behind the target's text, under the transform of decoding."""
    transform = chain(RepetitionPenalty(1.5, 5), Temperature(0.8))
    here = generator(sampler, transform)
    responses = run(Autoregressive(here), jax.random.key(1))
    lesson = jax.jit(label)(here, DRAFT, jax.random.key(2), PROMPT, responses, 0.3)

    def law(model, seen) -> np.ndarray:
        logits = next_logits(model, seen)
        for token in set(seen):
            logits[token] *= 1.5 if logits[token] < 0 else 1 / 1.5
        p = softmax(logits / 0.8)
        return np.eye(5)[p.argmax()] if isinstance(sampler, Greedy) else p

    counted = np.asarray(lesson.counted)
    assert 0.55 < counted.sum() / (len(PROMPTS) * LENGTH) < 0.85  # 0.7 expected
    for row, prompt in enumerate(PROMPTS):
        mixed, text = np.asarray(lesson.tokens[row]), np.asarray(responses.tokens[row]).tolist()
        assert not counted[row, : len(prompt)].any()
        for index in range(LENGTH):
            place = len(prompt) + index
            if counted[row, place]:
                seen = [*prompt, *text[:index]]
                p, q = law(TARGET, seen)[mixed[place]], law(DRAFT, seen)[mixed[place]]
                np.testing.assert_allclose(lesson.label[row, place], min(1, p / q), 1e-3)
            else:
                assert mixed[place] == text[index]
            read = hidden(DRAFT, mixed[: place + 1].tolist())
            np.testing.assert_allclose(lesson.hidden[row, place], read, 1e-4, 1e-5)


def test_mixing_is_all_or_nothing_at_its_ends() -> None:
    here = generator(Categorical())
    responses = run(Autoregressive(here), jax.random.key(1))
    lessons = [jax.jit(label)(here, DRAFT, jax.random.key(2), PROMPT, responses, r) for r in (0, 1)]
    assert [int(lesson.counted.sum()) for lesson in lessons] == [len(PROMPTS) * LENGTH, 0]


class Constant(nnx.Module):
    """A head that knows nothing but a bias."""

    def __init__(self, bias: float):
        self.bias = nnx.Param(jnp.array([0.0, bias]))

    def logits(self, hidden):
        return jnp.broadcast_to(self.bias[...], (*hidden.shape[:-1], 2))


@pytest.mark.parametrize(("weight", "best"), [(1.0, 0.8), (6.0, 0.4)])
def test_the_losss_minimiser(weight: float, best: float) -> None:
    hidden, mask = jnp.zeros((2, 3, 1)), jnp.array([[True, True, False]] * 2)
    given = jnp.where(mask, 0.8, 0.1)

    def slope(p: float) -> float:
        head = Constant(float(np.log(p / (1 - p))))
        gradient = jax.grad(lambda h: acceptance(h, hidden, given, mask, weight)[0])(head)
        return float(gradient.bias[...][1])

    assert abs(slope(best)) < 1e-6
    assert slope(best - 0.1) < -1e-3 and slope(best + 0.1) > 1e-3


def test_the_loss_by_hand() -> None:
    head = Constant(float(np.log(3.0)))  # P = 3/4
    label = jnp.array([[1.0, 0.5, 0.25]])
    counted = jnp.array([[True, True, False]])
    loss, metrics = acceptance(head, jnp.zeros((1, 3, 1)), label, counted, 2.0)
    yes, no = np.log(0.75), np.log(0.25)
    assert float(loss) == pytest.approx(-(yes + 0.5 * yes + 2 * 0.5 * no) / (1 + 0.5 + 1))
    kl = (-yes) / 2 + (0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)) / 2
    assert float(metrics["divergence"]) == pytest.approx(kl, rel=1e-5)
    assert float(metrics["label"]) == pytest.approx(0.75)


def test_blocks_are_tied_or_not() -> None:
    x = jax.random.normal(jax.random.key(0), (4, 8))
    tied = AcceptanceHead(8, 3, rngs=nnx.Rngs(0))
    free = AcceptanceHead(8, 3, tied=False, rngs=nnx.Rngs(0))
    assert tied.kernel is not None and free.kernel is not None
    assert tied.kernel[...].shape == (1, 8, 8) and free.kernel[...].shape == (3, 8, 8)
    for head in (tied, free):
        assert head.kernel is not None and head.bias is not None
        y = x
        for depth in range(3):
            index = 0 if head.tied else depth
            y = y + jax.nn.silu(y @ head.kernel[index] + head.bias[index])
        expected = jax.nn.softmax(y @ head.out[...] + head.out_bias[...])[:, 1]
        np.testing.assert_allclose(head(x), expected, 1e-5)
    plain = AcceptanceHead(8, 0, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(
        plain.logits(x), x @ plain.out[...] + plain.out_bias[...], 1e-5, 1e-6
    )


def test_a_head_learns_what_is_accepted() -> None:
    """Trained without weights it is calibrated; with them it is pessimistic."""

    def batch(step: int) -> dict:
        hidden = jax.random.normal(jax.random.key(step), (4, 16, 8))
        label = jax.nn.sigmoid(1.0 + 2 * hidden[..., 0] * hidden[..., 1])
        return {"hidden": hidden, "label": label, "counted": jnp.ones((4, 16), bool)}

    predicted, divergence = {}, {}
    for weight in (1.0, 6.0):
        head = AcceptanceHead(8, 3, rngs=nnx.Rngs(0))
        loss = partial(acceptance, rejection=weight)
        head = fit(head, loss, batch, optax.adam(1e-2), 400)
        metrics = acceptance(head, **batch(400), rejection=weight)[1]
        predicted[weight], divergence[weight] = metrics["predicted"], metrics["divergence"]
    label = batch(400)["label"]
    assert divergence[1.0] < 0.1 * float(jnp.mean(jax.scipy.special.entr(label)))
    assert float(predicted[1.0]) == pytest.approx(float(label.mean()), abs=0.03)
    assert predicted[6.0] < predicted[1.0] - 0.1


def test_bad_input_is_refused() -> None:
    here = generator(Greedy())
    with pytest.raises(ValueError, match="least=9 exceeds most=6"):
        specdec_pp(here, DRAFT, HEAD, least=9, most=6)
    with pytest.raises(ValueError, match="least=0"):
        specdec_pp(here, DRAFT, HEAD, least=0)
    with pytest.raises(ValueError, match="depth=-1"):
        AcceptanceHead(8, -1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="chances"):
        Renewal((0.5,), (0.5,))
    with pytest.raises(ValueError, match="levels"):
        Renewal((1.0,), (1.0,))
