"""Likelihoods and answers are the model's own, whoever asks for them."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.commands.decoding.decoders import Rules
from experiments.commands.lm_eval import main as lm_eval
from experiments.commands.lm_eval.evaluation import Evaluator, batches, divided
from experiments.harness.likelihood import CHUNK
from experiments.inputs import sources
from experiments.inputs.sources import Source
from experiments.zoo import real
from jaxdecode.prompt import bucket
from models.transformer import Transformer
from tests.experiments.folders import build

QUESTION = "two plus two is"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def source(folders) -> Source:
    return sources.open_model(str(folders["generator"]))


@jax.jit
def read(model: Transformer, tokens: jax.Array) -> jax.Array:
    """Log-probabilities f32[T, V]; what stands behind a text changes nothing before it."""
    return jax.nn.log_softmax(model.forward(tokens[None])[0][0])


def reference(source: Source, tokens: list[int], first: int) -> tuple[float, bool]:
    """From the whole text at once."""
    padded = jnp.asarray(tokens + [0] * (128 - len(tokens)))
    logprob = np.asarray(read(source.model, padded), np.float64)
    at = range(first, len(tokens))
    greedy = all(int(logprob[i - 1].argmax()) == tokens[i] for i in at)
    return sum(logprob[i - 1, tokens[i]] for i in at), greedy


def text(length: int, seed: int, source: Source) -> list[int]:
    return np.random.default_rng(seed).integers(3, source.model.vocab_size, length).tolist()


def test_likelihoods_are_the_models_whatever_the_batch(source: Source) -> None:
    texts = [text(n, n, source) for n in (2, 5, CHUNK, CHUNK + 1, CHUNK + 2, 90)]
    pairs = [(tokens[:k], tokens[k:]) for tokens in texts for k in (1, len(tokens) - 1)]
    found = Evaluator(source, batch=4).loglikelihood(pairs)
    for (context, continuation), (logprob, greedy) in zip(pairs, found, strict=True):
        expected = reference(source, context + continuation, len(context))
        assert logprob == pytest.approx(expected[0], abs=2e-4) and greedy == expected[1]
    alone = Evaluator(source, batch=1).loglikelihood(pairs)
    np.testing.assert_allclose([x for x, _ in alone], [x for x, _ in found], atol=1e-4)


def test_greedy_text_is_recognised(source: Source) -> None:
    evaluator = Evaluator(source)
    context = source.codec.prompt(QUESTION)
    written = context
    for _ in range(4):
        padded = jnp.asarray(written + [0] * (128 - len(written)))
        written = [*written, int(read(source.model, padded)[len(written) - 1].argmax())]
    best = written[len(context) :]
    other = [*best[:-1], (best[-1] + 1) % source.model.vocab_size]
    (_, yes), (_, no) = evaluator.loglikelihood([(context, best), (context, other)])
    assert yes and not no
    with pytest.raises(ValueError, match="0 to score; at least 1 of each"):
        evaluator.loglikelihood([(context, [])])


def test_what_does_not_fit_loses_its_beginning_and_is_counted(source: Source) -> None:
    tokens, longest = text(130, 0, source), source.positions
    evaluator = Evaluator(source)
    ((logprob, _),) = evaluator.loglikelihood([(tokens[:-3], tokens[-3:])])
    kept = tokens[-(longest + 1) :]
    assert logprob == pytest.approx(reference(source, kept, len(kept) - 3)[0], abs=2e-4)
    assert evaluator.truncated == 1
    for pair in (([1], tokens), ([], tokens[:2])):
        with pytest.raises(ValueError, match=f"at most {longest} to score are possible"):
            evaluator.loglikelihood([pair])
    evaluator.generate([(tokens, {"max_gen_toks": 6})])
    assert evaluator.truncated == 2
    with pytest.raises(ValueError, match="leave no room"):
        evaluator.generate([(tokens, {"max_gen_toks": longest})])


def test_answers_end_where_the_task_says(source: Source) -> None:
    evaluator = Evaluator(source, batch=2)
    tokens = source.codec.prompt(QUESTION)
    plain = {"max_gen_toks": 12, "do_sample": False, "temperature": 0.0}
    (whole,) = evaluator.generate([(tokens, plain)])
    stop = next(c for c in whole[2:] if c.isascii())
    asked = [(tokens, plain | {"until": stop}), (tokens, plain), (tokens, plain | {"until": []})]
    assert evaluator.generate(asked) == [whole.partition(stop)[0], whole, whole]


@pytest.mark.parametrize(
    ("options", "name", "rules"),
    [
        ({}, "greedy", Rules(128)),
        ({"max_new_tokens": 5, "temperature": 0.0}, "greedy", Rules(5)),
        ({"do_sample": False, "temperature": 0.7}, "greedy", Rules(128)),
        ({"temperature": 0.7, "top_p": 0.9}, "sample", Rules(128, temperature=0.7, top_p=0.9)),
        ({"do_sample": True, "top_k": 5}, "sample", Rules(128, top_k=5)),
        ({"num_beams": 1}, "greedy", Rules(128)),
    ],
)
def test_a_task_is_decoded_as_it_asks(source: Source, options, name, rules) -> None:
    assert Evaluator(source).asked(options) == ([], name, rules)


def test_a_chosen_decoder_answers_everything(source: Source) -> None:
    rules = Rules(samples=4, temperature=0.5)
    evaluator = Evaluator(source, "self-certainty", rules)
    asked = evaluator.asked({"temperature": 0.9, "max_gen_toks": 7, "until": ["x", ""]})
    assert asked == (["x"], "self-certainty", Rules(7, samples=4, temperature=0.5))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda source: Evaluator(source).asked({"num_beams": 4}), "asks for num_beams"),
        (lambda source: Evaluator(source, batch=0), "batch=0"),
        (lambda source: Evaluator(source, rules=Rules(top_k=3)), "choose a decoder"),
        (lambda source: Evaluator(source, "greedy", Rules(top_k=3)), "does nothing"),
    ],
)
def test_what_cannot_be_meant_is_refused(source: Source, make, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make(source)


@pytest.mark.parametrize(
    ("context", "whole", "given", "scored"),
    [
        ([5, 6], [5, 6, 7], [5, 6], [7]),
        ([5, 6], [5, 8, 7], [5], [8, 7]),  # the text ran on within a token
        ([5], [8], [0], [8]),  # `Ans` and `wer` are one token: all of it is scored
        ([5, 6, 7], [5, 9], [5], [9]),
        ([], [5, 6], [0], [5, 6]),
    ],
)
def test_no_span_that_adds_text_is_empty(source: Source, context, whole, given, scored) -> None:
    assert divided(context, whole, 0) == (given, scored)
    ((logprob, greedy),) = Evaluator(source).loglikelihood([(given, scored)])
    expected = reference(source, given + scored, len(given))
    assert logprob == pytest.approx(expected[0], abs=2e-4) and greedy == expected[1]
    assert logprob < 0
    for nothing in (context, context[:1]):
        with pytest.raises(ValueError, match="adds no token"):
            divided(context, nothing, 0)


def test_batches_hold_everything_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 37).tolist()
    seen = []
    for rows, width in batches(lengths, 4):
        assert len(rows) <= 4 and {bucket(lengths[i]) for i in rows} == {width}
        seen += rows
    assert sorted(seen) == list(range(37))


def test_without_the_harness_its_absence_is_named(folders, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        lm_eval.main(["--model", str(folders["generator"]), "--tasks", "x"])
    assert "pip install '.[eval]'" in str(stop.value.code)


TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{text}}}}"
doc_to_target: {target}
{more}
"""


@pytest.mark.parity
def test_the_harness_gets_the_models_numbers(folders, source, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "one plus one is", "answer": 0}\n')
    kinds = {
        "choice": ("multiple_choice", "answer", 'doc_to_choice: ["two", "four"]'),
        "write": ("generate_until", '"x"', "generation_kwargs: {until: [], max_gen_toks: 8}"),
        "read": ("loglikelihood_rolling", '"{{text}}"', "metric_list: [{metric: bits_per_byte}]"),
    }
    for name, (kind, target, more) in kinds.items():
        filled = TASK.format(name=name, data=data, kind=kind, target=target, more=more)
        (tmp_path / f"{name}.yaml").write_text(filled)
    paths = ["--include", str(tmp_path), "--out", str(tmp_path)]
    lm_eval.main(["--model", str(folders["generator"]), *paths, "--tasks", *kinds])
    stored = json.loads((tmp_path / "results.json").read_text())
    samples = {name: stored["samples"][name][0] for name in kinds}
    codec, evaluator = source.codec, Evaluator(source)
    context = codec.prompt("one plus one is")
    whole = codec.prompt("one plus one is two")
    expected = reference(source, whole, len(context))[0]
    scored = float(samples["choice"]["filtered_resps"][0][0])
    assert scored == pytest.approx(expected, abs=1e-3)
    (answer,) = evaluator.generate([(context, {"max_gen_toks": 8})])
    assert samples["write"]["resps"][0][0] == answer
    text = [codec.text.bos, *codec.piece("one plus one is")]
    bits = -reference(source, text, 1)[0] / np.log(2) / len("one plus one is")
    assert stored["results"]["read"]["bits_per_byte,none"] == pytest.approx(bits, abs=1e-3)


@pytest.mark.parity
@pytest.mark.real
def test_the_real_model_is_scored_as_by_the_harness_own_backend(tmp_path: Path, monkeypatch):
    """The same file, read by the harness through transformers; then answers by the best of four."""
    harness: Any = importlib.import_module("lm_eval")
    backend: Any = importlib.import_module("lm_eval.models.huggingface")
    tasks: Any = importlib.import_module("lm_eval.tasks")
    if "smollm2" not in real.names():
        pytest.skip("the real model's package is not installed; `make real` does that")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    known = {"France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Spain": "Madrid"}
    lines = [
        {"text": f"The capital of {country} is", "answer": list(known).index(country)}
        for country in known
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    kinds = {
        "choice": ("multiple_choice", "answer", f"doc_to_choice: {json.dumps([*known.values()])}"),
        "read": ("loglikelihood_rolling", '"{{text}}"', "metric_list: [{metric: bits_per_byte}]"),
    }
    write = ("generate_until", '"x"', "generation_kwargs: {until: [], max_gen_toks: 8}")
    for name, (kind, target, more) in (kinds | {"write": write}).items():
        filled = TASK.format(name=name, data=data, kind=kind, target=target, more=more)
        (tmp_path / f"{name}.yaml").write_text(filled)
    paths = ["--model", "smollm2", "--include", str(tmp_path), "--out", str(tmp_path)]
    lm_eval.main([*paths, "--tasks", *kinds])
    ours = json.loads((tmp_path / "results.json").read_text())["samples"]
    path = real.path("smollm2")
    peer = backend.HFLM(
        str(path.parent), gguf_file=path.name, dtype="float32", device="cpu", batch_size=4
    )
    manager = tasks.TaskManager(include_path=str(tmp_path))
    theirs = harness.simple_evaluate(peer, tasks=list(kinds), task_manager=manager)["samples"]
    for name in kinds:
        mine, other = (
            {one["doc_id"]: np.array(one["filtered_resps"], float) for one in samples[name]}
            for samples in (ours, theirs)
        )
        for key in range(len(lines)):
            np.testing.assert_allclose(mine[key], other[key], atol=1e-3)
    right = [one["acc"] for one in ours["choice"]]
    assert right == [1.0] * len(lines)
    lm_eval.main([*paths, "--tasks", "write", "--decoder", "self-certainty", "--samples", "4"])
    stored = json.loads((tmp_path / "results.json").read_text())
    assert "self-certainty" in json.dumps(stored["settings"])
    said = [
        one["resps"][0][0] for one in sorted(stored["samples"]["write"], key=lambda o: o["doc_id"])
    ]
    source = sources.open_model("smollm2", "auto")
    evaluator = Evaluator(source, "self-certainty", Rules(samples=4))
    asked = [(source.codec.prompt(line["text"]), {"max_gen_toks": 8}) for line in lines]
    assert said == evaluator.generate(asked) and all(said)


@pytest.mark.parity
def test_the_pieces_that_the_harness_asks_for(source: Source) -> None:
    """Prefixes, chats that go on, spans without a context, texts longer than the model reads."""
    from lm_eval.api.instance import Instance

    from experiments.commands.lm_eval.adapter import HarnessModel

    model = HarnessModel(Evaluator(source))
    codec = source.codec
    begin = codec.text.bos
    assert begin is not None
    assert model.prefix_token_id == begin and model.eot_token_id == codec.text.named_eos
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    opened, going = model.apply_chat_template(talk[:1]), model.apply_chat_template(talk, False)
    assert opened == "<bos>[user] one\n[assistant] " and going == opened + "two"
    assert model.tok_encode(going).count(begin) == 1
    assert model.tok_encode("two") == codec.prompt("two") != codec.piece("two")

    def asked(kind: Any, *arguments: str) -> Instance:
        return Instance(kind, {}, arguments, 0)

    pairs = [("", "one plus"), ("one ", "plus one"), ("one", " plus one")]
    found = model.loglikelihood([asked("loglikelihood", *pair) for pair in pairs])
    bos = [begin]
    assert found[0][0] == pytest.approx(
        reference(source, bos + codec.piece("one plus"), 1)[0], abs=1e-3
    )
    assert found[1] == pytest.approx(found[2]), "a blank between the two belongs to the second"
    whole = codec.prompt("one plus one")
    shared = len(codec.prompt("one"))
    assert found[2][0] == pytest.approx(reference(source, whole, shared)[0], abs=1e-3)
    long = "the cat sat on the mat " * 20
    tokens, most = codec.piece(long), source.positions
    assert len(tokens) > most
    (total,) = model.loglikelihood_rolling([asked("loglikelihood_rolling", long)])
    expected, done = 0.0, 0
    while done < len(tokens):  # each token once, after as many as the model reads with it
        end = min(done + most, len(tokens))
        text = (bos + tokens)[max(0, end - most) : end + 1]
        expected += reference(source, text, len(text) - (end - done))[0]
        done = end
    assert total == pytest.approx(expected, abs=2e-2)
