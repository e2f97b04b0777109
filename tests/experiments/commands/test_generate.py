"""Generation from the command line: what it writes, what it refuses, how it goes on."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.commands.decoding import decoders
from experiments.commands.decoding.decoders import Rules
from experiments.commands.generate import main as generate
from experiments.commands.generate.answers import Job
from experiments.commands.terminal import visible
from experiments.inputs import prompts, sources
from experiments.inputs.prompts import Request
from experiments.inputs.sources import Codec
from jaxdecode.decoder import decode
from jaxdecode.prompt import Prompt
from models.heads import files
from models.heads.medusa import Medusa
from models.text import BROKEN, Tokenizer
from tests.experiments.folders import build
from tests.experiments.forking import SECONDS, finished, on_eight_devices, start
from tests.models.vocabularies import sentencepiece

TEXTS = ("one plus one", "the cat", "two plus")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def base(folders) -> list[str]:
    """The least options, of a run that is quick to compile."""
    return ["--model", str(folders["generator"]), "--max-tokens", "8", "--batch", "2"]


@pytest.fixture
def together(folders) -> list[str]:
    """The same with room for all of `TEXTS` in one batch: one program, and none to refill it."""
    return ["--model", str(folders["generator"]), "--max-tokens", "8", "--batch", "4"]


def answers(base: list[str], output: Path, *options: str) -> list[dict]:
    generate.main([*base, "--output", str(output), *options])
    return [json.loads(line) for line in output.read_text().splitlines()]


def by_id(records: Iterable[dict]) -> dict[str | int, dict]:
    return {record["id"]: record for record in records}


def refusal(*options: str) -> str:
    with pytest.raises(SystemExit) as stop:
        generate.main(list(options))
    return str(stop.value.code)


def test_answers_are_those_of_the_decoder(folders, base, tmp_path: Path) -> None:
    found = answers(base, tmp_path / "a.jsonl", "--prompts", *TEXTS, "--seed", "3")
    source = sources.open_model(str(folders["generator"]))
    rules = Rules(max_tokens=8)
    decoder = decoders.build("sample", rules, source.model, source.codec.stop())
    tokens = [source.codec.prompt(text) for text in TEXTS]
    assert {ids[0] for ids in tokens} == {source.codec.text.bos}
    expected = decode(decoder, 3, Prompt.of(tokens, width=16))
    assert sorted(record["id"] for record in found) == [0, 1, 2]
    for record in found:
        row = record["id"]
        length = int(expected.length[row])
        assert record["prompt"] == TEXTS[row]
        assert record["tokens"] == expected.tokens[row, :length].tolist()
        assert record["text"] == source.codec.decode(record["tokens"])
        assert record["logprob"] == pytest.approx(float(expected.logprob[row]), abs=1e-4)
        assert record["usage"]["emitted"] == length
        assert record["status"] in ("length", "eos") and record["seed"] == 3
        assert record["settings"] == {"decoder": "sample", "max_tokens": 8}


def test_an_answer_does_not_depend_on_the_order_of_requests(base, tmp_path: Path) -> None:
    named = zip("abc", TEXTS, strict=True)
    lines = [json.dumps({"id": name, "prompt": text}) for name, text in named]
    for name, order in (("x", lines), ("y", lines[::-1])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(order))
        answers(base, tmp_path / f"{name}.out", "--input", str(tmp_path / f"{name}.jsonl"))
    first, second = (
        by_id(map(json.loads, (tmp_path / f"{name}.out").read_text().splitlines())) for name in "xy"
    )
    assert first == second and set(first) == {"a", "b", "c"}
    assert first["a"]["tokens"] != first["b"]["tokens"]


def test_a_run_does_only_what_is_missing(base, tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    answers(base, whole, "--prompts", *TEXTS)
    lines = whole.read_bytes().splitlines(keepends=True)
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(lines[0] + lines[1][:-30])
    answers(base, torn, "--prompts", *TEXTS)
    assert torn.read_bytes() == whole.read_bytes()
    answers(base, torn, "--prompts", *TEXTS)
    assert torn.read_bytes() == whole.read_bytes(), "nothing is done twice"


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--seed", "1"], "seed=0, this run 1"),
        (["--decoder", "greedy"], "settings="),
        (["--prompts", "the cat", "one plus one", "two plus"], "prompt='"),
    ],
)
def test_other_answers_are_not_mixed_in(base, tmp_path: Path, options, difference) -> None:
    output = tmp_path / "a.jsonl"
    answers(base, output, "--prompts", *TEXTS)
    before = output.read_bytes()
    given = ["--prompts", *TEXTS] if "--prompts" not in options else []
    said = refusal(*base, "--output", str(output), *given, *options)
    assert f"{output}:1 has" in said and difference in said
    assert output.read_bytes() == before


def joined(environment: dict[str, str], options: list[str]) -> None:
    os.environ.update(environment)
    generate.main(options)
    jax.distributed.shutdown()  # as at the end of a program: none leaves before the others


def test_processes_share_the_prompts(folders, base, tmp_path: Path) -> None:
    alone = answers(base, tmp_path / "alone.jsonl", "--prompts", *TEXTS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    options = [*base, "--distributed", "--output", str(tmp_path / "a.jsonl"), "--prompts", *TEXTS]
    job = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    said = [tmp_path / f"said{index}" for index in range(2)]
    processes = [
        start(joined, job | {"JAX_PROCESS_ID": str(index)}, options, said=said[index])
        for index in range(2)
    ]
    for process, text in zip(processes, said, strict=True):
        process.join(SECONDS)
        assert process.exitcode == 0, text.read_text()
    shards = [(tmp_path / f"a.{i}-of-2.jsonl").read_text().splitlines() for i in range(2)]
    assert [len(lines) for lines in shards] == [2, 1]
    together = [json.loads(line) for lines in shards for line in lines]
    assert by_id(together) == by_id(alone)


@pytest.mark.parametrize(
    "options",
    [
        ["--decoder", "best-of-n", "--samples", "4", "--reward", "JUDGE", "--temperature", "0.7"],
        ["--decoder", "best-of-n", "--samples", "4", "--reward", "likelihood", "--wave", "2"],
        ["--decoder", "beam-search", "--beams", "4", "--length-penalty", "0.6"],
        ["--decoder", "self-certainty", "--samples", "4", "--measure", "gini", "--top-p", "0.9"],
        ["--decoder", "speculative-rejection", "--samples", "4", "--reward", "likelihood",
         "--budget", "64", "--alpha", "0.4", "--rule", "quantile"],
        ["--decoder", "stochastic-beam-search", "--beams", "4", "--temperature", "2"],
        ["--decoder", "controlled-decoding", "--samples", "4", "--reward", "JUDGE", "--block", "3"],
        ["--decoder", "best-of-n", "--samples", "4", "--reward", "WORTH"],
    ],
)  # fmt: skip
def test_every_decoder_can_be_asked_for(folders, base, tmp_path: Path, options) -> None:
    options = named(options, folders, tmp_path)
    (record,) = answers(base, tmp_path / "a.jsonl", "--prompts", "one plus one", *options)
    assert 4 in (record["settings"].get("samples"), record["settings"].get("beams"))
    assert record["usage"]["emitted"] > len(record["tokens"]) > 0
    # A judge reads every response; the likelihood reads the prompt, whose part it cannot know; a
    # function is called for every response, and reads no tokens.
    usage, function = record["usage"], any(option.endswith("py:worth") for option in options)
    assert (usage["scorer_passes"] > 0) == ("--reward" in options)
    assert (usage["scorer_tokens"] > 0) == ("--reward" in options and not function)


def named(options: list[str], folders: dict[str, Path], folder: Path) -> list[str]:
    """The options with a judge in place of JUDGE, and a function in place of WORTH."""
    file = folder / "worth.py"
    file.write_text("def worth(prompt, text):\n    return 1 / (1 + len(text))\n")
    given = {"JUDGE": str(folders["judge"]), "WORTH": f"{file}:worth"}
    return [given.get(option, option) for option in options]


STEPS = ["--process-reward", "JUDGE", "--step-end", "a", "--step-tokens", "4", "--steps", "3"]


@pytest.mark.parametrize(
    "options",
    [
        ["a-star-decoding", *STEPS, "--samples", "2", "--expansions", "3"],
        ["particle-filtering", *STEPS, "--samples", "2", "--return", "2"],
        ["dvts", *STEPS, "--samples", "4", "--beams", "2"],
        ["pg-td", "--reward", "WORTH", "--samples", "3"],
        ["smcg-td", "--reward", "WORTH", "--samples", "2"],
        ["transfer-q-star", "--reward", "JUDGE", "--samples", "2", "--candidates", "2"],
        ["superposed-decoding", "--return", "3"],
    ],
    ids=lambda options: options[0],
)
def test_every_search_can_be_asked_for(folders, base, tmp_path: Path, options) -> None:
    given = ["--decoder", *named(options, folders, tmp_path)]
    (record,) = answers(base, tmp_path / "a.jsonl", "--prompts", "one plus one", *given)
    assert record["settings"]["decoder"] == options[0]
    assert record["usage"]["target_passes"] > 0
    if "--return" in options:
        assert 1 <= len(record["texts"]) <= int(options[-1])


def test_the_best_of_several_comes_first(base, tmp_path: Path) -> None:
    options = ["--decoder", "beam-search", "--beams", "4", "--return", "4"]
    (record,) = answers(base, tmp_path / "a.jsonl", "--prompts", "one plus one", *options)
    assert len(record["texts"]) == 4 and record["texts"][0] == record["text"]
    greedy = ["--decoder", "greedy", "--return", "2"]
    assert "gives one response" in refusal(*base, "--prompts", "a", *greedy)
    assert "asks for more" in refusal(*base, "--prompts", "a", "--stream", "--return", "2")


def test_several_draws_of_a_prompt(base, tmp_path: Path) -> None:
    """The first is the one that is drawn alone, the others are their own; each is decoded after
    its prompt, as one alone is."""
    asked = [*base, "--prompts", "one plus one", "the cat"]
    alone, several = (
        by_id(answers(asked, tmp_path / name, *more))
        for name, more in (("a.jsonl", []), ("b.jsonl", ["--return", "3"]))
    )
    for name, record in several.items():
        assert record["text"] == alone[name]["text"] == record["texts"][0]
        assert len(set(record["texts"])) == 3
        assert record["settings"]["return"] == 3
        assert record["usage"]["emitted"] > alone[name]["usage"]["emitted"]


def test_listed_responses_keep_their_first_space_and_lost_ones_are_left_out() -> None:
    """Where a decoder drops the first space of a text, the prompt is what it goes on from."""
    text = Tokenizer(sentencepiece())
    prompt, said = text.encode("the cat"), text.encode("at the mat")
    rows = np.zeros((1, 4, 16), np.int32)
    rows[0, :, : len(said)] = said
    trace = SimpleNamespace(
        tokens=rows,
        length=np.array([[len(said), 0, len(said) - 1, len(said)]]),
        score=np.array([[1.0, 3.0, 2.0, -np.inf]]),
    )
    job = Job(Codec(text), None, [], [], {}, ("t",), 0, 1, listed=4)  # pyright: ignore[reportArgumentType]
    found = job.several(SimpleNamespace(trace=trace), prompt)  # pyright: ignore[reportArgumentType]
    assert found == [" a", " a"]
    whole = replace(job, stop=()).several(SimpleNamespace(trace=trace), prompt)  # pyright: ignore[reportArgumentType]
    assert whole == [" at the m", " at the mat"] and text.decode([*prompt, *said]) == (
        "the cat" + whole[1]
    )


def test_decoders_are_raced_side_by_side(base, capsys) -> None:
    race = ["--decoder", "greedy", "--decoder", "beam-search", "--beams", "2"]
    generate.main([*base, "--prompts", "one plus one", "the cat", *race])
    shown = capsys.readouterr().out
    for word in ("one plus one", "the cat", "greedy", "beam-search", "GFLOPs", "seconds"):
        assert word in shown
    one = ["--prompts", "a", "--decoder", "greedy", "--decoder", "sample"]
    assert "--samples does nothing" in refusal(*base, *one, "--samples", "3")
    assert "take one" in refusal(*base, *one, "--output", "a.jsonl")
    assert "can run once" in refusal(*base, *one, "--decoder", "greedy")


@pytest.mark.parametrize("decoder", ["greedy", "beam-search", "diverse-beam-search", "sample"])
def test_constraints_are_kept(together, tmp_path: Path, decoder) -> None:
    """What a response may not spell, must begin with, or is chosen from."""
    asked = ["--prompts", *TEXTS, "--decoder", decoder]
    blocked = ["--no-repeat-ngram-size", "1", "--bad-words", "the", "plus"]
    for record in answers(together, tmp_path / "a.jsonl", *asked, *blocked, "--begin-with", "two"):
        assert record["text"].startswith("two")
        assert len(set(record["tokens"])) == len(record["tokens"])
        assert "the" not in record["text"] and "plus" not in record["text"]
        assert record["settings"]["bad_words"] == ["the", "plus"]
    chosen = answers(together, tmp_path / "b.jsonl", *asked, "--choices", "mat", "two", "one is")
    assert {record["text"] for record in chosen} <= {"mat", "two", "one is"}
    assert all(record["status"] == "eos" for record in chosen)


def test_a_beginning_longer_than_the_budget_is_cut(base, tmp_path: Path) -> None:
    asked = ["--begin-with", "the cat sat on the mat, the cat sat", "--prompts", *TEXTS]
    for record in answers(base, tmp_path / "a.jsonl", *asked):
        assert "the cat sat on the mat, the cat sat".startswith(record["text"])
        assert (len(record["tokens"]), record["status"]) == (8, "length")


@pytest.mark.parametrize("options", [["sample", "--draft", "prompt-lookup"], ["beam-search"]])
def test_no_spelling_of_a_bad_word_and_no_early_stop(folders, together, tmp_path, options) -> None:
    """A model of noise would write one of these letters in every twelve tokens or so, and spell
    it by several tokens."""
    given = ["--prompts", *TEXTS, "--decoder", *options, "--max-tokens", "24"]
    bad, stops = ["t", "n ", "wo"], ["e", " ", "o"]
    given += ["--bad-words", *bad, "--stop", *stops, "--min-tokens", "20"]
    text = sources.load_tokenizer(folders["generator"])
    for record in answers(together, tmp_path / "a.jsonl", *given):
        assert len(record["tokens"]) > 20
        assert not any(word in text.decode(record["tokens"]) for word in bad)
        early = text.decode(record["tokens"][:20])
        assert not any(stop in early for stop in stops)
        assert record["text"].startswith(early.rstrip(BROKEN))


def test_allowed_tokens_are_all_that_is_written(together, tmp_path: Path) -> None:
    allowed = ["--allowed-token-ids", "2", "40", "41", "--decoder", "beam-search"]
    found = answers(together, tmp_path / "a.jsonl", "--prompts", *TEXTS, *allowed)
    assert {token for record in found for token in record["tokens"]} <= {2, 40, 41}


def test_texts_that_end_a_response_are_cut_off(base, tmp_path: Path) -> None:
    (whole,) = answers(base, tmp_path / "a.jsonl", "--prompts", "the cat", "--decoder", "greedy")
    stop = next(c for c in whole["text"][2:] if c.isascii())
    (cut,) = answers(
        base, tmp_path / "b.jsonl", "--prompts", "the cat", "--decoder", "greedy", "--stop", stop
    )
    assert cut["text"] == whole["text"].partition(stop)[0]
    assert cut["status"] == "eos" and len(cut["tokens"]) < len(whole["tokens"])


def test_chats_go_through_the_template(folders, base, tmp_path: Path) -> None:
    talk = tmp_path / "talk.jsonl"
    parts = [{"type": "text", "text": "the cat"}]
    talk.write_text(json.dumps({"messages": [{"role": "user", "content": parts}]}) + "\n\n")
    (first,) = answers(base, tmp_path / "a.jsonl", "--input", str(talk))
    (second,) = answers(base, tmp_path / "b.jsonl", "--prompts", "the cat", "--chat")
    (plain,) = answers(base, tmp_path / "c.jsonl", "--prompts", "the cat")
    assert first.pop("prompt")[0]["content"] == parts and second.pop("prompt")
    assert first == second
    assert first["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]


def test_an_assistants_last_words_are_gone_on_with(folders, base, tmp_path: Path) -> None:
    talk = tmp_path / "talk.jsonl"
    said = [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "sat <eos>"},
    ]
    talk.write_text(json.dumps({"messages": said}) + "\n")
    given = ["--input", str(talk), "--split-special-tokens"]
    (found,) = answers(base, tmp_path / "a.jsonl", *given)
    codec = sources.open_model(str(folders["generator"])).codec
    whole = codec.piece("[user] the cat\n[assistant] sat ")
    assert found["usage"]["prompt_tokens"] == 1 + len(whole) + len("<eos>"), "letter by letter"
    assert found["settings"]["split_special"] is True
    (other,) = answers(base, tmp_path / "b.jsonl", "--input", str(talk))
    assert other["usage"]["prompt_tokens"] == 1 + len(whole) + 1, "read as the token"
    thinking = ["--prompts", "a", "--enable-thinking"]
    assert "prompt 0: enable_thinking: for chats" in refusal(*base, *thinking)
    assert "template does not read enable_thinking" in refusal(*base, *thinking, "--chat")
    assert "choose one" in refusal(*base, *thinking, "--no-enable-thinking")


def test_a_streamed_answer_is_the_answer(base, tmp_path: Path, capsys) -> None:
    (record,) = answers(base, tmp_path / "a.jsonl", "--prompts", "the cat")
    stop = next(c for c in record["text"][2:] if c.isascii())
    for stops in ([], ["--stop", stop]):
        capsys.readouterr()
        generate.main([*base, "--prompts", "the cat", *stops, "--stream"])
        expected = record["text"].partition(stop)[0] if stops else record["text"]
        assert capsys.readouterr().out == visible(expected) + "\n"


def test_text_on_the_terminal_cannot_drive_it(base, capsys) -> None:
    generate.main([*base, "--prompts", "the cat"])
    assert capsys.readouterr().out.strip()
    assert visible("a\x1b[2Jb\r\n\tü�") == "a\\x1b[2Jb\\r\n\tü�"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("p.jsonl", b'{"prompt": "a"}\n{"prompt": \n', ":2 is no JSON"),
        ("p.jsonl", b'{"prompt": "a"}\n["a"]\n', ":2: '[\"a\"]' was found where"),
        ("p.jsonl", b'{"prompt": "a", "messages": []}\n', ":1: "),
        ("p.jsonl", b'{"prompt": ["a"]}\n', ":1: \"['a']\" was found"),
        ("p.jsonl", b'{"messages": [{"role": "user"}]}\n', ":1: "),
        ("p.jsonl", b'{"messages": [{"role": "user", "content": 3}]}\n', ":1: "),
        (
            "p.jsonl",
            b'{"messages": [{"role": "user", "content": [{"type": "image"}]}]}\n',
            ":1: messages[0]: a part of its content is 'image'",
        ),
        ("p.jsonl", b'{"prompt": "a", "id": 1.5}\n', ":1: id=1.5"),
        ("p.jsonl", b'{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}\n', ":2: the id 'x'"),
        ("p.jsonl", b'{"prompt": " "}\n', ":1 is empty"),
        ("p.txt", b"a\n\xff\xfe\n", ":2: 'utf-8'"),
        ("p.txt", b"a\n\nb\n", ":2 is empty"),
        ("p.txt", b"", "is empty"),
        ("p.txt", "a".encode("utf-16"), ":1: the text is UTF-16"),
        ("missing.txt", None, "is no file"),
    ],
)
def test_wrong_prompts_are_named(tmp_path: Path, name, content, complaint) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        prompts.read(path)
    assert f"{path}{complaint}" in str(error.value) or complaint in str(error.value)
    assert str(path) in str(error.value)


def test_what_editors_and_services_put_into_files(tmp_path: Path) -> None:
    """A byte-order mark, blank lines at the end, contents in parts."""
    text, rows = tmp_path / "p.txt", tmp_path / "p.jsonl"
    text.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\n \n")
    assert [(x.id, x.prompt) for x in prompts.read(text)] == [(0, "one"), (1, "two")]
    parts = [{"type": "text", "text": "the"}, {"type": "text", "text": "cat"}]
    talk = {"messages": [{"role": "user", "content": parts}]}
    rows.write_bytes(b"\xef\xbb\xbf" + json.dumps(talk).encode() + b"\n\n")
    (request,) = prompts.read(rows)
    assert request.prompt == talk["messages"] and request.words == "the\ncat"


def test_requests_are_numbered_by_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n{"id": 7, "prompt": "b"}\n{"id": "x", "prompt": "c"}\n')
    first, second, third = prompts.read(path)
    assert (first.number, second.number) == (0, 7)
    assert third.number == Request("x", "other", "elsewhere").number < 2**31
    assert third.number != Request("y", "c", "elsewhere").number


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "give either --prompts or --input"),
        (["--prompts", "a", "--input", "x.txt"], "give either"),
        (["--prompts", "a", ""], "prompt 1 is empty"),
        (["--prompts", "a", "--stop", ""], "--stop"),
        (["--prompts", "a", "--stop", "a\udc80"], "--stop: character 1"),
        (["--prompts", "a", "--return", "0"], "--return 0: give at least 1"),
        (
            ["--prompts", "a", "--decoder", "beam-search", "--beams", "2", "--return", "3"],
            "--return 3: --decoder beam-search holds 2 responses",
        ),
        (["--prompts", "a", "--min-tokens", "9"], "--min-tokens 9: no response is longer than"),
        (["--prompts", "a", "--decoder", "greedy", "--top-k", "3"], "--top-k does nothing"),
        (["--prompts", "a", "--beams", "3"], "--beams does nothing for --decoder sample"),
        (["--prompts", "a", "--decoder", "beam-search", "--beams", "0"], "beams=0"),
        (
            ["--prompts", "a", "--decoder", "diverse-beam-search", "--groups", "3"],
            "groups=3 must divide",
        ),
        (["--prompts", "a", "--samples", "3"], "--samples does nothing for --decoder sample"),
        (["--prompts", "a", "--decoder", "best-of-n"], "needs --reward"),
        (["--prompts", "a", "--draft-tokens", "3"], "--draft-tokens does nothing without --draft"),
        (["--prompts", "a", "--draft", "prompt-lookup", "--draft-tokens", "0"], "length=0"),
        (["--prompts", "a", "--draft", "nowhere"], "nor in the zoo"),
        (["--prompts", "a", "--draft", "prompt-lookup", "--draft-tokens", "9"], "at most --max-t"),
        (["--prompts", "a", "--decoder", "self-certainty", "--draft", "x"], "--draft does nothing"),
        (
            ["--prompts", "a", "--decoder", "speculative-rejection", "--reward", "likelihood"],
            "needs --budget",
        ),
        (["--prompts", "a", "--temperature", "0"], "temperature"),
        (["--prompts", "a", "--top-p", "1.5"], "p=1.5"),
        (["--prompts", "a", "--no-repeat-ngram-size", "0"], "n=0 "),
        (["--prompts", "a", "--bad-words", ""], "bad_words=['']: one text"),
        (["--prompts", "a", "--allowed-token-ids", "9999"], "allowed_token_ids=[9999]"),
        (["--prompts", "a", "--choices", "the cat sat on the mat"], "choices: the longest has"),
        (["--prompts", "a", "--max-tokens", "0"], "max_tokens=0"),
        (["--prompts", "a", "--max-tokens", "95"], "exceed the 96 tokens"),
        (["--prompts", "a", "b", "--stream"], "--stream prints one response; 2"),
        (["--prompts", "a", "--stream", "--output", "a.jsonl"], "--stream is for the terminal"),
        (["--prompts", "a", "--stream", "--decoder", "self-certainty"], "sample or greedy"),
        (["--prompts", "a", "--batch", "0"], "batch=0"),
        (["--prompts", "a", "--reward", "nowhere", "--decoder", "best-of-n"], "nor in the zoo"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(base, options, complaint) -> None:
    assert complaint in refusal(*base, *options)


@pytest.mark.parametrize(
    "draft",
    [
        ["prompt-lookup", "--policy", "heuristic"],
        ["token-recycling"],
        ["generator"],
        ["lookahead"],
        ["rest", "--corpus", "CORPUS"],
        ["rsd-s", "--draft-model", "generator"],
        ["medusa", "--head", "HEAD"],
    ],
    ids=lambda draft: draft[0],
)
def test_drafts_change_no_text(folders, base, together, tmp_path: Path, draft) -> None:
    """Greedy answers are those of plain decoding, and the drafts are counted."""
    given = base if draft[0] == "prompt-lookup" else together  # one in a batch that is refilled
    greedy = ["--decoder", "greedy", "--prompts", *TEXTS]
    plain = by_id(answers(together, tmp_path / "plain.jsonl", *greedy))
    (tmp_path / "corpus.txt").write_text("one plus one is two\nthe cat sat on the mat\n" * 3)
    if "HEAD" in draft:
        target = sources.open_model(str(folders["generator"])).model
        files.save(Medusa.of(target, count=2), tmp_path / "head", target)
    paths = {"CORPUS": tmp_path / "corpus.txt", "HEAD": tmp_path / "head"} | folders
    draft = [str(paths.get(option, option)) for option in draft]
    found = by_id(answers(given, tmp_path / "drafted.jsonl", *greedy, "--draft", *draft))
    assert {key: row["text"] for key, row in found.items()} == {
        key: row["text"] for key, row in plain.items()
    }
    assert sum(row["usage"]["drafted"] for row in found.values()) > 0


def test_a_draft_of_another_vocabulary_is_refused(folders, base) -> None:
    said = refusal(*base, "--prompts", "a", "--draft", str(folders["stranger"]))
    assert "the tokenizers differ, first at id" in said


def test_a_budget_without_room_names_the_prompt(base) -> None:
    options = ["--decoder", "speculative-rejection", "--reward", "likelihood", "--budget", "48"]
    said = refusal(*base, *options, "--samples", "16", "--prompts", "a", "the cat sat on the mat")
    assert "prompt 1: prompt.length" in said and "exceeds the 2 tokens that fit" in said


def test_a_judge_that_cannot_read_a_whole_response_is_refused(folders, base, tmp_path) -> None:
    judge = tmp_path / "judge"
    shutil.copytree(folders["judge"], judge)
    path = judge / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 20}))
    options = ["--decoder", "best-of-n", "--reward", str(judge), "--prompts", "a"]
    said = refusal(*base, *options, "--max-tokens", "19")
    assert f"and --max-tokens 19 exceed the 20 tokens that {judge} can read" in said


def test_models_that_do_not_belong_together_are_refused(folders, base, tmp_path: Path) -> None:
    judge = ["--decoder", "best-of-n", "--reward", str(folders["critic"]), "--prompts", "a"]
    assert "the tokenizers differ, first at id" in refusal(*base, *judge)
    mixed = tmp_path / "mixed"
    shutil.copytree(folders["stranger"], mixed)
    shutil.copy(folders["generator"] / "tokenizer.json", mixed)
    assert "belong to different models" in refusal("--model", str(mixed), "--prompts", "a")
    critic = refusal("--model", str(folders["critic"]), "--prompts", "a")
    assert "config.json names LlamaForSequenceClassification" in critic
    assert "nor in the zoo" in refusal("--model", str(tmp_path / "none"), "--prompts", "a")


@pytest.mark.slow
def test_a_mesh_of_devices_changes_no_text(folders, together, tmp_path: Path, capsys) -> None:
    """In parts over eight devices: drafts under greedy decoding, samples judged by another model,
    and a stream. A GGUF file and a zoo's model are placed by the same call."""
    asked = {
        "drafted": ["--decoder", "greedy", "--draft", "prompt-lookup", "--prompts", *TEXTS],
        "best": ["--decoder", "best-of-n", "--samples", "4", "--reward", str(folders["judge"]),
                 "--prompts", *TEXTS],
    }  # fmt: skip
    plain = {n: by_id(answers(together, tmp_path / f"{n}.jsonl", *o)) for n, o in asked.items()}
    capsys.readouterr()
    streamed = ["--decoder", "greedy", "--stream", "--prompts", TEXTS[0]]
    generate.main([*together, *streamed])
    said = capsys.readouterr().out
    mesh = ["--mesh", "4", "2"]
    lines = [
        [*together, *mesh, "--output", str(tmp_path / f"{n}-mesh.jsonl"), *o]
        for n, o in asked.items()
    ]
    lines.append([*together, "--mesh", "1", "8", *streamed])
    told = tmp_path / "said"
    assert finished(on_eight_devices, generate.main, *lines, said=told) == 0, told.read_text()
    assert told.read_text().endswith(said) and said
    for name, expected in plain.items():
        text = (tmp_path / f"{name}-mesh.jsonl").read_text()
        found = by_id(map(json.loads, text.splitlines()))
        assert {id: row["tokens"] for id, row in found.items()} == {
            id: row["tokens"] for id, row in expected.items()
        }


def test_a_mesh_that_the_devices_do_not_make_is_refused(base) -> None:
    said = refusal(*base, "--prompts", "a", "--mesh", "2", "3")
    assert "--mesh 2 3: data=2 x model=3 makes 6 devices and there are 1; use 1 x 1" in said
