"""Text in, text out: a published model, any decoder, in ten lines.

    from algorithms.selection.best_of_n import BestOfN
    from algorithms.speculative.prompt_lookup import prompt_lookup
    from models.session import open_session

    lm = open_session("smollm2.gguf")                      # a file, or a published folder
    print(lm.chat("What is the capital of France?").text)  # greedily
    short = lm.judge(lambda prompt, text: -len(text))      # or a reward model's folder
    best = lm.using(lambda draws: BestOfN(draws, short, 8), temperature=0.8)
    for reply in best.chat_all(["Why is the sky blue?", "What is rain?"]):
        print(reply.text, reply.status, reply.usage["emitted"])
    print(best.citation)
    for piece in lm.using(prompt_lookup).stream("Tell me a story."):
        print(piece, end="", flush=True)

A method is given as what makes it from a `Generator`: a class or function of `algorithms` with
its other arguments bound. One that speculates gives back another generator, the rest a decoder;
a generator decodes plainly. Every method is compiled once for each shape of its prompts.

A folder with a masked diffusion model is opened the same way. Its methods are made from an
`Unmasker` that fills one place a pass: `freedave`, or
`lambda plain: replace(plain, chooser=Threshold(0.9), cache="dual")`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from jaxdecode.autoregress import Generator
from jaxdecode.choose import Top
from jaxdecode.decoder import Decoder, decode_all
from jaxdecode.denoiser import Denoiser
from jaxdecode.logits import LogitsTransform, Temperature, chain
from jaxdecode.paper import citation, papers
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import Expander
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import Scorer
from jaxdecode.stop import Stop, StopRule
from jaxdecode.stream import stream
from jaxdecode.unmask import Unmasker
from models import checkpoints
from models.chat import Message
from models.denoisers import is_denoiser, load_denoiser
from models.form import Form, formed
from models.judging import Judging, function_judge, reward_judge
from models.stop_strings import StopStrings
from models.stream import TextStream, trim
from models.text import Tokenizer
from models.tokenizer_files import load_tokenizer
from models.transformer import Transformer

Words = str | Sequence[Message]
"""What a user says, or a whole conversation so far."""
Method = Callable[..., Any]
"""Makes a `Decoder` or another `Expander` from a generator, or a denoiser's `Unmasker`."""


@dataclass(frozen=True)
class Reply:
    """One response.

    Attributes:
      text: without special tokens, cut before a stop string.
      status: why it ended: "eos", "length", "budget", ...; see `jaxdecode.result.Status`.
      usage: what it cost, by the names of `jaxdecode.result.Usage`.
      result: everything, as a batch of one.
    """

    text: str
    status: str
    usage: dict[str, Any]
    result: Result


@dataclass(frozen=True)
class Session:
    """A model, its tokenizer, and how it is made to answer.

    Attributes:
      model: a `Transformer`, or a `Denoiser` over one.
      tokenizer: as `open_session` opens it.
      method: makes the decoder.
      transform: edits of the logits, after the temperature.
      temperature: of the tokens' draws; None takes the likeliest token.
      max_tokens: of a response.
      stops: texts that end a response, besides the model's end tokens.
      split_special: names of special tokens in prompts and messages are text, and not the tokens.
      variables: what else the chat template reads, such as {"enable_thinking": False}.
      seed: of every random draw; a reply depends on it and on its place among the prompts.
      batch: prompts decoded together.
      block: of a denoiser, the places that are filled before any behind them; it divides
        `max_tokens`, and None takes them all.
    """

    model: Any
    tokenizer: Tokenizer
    method: Method = Autoregressive
    transform: LogitsTransform | None = None
    temperature: float | None = None
    max_tokens: int = 256
    stops: tuple[str, ...] = ()
    split_special: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    batch: int = 8
    block: int | None = None

    def using(self, method: Method | None = None, **changes: Any) -> Session:
        """The same model, made to answer otherwise; `changes` are other attributes."""
        return replace(self, **changes | ({} if method is None else {"method": method}))

    def judge(self, by: Judging | str | os.PathLike) -> Scorer:
        """What tells good responses from bad: a function of prompt and response, or the folder
        of a reward model with this model's vocabulary."""
        if callable(by):
            return function_judge(by, self.tokenizer)
        return reward_judge(by, self.tokenizer)

    @cached_property
    def generator(self) -> Generator | Unmasker:
        """How tokens are drawn."""
        warm = self.temperature
        edits = [] if warm in (None, 1.0) else [Temperature(cast(float, warm))]
        edits += [] if self.transform is None else [self.transform]
        ends = StopStrings.of(self.tokenizer, self.stops) if self.stops else None
        transform, most = chain(*edits), self.max_tokens
        sampler = Greedy() if warm is None else Categorical()
        stop = cast(StopRule, ends) if ends is not None else Stop.of(self.tokenizer.eos)
        if isinstance(self.model, Denoiser):
            block = self.block or self.model.causal_blocks or most
            return Unmasker(self.model, Top(), sampler, stop, most, block, transform=transform)
        if self.block is not None:
            raise ValueError(f"block={self.block}: only a denoiser fills blocks; leave it out")
        growth = min(8, max(1, most // 64))
        return Generator(self.model, transform, sampler, stop, most, cache_growth=growth)

    @cached_property
    def decoder(self) -> Decoder:
        """The method, made."""
        made = self.method(self.generator)
        return made if hasattr(made, "check") else Autoregressive(made)

    @property
    def citation(self) -> str:
        """BibTeX of every paper behind the method; "" where there is none."""
        return citation(self.decoder) if any(papers(self.decoder)) else ""

    def chat(self, words: Words) -> Reply:
        """The model's answer to a user, or its turn in a conversation; where it had the last word,
        how it goes on."""
        return self.chat_all([words])[0]

    def chat_all(self, words: Sequence[Words]) -> list[Reply]:
        """`chat` of many at once, in batches."""
        return self._replies(self._opened(words))

    def complete(self, text: str) -> Reply:
        """What follows a text."""
        return self.complete_all([text])[0]

    def complete_all(self, texts: Sequence[str]) -> list[Reply]:
        """`complete` of many at once, in batches."""
        return self._replies([self._text(text) for text in texts])

    def stream(self, words: Words, chat: bool = True, every: int = 4) -> Iterator[str]:
        """The answer in pieces, as it is being written.

        Args:
          chat: False goes on from a text instead.
          every: at most so many tokens at a time.
        Raises:
          ValueError: the method chooses among responses, and has no text before it is done.
        """
        decoder = self.decoder
        if not isinstance(decoder, Autoregressive):
            raise ValueError(
                f"stream: {type(decoder).__name__} chooses among responses, whose text is known at "
                "the end; use chat or complete"
            )
        tokens = self._opened([words])[0] if chat else self._text(str(words))
        self._check_room(0, tokens)
        return self._pieces(decoder.generator, tokens, every)

    def _pieces(self, generator: Expander, tokens: list[int], every: int) -> Iterator[str]:
        written = TextStream(self.tokenizer, self.stops, after=tokens)
        for piece in stream(generator, self.seed, Prompt.of([tokens]), every):
            yield written.push(piece.tokens[0])
            if written.stopped is not None:
                return
        yield written.finish()

    def _opened(self, words: Sequence[Words]) -> list[list[int]]:
        talks = [[{"role": "user", "content": x}] if isinstance(x, str) else x for x in words]
        return self.tokenizer.encode_opened(talks, self.split_special, **self.variables)

    def _text(self, text: str) -> list[int]:
        return self.tokenizer.encode_prompt(text, self.split_special)

    def _replies(self, prompts: Sequence[Sequence[int]]) -> list[Reply]:
        for index, tokens in enumerate(prompts):
            self._check_room(index, tokens)
        found: dict[int, Reply] = {}
        if prompts:
            batch = min(self.batch, len(prompts))
            for index, result in decode_all(self.decoder, self.seed, prompts, batch):
                found[index] = self._reply(prompts[index], result)
        return [found[index] for index in range(len(prompts))]

    def _check_room(self, index: int, tokens: Sequence[int]) -> None:
        model = self.model.model if isinstance(self.model, Denoiser) else self.model
        most = cast(Transformer, model).config.max_positions
        most = min(most, self.model.max_positions or most)
        if len(tokens) + self.max_tokens > most:
            raise ValueError(
                f"prompt {index}: its {len(tokens)} tokens and max_tokens={self.max_tokens} exceed "
                f"the {most} positions of the model; shorten it or lower max_tokens"
            )

    def _reply(self, prompt: Sequence[int], result: Result) -> Reply:
        tokens = result.tokens[0, : result.length[0]].tolist()
        text, cut = trim(self.tokenizer.decode(tokens, after=prompt), self.stops)
        status = Status(int(result.status[0])) if cut is None else Status.EOS
        usage = {name: np.asarray(value)[0].tolist() for name, value in vars(result.usage).items()}
        return Reply(text, status.name.lower(), usage, result)


def open_session(
    path: str | os.PathLike, dtype: str | None = None, form: Form = "scanned", longest: int = 0
) -> Session:
    """Open a published model, a folder or a .gguf file.

    Args:
      dtype: of the weights in memory; by default the stored one.
      form: see `models.form`; "auto" compiles for longer, and then decodes faster.
      longest: most tokens of a prompt with its response, 0 for as many as the model reads. A model
        whose rotation changes at a length (longrope) works twice unless texts end before it.
    Raises:
      ValueError: for anything that is missing, damaged or unsupported.
    """
    fills = is_denoiser(path)
    rows = checkpoints.Checkpoint(path, denoiser=fills).config.rows
    tokenizer = load_tokenizer(path).fitted(rows)
    known = tokenizer.check_rows(rows)
    if fills:
        found = load_denoiser(path, dtype=dtype, vocab_size=known)
        inner = formed(cast(Transformer, found.model), form)
        return Session(replace(found, model=inner), tokenizer)
    model = checkpoints.load(path, dtype=dtype, vocab_size=known, longest=longest)
    return Session(formed(model, form), tokenizer)
