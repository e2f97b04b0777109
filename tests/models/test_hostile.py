"""Hostile checkpoints and tokenizers: every one is refused by name, in little time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from models.text import Tokenizer
from models.tokenizer_files import load_tokenizer
from models.walled_tokenizer import WalledTokenizer
from tests.models.hostile import BYTES, LONGEST, SECONDS, SIZES, checkpoints
from tests.models.vocabularies import TEXT, byte_level, characters, sentencepiece, write

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> dict[str, list[Any]]:
    """What became of each checkpoint, in a process of its own under a limit on memory."""
    if sys.platform != "linux":
        pytest.skip("memory is limited as Linux does")
    run = subprocess.run(
        [sys.executable, "-m", "tests.models.hostile", str(tmp_path_factory.mktemp("hostile"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return {case[0]: case[1:] for case in map(json.loads, run.stdout.splitlines())}


GROUPS = {name: [] for name in [*SIZES, "llama_", "phi3_", "header", "config", "model", "a "]}
for case, *_ in checkpoints():
    GROUPS[next(group for group in reversed(GROUPS) if case.startswith(group))].append(case)


@pytest.mark.parametrize("group", GROUPS)
def test_hostile_checkpoints_are_refused(opened, group):
    for name in GROUPS[group]:
        kind, said, seconds, named = opened[name]
        assert kind in ("ValueError", "Damaged"), (name, kind, said[:300])
        assert seconds < SECONDS and len(said) < LONGEST, (name, seconds, len(said))
        assert named, (name, said)


def grown(times: int, old: str = "a") -> dict[str, Any]:
    """A step that turns a letter into two, as often as asked."""
    step = {"type": "Replace", "pattern": {"String": old}, "content": old * 2}
    return {"type": "Sequence", "normalizers": [step] * times}


def split(pattern: str) -> dict[str, Any]:
    how = {"behavior": "Isolated", "invert": False}
    return {"type": "Split", "pattern": {"Regex": pattern}, **how}


def changed(**parts: Any) -> str:
    return json.dumps(json.loads(characters().to_str()) | parts)


HOSTILE = {
    "a normaliser that multiplies": changed(normalizer=grown(60)),
    "a pattern that runs for years": changed(pre_tokenizer=split("(a|a)*(a|a)*(a|a)*(a|a)*c")),
    "a pattern that nests": changed(pre_tokenizer=split("((a*)*)*b")),
    "a pattern that is none": changed(pre_tokenizer=split("(")),
    "a table that is none": changed(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    ),
    "a decoder that multiplies": changed(
        decoder={
            "type": "Sequence",
            "decoders": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}]
            * 9,
        }
    ),
    "no model": "{}",
    "no object": "[]",
    "no text": "",
    "deep": "[" * 1_000_000,
    "unknown parts": changed(normalizer={"type": "Shell", "command": "true"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tokenizers_are_contained(name, tmp_path):
    """One that works on what it is given within the limits may; then its answer is bounded."""
    (tmp_path / "tokenizer.json").write_text(HOSTILE[name])
    start = time.monotonic()
    try:
        tokenizer = load_tokenizer(tmp_path)
        ids = tokenizer.encode("a" * 40)
        text = tokenizer.decode(ids)
    except ValueError as error:
        assert str(tmp_path) in str(error) and len(str(error)) < LONGEST
    else:
        assert len(text) < 1000 and name.startswith("a pattern")
    assert time.monotonic() - start < 4 * SECONDS  # the machine may be busy; the alarm is its own


def test_after_an_overrun_the_tokenizer_works_on(tmp_path):
    (tmp_path / "tokenizer.json").write_text(changed(normalizer=grown(60)))
    tokenizer = load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="its tokenizer was ended"):
        tokenizer.encode("a")
    assert tokenizer.decode(tokenizer.encode("b d")) == "b d"


@pytest.mark.parametrize("build", [byte_level, sentencepiece, characters])
def test_a_walled_tokenizer_says_what_the_library_says(build):
    inner = build()
    walled = WalledTokenizer(inner.to_str(), "here")
    ours, theirs = Tokenizer(walled), Tokenizer(inner)
    assert ours.vocab_size == theirs.vocab_size and ours.fingerprint == theirs.fingerprint
    for text in ("", "a", TEXT, "<eos> a", "\0\n\N{ZERO WIDTH JOINER}é"):
        for special in (True, False):
            ids = theirs.encode(text, add_special=special)
            assert ours.encode(text, add_special=special) == ids
            assert ours.decode(ids) == theirs.decode(ids)
            assert ours.decode(ids, skip_special=False) == theirs.decode(ids, skip_special=False)
    for text in ("", "été naïve", TEXT):
        assert walled.encode(text).offsets == inner.encode(text).offsets
    assert walled.get_added_tokens_decoder().keys() == inner.get_added_tokens_decoder().keys()
    for index in range(theirs.vocab_size + 1):
        token = inner.id_to_token(index)
        assert walled.id_to_token(index) == token
        assert token is None or walled.token_to_id(token) == inner.token_to_id(token)
    walled.encode_special_tokens = inner.encode_special_tokens = True
    assert walled.encode("<eos>").ids == inner.encode("<eos>").ids
    assert walled.limits.memory <= BYTES


def test_half_a_surrogate_pair_is_no_text():
    walled = WalledTokenizer(characters().to_str(), "here")
    with pytest.raises(ValueError, match=r"character 1 is half of a surrogate pair"):
        walled.encode("a\ud800")
    with pytest.raises(ValueError, match="here holds no tokenizer that works"):
        walled.decode([-1])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config": {"bos_token": True}}, "tokenizer_config.json: bos_token=True"),
        ({"tokenizer_config": {"add_bos_token": "false"}}, "add_bos_token='false' must be true"),
        (
            {"generation_config": {"eos_token_id": 2**31}},
            "generation_config.json: eos_token_id=2147",
        ),
        ({"generation_config": {"eos_token_id": [9999]}}, "eos_token_id=9999 is beyond the"),
        ({"config": {"pad_token_id": 9999, "vocab_size": 500}}, "config.json: pad_token_id=9999"),
        ({"config": {"pad_token_id": False}}, "config.json: pad_token_id=False must be"),
    ],
)
def test_ids_and_flags_are_checked(files, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_tokenizer(write(tmp_path, byte_level(), **files))
    fine = {"config": {"pad_token_id": 499, "vocab_size": 500}}  # a row that pads the table
    assert load_tokenizer(write(tmp_path / "fine", byte_level(), **fine)).pad == 499
