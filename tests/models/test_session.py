"""Text in, text out: the ten lines as they are printed, and what each of them promises."""

from __future__ import annotations

import inspect
import re
from functools import partial
from pathlib import Path

import pytest

from algorithms.diffusion.freedave import freedave
from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.speculative_rejection import SpeculativeRejection
from algorithms.speculative.prompt_lookup import prompt_lookup
from experiments.zoo import WEIGHTS
from jaxdecode.logits import TopK
from jaxdecode.plain import Autoregressive
from models import session
from models.session import Session, open_session
from tests.models.gguf.writing import convert

pytest.importorskip("gguf")
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}:{% endif %}"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("session")
    change = {"tokenizer.chat_template": TEMPLATE, "tokenizer.ggml.add_bos_token": False}
    return convert("llama", folder / "smollm2.gguf", change=change)


@pytest.fixture(scope="module")
def lm(path: Path) -> Session:
    return open_session(path).using(max_tokens=12)


def test_the_ten_lines_run_as_printed(path: Path, monkeypatch, capsys):
    """From the wheel's three packages alone."""
    lines = re.findall(r"^    (\S.*|    .*)$", session.__doc__ or "", re.MULTILINE)
    code = "\n".join(lines)
    assert len([line for line in lines if not line.startswith(("from", " "))]) <= 10
    assert "experiments" not in code
    monkeypatch.chdir(path.parent)
    # The tiny model has 64 positions.
    start = inspect.unwrap(Session.__init__)
    defaults = tuple(12 if d == 256 else d for d in start.__defaults__ or ())
    monkeypatch.setattr(start, "__defaults__", defaults)
    found: dict = {}
    exec(code, found)
    shown = capsys.readouterr().out
    assert found["reply"].text in shown
    assert len(found["best"].chat_all(["a", "b"])) == 2


def test_a_chat_is_its_template_completed(lm: Session):
    assert lm.chat("the cat").text == lm.complete("the cat:").text
    turns = [{"role": "user", "content": "the"}, {"role": "assistant", "content": " cat"}]
    turns += [{"role": "user", "content": " and"}]
    assert lm.chat(turns).text == lm.complete("the cat and:").text
    going = lm.chat(turns[:2])
    assert going.text == lm.complete("the cat").text == "".join(lm.stream(turns[:2]))
    with pytest.raises(ValueError, match="enable_thinking=False: the chat template does not read"):
        lm.using(variables={"enable_thinking": False}).chat("the")


def test_a_batch_answers_as_each_alone(lm: Session):
    texts = ["the", "cat and the cat", "on"]
    together = lm.complete_all(texts)
    for text, reply in zip(texts, together, strict=True):
        assert reply.text == lm.complete(text).text
        assert reply.status in ("eos", "length")
        assert reply.usage["emitted"] == len(reply.result.tokens[0, : int(reply.result.length[0])])
    assert lm.complete_all([]) == []


def test_a_stream_adds_up_to_the_text(lm: Session):
    for method in (Autoregressive, prompt_lookup):
        other = lm.using(method)
        assert "".join(other.stream("the cat")) == other.chat("the cat").text
    assert "".join(lm.stream("the cat", chat=False)) == lm.complete("the cat").text
    with pytest.raises(ValueError, match="BestOfN chooses among responses"):
        short = lm.judge(lambda prompt, text: -len(text))
        lm.using(lambda draws: BestOfN(draws, short, 2)).stream("the")


def test_the_judge_reads_prompt_and_response(lm: Session):
    """Best-of-N returns the response that the function likes best, of those drawn."""
    seen: list[tuple[str, str]] = []

    def likes(prompt: str, text: str) -> float:
        seen.append((prompt, text))
        return text.count("e") - 0.01 * len(text)

    judge = lm.judge(likes)
    best = lm.using(lambda draws: BestOfN(draws, judge, 6), temperature=1.0)
    reply = best.complete("the cat")
    assert {prompt for prompt, _ in seen} == {"the cat"}
    assert reply.text in {text for _, text in seen}
    assert likes("", reply.text) == max(likes("", text) for _, text in list(seen))
    assert reply.usage["emitted"] > len(reply.result.tokens[0])


def test_a_judge_that_fails_spoils_its_own_response_alone(lm: Session):
    def picky(prompt: str, text: str) -> float:
        if "e" in text:
            raise RuntimeError("no")
        return float(len(text))

    judge = lm.judge(picky)
    best = lm.using(lambda draws: BestOfN(draws, judge, 6), temperature=1.0)
    with pytest.warns(UserWarning, match="the judge failed .*RuntimeError: no"):
        reply = best.complete("the cat")
    assert "e" not in reply.text
    assert reply.usage["invalid"] > 0


def test_settings_change_what_is_drawn(lm: Session):
    warm = lm.using(temperature=1.0)
    texts = ["the", "cat", "on"]
    drawn = [reply.text for reply in warm.complete_all(texts)]
    assert [reply.text for reply in warm.using(temperature=1.0).complete_all(texts)] == drawn
    assert [reply.text for reply in warm.using(seed=1).complete_all(texts)] != drawn
    likeliest = [reply.text for reply in warm.using(transform=TopK(1)).complete_all(texts)]
    assert likeliest == [reply.text for reply in lm.complete_all(texts)]
    text = lm.complete("the cat").text
    cut = lm.using(stops=(text[3:5],)).complete("the cat")
    assert cut.text == text[: text.index(text[3:5])] and cut.status == "eos"


def test_texts_that_end_before_the_rotation_changes_are_worked_on_once(tmp_path: Path):
    path = convert("phi3_longrope", tmp_path / "long.gguf")
    twice = open_session(path).using(max_tokens=4)
    crossing = twice.model.config.crossing
    once = open_session(path, longest=crossing).using(max_tokens=4)
    assert 2 * once.model.cost.parameters == twice.model.cost.parameters
    assert once.complete("the").text == twice.complete("the").text
    with pytest.raises(ValueError, match=f"exceed the {crossing} positions"):
        once.using(max_tokens=crossing).complete("the")


def test_citations_are_those_of_the_method(lm: Session):
    assert lm.citation == ""
    judge = lm.judge(lambda prompt, text: 0.0)
    rejecting = lm.using(partial(SpeculativeRejection, scorer=judge, budget=200, width=8))
    assert "@misc{speculative_rejection" in rejecting.citation


def test_what_cannot_be_done_is_said(lm: Session, tmp_path: Path):
    with pytest.raises(ValueError, match="no chat template"):
        open_session(convert("qwen2", tmp_path / "x.gguf")).chat("the")
    with pytest.raises(ValueError, match="exceed the 64 positions"):
        lm.using(max_tokens=100).complete("the")
    with pytest.raises(ValueError, match="is no folder"):
        open_session(tmp_path / "nothing")


def test_a_denoiser_answers_by_whatever_fills_its_canvas():
    """The masks of an answer are filled; a stream gives what is filled from the left."""
    lm = open_session(WEIGHTS / "denoiser", dtype="float32").using(max_tokens=8, block=4)
    asked = "copy | A B C D _ _ :"
    plain = lm.complete(asked)
    assert plain.text.strip() == "A B C D" and plain.status == "eos"
    ahead = lm.using(freedave)
    assert ahead.complete(asked).text == plain.text and "2510.00294" in ahead.citation
    assert ahead.complete(asked).usage["target_passes"] <= plain.usage["target_passes"]
    assert "".join(lm.stream(asked, chat=False)) == plain.text
    with pytest.raises(ValueError, match="2048 positions"):
        lm.using(max_tokens=4096).complete(asked)
    with pytest.raises(ValueError, match="block=3 does not divide"):
        lm.using(block=3).complete(asked)


def test_only_a_denoiser_fills_blocks(lm: Session):
    with pytest.raises(ValueError, match="block=4: only a denoiser"):
        lm.using(block=4).complete("the")
