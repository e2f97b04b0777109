"""The experiments on beams: their measures, their verdicts, and lists of a model of no training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from algorithms.search.diverse_beam_search import DiverseBeamSearch
from algorithms.search.superposed_decoding import SuperposedDecoding
from experiments.inputs.sources import Codec, Source
from experiments.search.diverse_beam_search import main as diverse
from experiments.search.passages import Passages, distinct, similarity
from experiments.search.superposed_decoding import facts as completed
from experiments.search.superposed_decoding import main as superposed
from experiments.search.superposed_decoding.facts import Facts, Knower
from experiments.tasks.arithmetic import Arithmetic, check_steps
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM
from models.presets import LLAMA_3_1_8B
from models.text import Tokenizer
from models.transformer import abstract
from tests.experiments.harness.records import same_again


def edits(one: list[int], other: list[int]) -> int:
    """Edit distance, by the definition."""
    if not one or not other:
        return len(one) + len(other)
    swapped = edits(one[1:], other[1:]) + (one[0] != other[0])
    return min(swapped, edits(one[1:], other) + 1, edits(one, other[1:]) + 1)


def test_similarity_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    texts = rng.integers(0, 3, (6, 2, 5), np.int32)
    truth = rng.integers(0, 3, (6, 2, 4), np.int32)
    lengths = rng.integers(1, 6, (6, 2), np.int32)
    found = similarity(texts, lengths, truth)
    for at in np.ndindex(6, 2):
        own, other = texts[at][: lengths[at]].tolist(), truth[at].tolist()
        assert found[at] == pytest.approx(1 - edits(own, other) / max(len(own), 4))


def test_distinct_counts_over_the_list() -> None:
    lists = [[0, 1, 0], [0, 1, 2], [1, 0, 1], [0, 2, 3]]  # worked with the method
    assert [distinct(lists, n) for n in (1, 2, 3)] == pytest.approx([4 / 12, 5 / 12, 4 / 12])
    assert distinct([], 2) == 0


def lists(worth: float, share: float, logprob: float, first: float = 0.1) -> dict[str, Any]:
    """Lists of 4 whose best is worth that much, the first always less."""
    hard = 0.002 * np.arange(50) - 0.05
    values = np.full((50, 4), first) + 0.001 * np.arange(50)[:, None]
    values[:, 2] = worth + hard
    return {
        "worth": values,
        "distinct": np.full((50, 4), share) + hard[:, None],
        "unique": np.full(50, 4),
        "logprob": logprob + hard,
    }


@pytest.mark.parametrize("better", [True, False])
def test_verdicts_on_diverse_lists_follow_the_numbers(better, tmp_path: Path) -> None:
    config = diverse.Config(
        beams=4, groups=(2, 4), strengths=(0.2, 0.5), terms=("2-grams",), out=tmp_path
    )
    good, bad = lists(0.6, 0.5, -5.0, 0.2), lists(0.3, 0.2, -6.0)
    own, plain = (good, bad) if better else (bad, good)
    test = {"beam search": plain, "sibling ranks": plain, "MMI": plain, "sampling": plain}
    test |= {"Hamming 0.2": own, "Hamming 0.5": own, "2-grams 0.5": plain, "2 groups": plain}
    tuned = {"Hamming": [plain, own], "2-grams": [plain, plain]}
    chosen = {"Hamming": 0.5, "2-grams": 0.5}
    rates = {"sibling ranks": 0.1, "MMI": 0.25}
    report = diverse.analyse(config, tuned, chosen, rates, test, 1.0)
    assert [row["method"] for row in report.rows[1:3]] == ["sibling ranks 0.1", "MMI 0.25"]
    assert [claim.verdict for claim in report.claims] == ["holds" if better else "fails"] * 8
    again = same_again(report, diverse, config).evidence
    again["best"]["2 groups"] = again["best"]["Hamming 0.5"]
    again["4-grams"]["beam search"] = np.divide(again["4-grams"]["own"], 2).tolist()
    verdicts = [claim.verdict for claim in diverse.claims(config, again)]
    assert verdicts[6] == "not resolved" and verdicts[3] == "not resolved"
    assert {"oracle@1", "oracle@4", "distinct-4", "unique"} <= set(report.rows[0])
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@pytest.mark.parametrize("better", [True, False])
def test_verdicts_on_superposed_drafts_follow_the_numbers(better, tmp_path: Path) -> None:
    config = superposed.Config(drafts=(3, 8), timed=(1, 4), out=tmp_path)
    noise = np.random.default_rng(0).normal(0, 0.01, (60, 3))
    low, high = 1.0 + noise, 2.0 + noise
    own, other = (low, high) if better else (high, low)
    test = {
        "superposed": own,
        "superposed, n-grams up to 4": other,
        "nucleus": other,
    }
    factor = 4.0 if better else 2.0
    times = [
        {"batch": b, **{f"superposed {k}": 1.0, f"nucleus {k}": factor}}
        for b in (1, 4)
        for k in (3,)
    ]
    for row in times:
        row |= {"superposed 8": 1.0, "nucleus 8": factor, "load": 1.0}
    inside = np.full((2, 10), 0.9 if better else 0.4)
    evidence = {"test": test, "times": times, "inside": inside, "known": None}
    claims = superposed.claims(config, evidence)
    assert [claim.verdict == "holds" for claim in claims] == [better] * 6
    times[-1]["load"] = 3.0  # other work took the cores
    verdicts = [claim.verdict for claim in superposed.claims(config, evidence)]
    assert verdicts[3:5] == ["not measurable here"] * 2
    rows = superposed.table(test, times, config)
    assert rows[0]["best of them"] <= rows[0]["perplexity 1"]
    superposed.draw(tmp_path / "figure.png", test, times, inside, config)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_lists_of_an_untrained_model_are_measured() -> None:
    strict = Arithmetic().tokenizer()
    text = Tokenizer(strict.inner, strict.bos_id, (strict.eos_id,), strict.pad_id)
    model = EnumerableLM.random(0, strict.vocab_size)
    config = diverse.Config(
        test=3, validation=2, beams=4, groups=(4,), strengths=(0.5,), max_tokens=3, batch=2
    )
    setting = diverse.Setting(config, Source("none", model, Codec(text, strict), 64))
    passages = Passages(np.ones((3, 5), np.int32), np.asarray([[2, 3, 4]] * 3, np.int32))
    found = setting.judged(setting.diverse(0.5, 4), passages)
    assert found["worth"].shape == (3, 4) and np.shape(found["distinct"]) == (3, 4)
    assert max(found["unique"]) <= 4 and (np.asarray(found["logprob"]) < 0).all()
    assert np.shape(setting.judged(setting.informed(0.3), passages)["worth"]) == (3, 4)
    same = replace(setting.diverse(0.5, 4), strength=0.0)
    assert setting.judged(same, passages)["unique"] == [1] * 3  # four groups of one beam


def test_facts_are_completed_and_judged() -> None:
    """An untrained model's numbers, each place judged alone; claims follow the numbers."""
    facts = Facts.of(6, 0)
    for given, answer in zip(facts.given, facts.answers, strict=True):
        question, _, solution = given.partition("=")
        assert all(check_steps(question + "=", solution + answer))
    strict = Arithmetic().tokenizer()
    text = Tokenizer(strict.inner, strict.bos_id, (strict.eos_id,), strict.pad_id)
    model = EnumerableLM.random(0, strict.vocab_size)
    knower = Knower(Source("none", model, Codec(text, strict), 64), facts, 3, 2, 0)
    decoder = knower.superposed(0.3)
    said = [
        text.decode(row[:n].tolist()).strip()
        for row, n in zip(*jax.device_get(first_list(knower, decoder)), strict=True)
    ]
    told = replace(knower, facts=replace(facts, answers=[said[1], *facts.answers[1:]]))
    right = told.right(decoder, range(1))
    np.testing.assert_array_equal(right, [[text == said[1] for text in said]])
    found = told.measure((0.3,))
    assert {name: np.shape(one) for name, one in found["right"].items()} == {
        "superposed": (3, 3), "greedy": (3, 1), "beam search": (3, 3), "nucleus": (3, 3),
    }  # fmt: skip
    noise = np.random.default_rng(0).random((200, 3)) < 0.5
    for own, greedy in ((noise, noise[:, :1]), (noise[:, :1] & False, noise[:, :1])):
        made = {"temperature": 0.3, "right": {"superposed": own, "greedy": greedy}}
        better = own is noise
        assert [claim.verdict == "holds" for claim in completed.claims(made)] == [better] * 2
        assert completed.rows(made)[0]["P@1, %"] == 100 * own[:, 0].mean()


def first_list(knower: Knower, decoder: Any) -> tuple[Any, Any]:
    """What a decoder lists for the first fact."""
    width = max(map(len, knower.prompts))
    found = decode(decoder, 0, Prompt.of(knower.prompts[:1] * 2, [0, 0], width)).trace
    return found.tokens[0], found.length[0]


def test_the_published_settings_trace() -> None:
    """20 groups of one beam, and 10 drafts, of an 8 B model: shapes only."""
    model = abstract(LLAMA_3_1_8B)
    config = diverse.PRESETS["paper"]
    generator = Generator(model, Identity(), Greedy(), Stop.of(2), config.max_tokens)
    prompt = Prompt.of([[1] * config.prefix], width=config.prefix)
    lists = DiverseBeamSearch(generator, config.beams, config.groups[-1])
    found = jax.eval_shape(lambda d, k, p: d(k, p), lists, jax.random.key(0), prompt)
    assert found.trace.tokens.shape == (1, 20, 20)
    drafts = max(superposed.PRESETS["paper"].drafts)
    drafted = SuperposedDecoding(generator, drafts, 3 * drafts)
    found = jax.eval_shape(lambda d, k, p: d(k, p), drafted, jax.random.key(0), prompt)
    assert found.trace.tokens.shape == (1, 10, 20)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="groups="):
        diverse.Config(beams=6)
    with pytest.raises(ValueError, match="keep="):
        superposed.Config(keep=(1, 2))
    for module in (diverse, superposed):
        with pytest.raises(
            ValueError, match=r"is neither a folder, nor a \.gguf file, nor in the zoo"
        ):
            module.run(module.PRESETS["paper"])
