"""A model of ours as lm-evaluation-harness sees one. Needs the `eval` extra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from experiments.commands.lm_eval.evaluation import Evaluator, divided


class HarnessModel(TemplateLM):
    """Hands the harness's requests to an `Evaluator`.

    The interface is the harness's: a subclass of its template, in its words.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        super().__init__()
        self.evaluator = evaluator
        self.codec = evaluator.source.codec

    @property
    def eot_token_id(self) -> int:
        """The one that the tokenizer names, as the harness has it; else the model's first."""
        text = self.codec.text
        if text.named_eos is None and not text.eos:
            raise ValueError(f"{self.evaluator.source.name}: its tokenizer names no end token")
        return text.eos[0] if text.named_eos is None else text.named_eos

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context: BOS, else the end token by its name."""
        bos = self.codec.text.bos
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        return self.codec.text.fingerprint

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template in use, which the harness files with its results."""
        template = self.codec.text.template
        return template.source if chat_template and template else ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Without the opening of a turn, the assistant's last words are to be gone on with."""
        if not add_generation_prompt and chat_history[-1]["role"] == "assistant":
            return self.codec.text.chat_template.opened([chat_history])[0]
        return self.codec.text.render_chat(chat_history, add_generation_prompt)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """A text that begins with BOS, as a rendered chat does, gets no second one."""
        if add_special_tokens is None:
            bos = self.codec.text.bos
            spelled = None if bos is None else self.codec.text.inner.id_to_token(bos)
            add_special_tokens = spelled is None or not string.startswith(spelled)
        return self.codec.prompt(string) if add_special_tokens else self.codec.piece(string)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Tokens that are given, and tokens to score; blanks between the two are scored."""
        stripped = context.rstrip()
        continuation, context = context[len(stripped) :] + continuation, stripped
        whole = self.tok_encode(context + continuation)
        return divided(self.tok_encode(context), whole, self.prefix_token_id)

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        return self.evaluator.loglikelihood([(left, right) for _, left, right in requests])

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihood of whole texts, in windows that each predict new tokens only."""
        windows, owners = [], []
        for owner, request in enumerate(requests):
            for window in get_rolling_token_windows(
                token_list=self.codec.piece(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.evaluator.source.positions,
                context_len=1,
            ):
                windows.append(make_disjoint_window(window))
                owners.append(owner)
        totals = [0.0] * len(requests)
        scored = self.evaluator.loglikelihood(windows)
        for owner, (logprob, _) in zip(owners, scored, strict=True):
            totals[owner] += logprob
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        asked = [request.args for request in requests]
        return self.evaluator.generate([(self.tok_encode(text), kw) for text, kw in asked])
