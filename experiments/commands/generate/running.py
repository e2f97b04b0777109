"""Answering the prompts of a command line: prepared, streamed, stored, or raced."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from algorithms.selection.best_of_n import BestOfN
from experiments.commands.decoding import decoders, opening
from experiments.commands.decoding.placing import local_mesh
from experiments.commands.decoding.rules import Rules
from experiments.commands.decoding.uses import UNMASKING, USES, Name
from experiments.commands.generate import canvases, racing, watching
from experiments.commands.generate.answers import FIRST, Job, invalid
from experiments.commands.generate.checks import check, check_listed
from experiments.commands.generate.options import Options
from experiments.commands.terminal import INVALID, visible
from experiments.harness.files import Lines
from experiments.harness.progress import Progress
from experiments.harness.running import stopping
from experiments.inputs import prompts, sources
from experiments.inputs.prompts import Request
from experiments.inputs.sources import Source
from jaxdecode.decoder import Decoder
from jaxdecode.distributed import initialize
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.scoring import FunctionScorer
from jaxdecode.sharding import Sharded, shard
from jaxdecode.stream import stream
from models.stream import TextStream


def prepare(options: Options, name: Name) -> Job:
    """Open, encode and check everything that can be refused before compute.

    Raises:
      ValueError: saying what is wrong with which option, file and line.
    """
    rules = options.rules
    check(name, options)
    requests = prompts.read(options.input) if options.input else prompts.of_texts(options.prompts)
    if options.stream and len(requests) != 1:
        raise ValueError(f"--stream prints one response; {len(requests)} prompts were given")
    if options.chat:
        requests = [_as_chat(request) for request in requests]
    requests = requests[jax.process_index() :: jax.process_count()]
    canvas = name in UNMASKING
    opened_by = sources.open_denoiser if canvas else sources.open_model
    mesh = local_mesh(options.mesh)
    source = opened_by(options.model, options.form, mesh)
    opened = opening.open_named(rules, source)
    longest = {source.name: source.positions}
    for reader in opened.readers:
        longest[str(rules.process_reward or rules.reward)] = reader.config.max_positions
    reading = options.reading
    tokens = [_encoded(one, source, reading, longest, rules.max_tokens) for one in requests]
    most = max(map(len, tokens), default=1) + rules.max_tokens
    source = source.within(most)
    batch = min(options.batch, max(1, len(requests)))
    if canvas:
        decoder = canvases.build(name, rules, source, source.codec.stop(options.stop))
    else:
        decoder = opening.decoder_of(name, rules, source, options.stop, opened, tokens, batch)
    if name == "sample" and options.listed > 1:
        decoder = _repeated(decoder, options.listed)
    for request, ids in zip(requests, tokens, strict=True):
        with _naming(request):
            decoder.check(Prompt.of([ids]))
    if options.listed > 1 and tokens:
        check_listed(name, options, decoder, tokens[0])
    if mesh is not None:  # a stream takes the loop apart, and has one row
        decoder = shard(decoder, mesh) if options.stream else Sharded.of(decoder, mesh)
    return Job(
        codec=source.codec,
        decoder=decoder,
        requests=requests,
        tokens=tokens,
        facts={
            "model": options.model,
            "seed": options.seed,
            "settings": decoders.settings(name, rules)
            | ({"stop": list(options.stop)} if options.stop else {})
            | ({"return": options.listed} if options.listed > 1 else {})
            | reading,
        },
        stop=options.stop,
        seed=options.seed,
        batch=batch,
        listed=options.listed,
    )


def _repeated(decoder: Decoder, count: int) -> Decoder:
    """So many responses of their own to each prompt, in the order they are drawn; the first is the
    one that is drawn alone."""
    assert isinstance(decoder, Autoregressive)
    return BestOfN(decoder.generator, FunctionScorer(_alike), count)


def _alike(prompts: Any, asked: Any, tokens: Any, lengths: Any) -> Any:
    """None is better than another."""
    return jnp.zeros(lengths.shape)


def _as_chat(request: Request) -> Request:
    if isinstance(request.prompt, str):
        words = [{"role": "user", "content": request.prompt}]
        return dataclasses.replace(request, prompt=words)
    return request


def _encoded(
    request: Request,
    source: Source,
    reading: Mapping[str, Any],
    longest: Mapping[str, int],
    max_tokens: int,
) -> list[int]:
    """Tokens of a prompt, with room for a response; `longest` is the most every model can read."""
    with _naming(request):
        tokens = source.codec.prompt(request.prompt, **reading)
        for name, positions in longest.items():
            if len(tokens) + max_tokens > positions:
                raise ValueError(
                    f"{len(tokens)} tokens and --max-tokens {max_tokens} exceed the "
                    f"{positions} tokens that {name} can read"
                )
        return tokens


@contextlib.contextmanager
def _naming(request: Request) -> Iterator[None]:
    """Put the place of a request before what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{request.where}: {error}") from error


def part_of(path: Path) -> Path:
    """This process's own file."""
    if jax.process_count() == 1:
        return path
    return path.with_suffix(f".{jax.process_index()}-of-{jax.process_count()}{path.suffix}")


def spoken(job: Job) -> Iterator[str]:
    """The one answer of a job, piece by piece; together they are its text."""
    assert isinstance(job.decoder, Autoregressive)
    prompt = Prompt.of([job.tokens[0]], [job.requests[0].number])
    text = TextStream(job.codec.text, job.stop, after=job.tokens[0])
    for piece in stream(job.decoder.generator, job.seed, prompt, every=4):
        yield text.push(piece.tokens[0].tolist())
        if text.stopped is not None:
            return
    yield text.finish()


def run(options: Options) -> None:
    """Answer every request that has no answer yet."""
    if options.distributed:
        initialize(detect=True)
    names: list[Name] = [*options.decoder] or ["sample"]
    if len(names) > 1:
        race(options, names)
        return
    job = prepare(options, names[0])
    if options.stream and names[0] in UNMASKING:
        watching.show(job)
        return
    if options.stream:
        for text in spoken(job):
            print(visible(text), end="", flush=True)
        print()
        return
    if options.output is None:
        broken = []
        for record in job.answers(range(len(job.requests))):
            for text in record.get("texts", [record["text"]]):
                print(visible(text), flush=True)
            broken += invalid([record])
        warn(broken)
        return
    with Lines(part_of(options.output), FIRST) as lines:
        pending = job.pending(lines)
        kept = f"Finished prompts are kept in {lines.path}; the same command goes on."
        broken = invalid(lines.records)
        with stopping(kept), Progress(names[0], len(job.requests)) as progress:
            progress.advance(len(job.requests) - len(pending))
            for record in job.answers(pending):
                lines.append(record)
                broken += invalid([record])
                progress.advance()
    print(f"{len(pending)} new answers, {len(job.requests)} in all: {lines.path}")
    warn(broken)


def warn(broken: Sequence[str | int]) -> None:
    """Say which answers are none, and exit so."""
    if broken:
        shown = ", ".join(str(id)[:40] for id in broken[:8]) + ", ..." * (len(broken) > 8)
        print(
            visible(
                f"warning: {len(broken)} answers are INVALID (ids {shown}): the model or what "
                "judges it gave numbers that are not finite"
            ),
            file=sys.stderr,
        )
        raise SystemExit(INVALID)


def race(options: Options, names: Sequence[Name]) -> None:
    """Answer by several decoders, each with the options that it uses.

    Raises:
      ValueError: for an option that none of them uses, or that a race has no use for.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"--decoder {' '.join(names)}: each can run once")
    if options.output or options.stream or options.listed > 1:
        raise ValueError(
            "several --decoder are raced on the terminal; --output, --stream and --return take one"
        )
    for option in options.rules.given:
        if not any(option in USES[name] for name in names):
            decoders.check(names[0], options.rules)
    jobs = {}
    for name in names:
        kept = {o: v for o, v in vars(options.rules).items() if o in (*USES[name], "max_tokens")}
        one = dataclasses.replace(options, decoder=(name,), rules=Rules(**kept))
        jobs[name] = prepare(one, name)
    racing.show(jobs)
