"""Generate text: any published checkpoint or zoo model, any decoder, prompts from anywhere.

python -m experiments generate --model NAME_OR_FOLDER --decoder NAME
    --prompts TEXT [TEXT ...] | --input FILE.jsonl|FILE.txt   [--output FILE.jsonl]

With --output, one JSON line for each prompt: text, tokens, status, logprob, usage, seed and
settings. The same command goes on where a killed one stopped; what is there is not done again.
Several processes joined with --distributed take every n-th prompt each and write a file each.
A response depends on the seed and on its prompt's id, never on the batch it was in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import jax
import tyro

from algorithms.sampling.autoregressive import Autoregressive
from experiments.commands import decoders
from experiments.commands.generate.answers import FIRST, Job, invalid
from experiments.commands.terminal import INVALID, visible
from experiments.harness.environment import keep_compiled
from experiments.harness.files import Lines
from experiments.harness.progress import Progress
from experiments.harness.report import stopping
from experiments.inputs import prompts, sources
from experiments.inputs.prompts import Request
from experiments.inputs.sources import Source
from jaxdecode.distributed import initialize
from jaxdecode.prompt import Prompt
from jaxdecode.stream import stream
from models.form import Form
from models.rewards import RewardModel
from models.stream import TextStream

STREAMED = ("sample", "greedy")


@dataclass(frozen=True)
class Options:
    """Generate text from any model by any decoder."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|DIR")]
    """A zoo name, or the folder of a published checkpoint."""
    decoder: decoders.Name = "sample"
    """How responses are found."""
    prompts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...")] = ()
    """Prompts as they are."""
    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Prompts from a file: one a line (.txt), or JSON lines (.jsonl)."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """JSON lines; without it, text on the terminal."""
    rules: tyro.conf.OmitArgPrefixes[decoders.Rules] = dataclasses.field(
        default_factory=decoders.Rules
    )
    stop: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...")] = ()
    """Texts that end a response, and are cut off."""
    chat: tyro.conf.FlagCreatePairsOff[bool] = False
    """Put plain prompts into the model's chat template, as the user's words."""
    seed: int = 0
    """Of every random draw."""
    batch: int = 8
    """Prompts decoded together."""
    form: Form = "auto"
    """The model's layers: scanned compiles at once, written (out) runs up to twice as fast."""
    stream: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one response as it is being written."""
    distributed: tyro.conf.FlagCreatePairsOff[bool] = False
    """Share the prompts with the other processes of this job (JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID, or what a cluster says of itself)."""


def prepare(options: Options) -> Job:
    """Open, encode and check everything that can be refused before compute.

    Raises:
      ValueError: saying what is wrong with which option, file and line.
    """
    decoders.check(options.decoder, options.rules)
    if options.stream and (options.output or options.decoder not in STREAMED):
        raise ValueError(f"--stream is for the terminal and for --decoder {' or '.join(STREAMED)}")
    if bool(options.prompts) == bool(options.input):
        raise ValueError("give either --prompts or --input")
    if any(not stop for stop in options.stop):
        raise ValueError("--stop: an empty text would end every response at once")
    requests = prompts.read(options.input) if options.input else prompts.of_texts(options.prompts)
    if options.stream and len(requests) != 1:
        raise ValueError(f"--stream prints one response; {len(requests)} prompts were given")
    if options.chat:
        requests = [_as_chat(request) for request in requests]
    requests = requests[jax.process_index() :: jax.process_count()]
    source = sources.open_model(options.model, options.form)
    reward = options.rules.reward
    scored = reward not in (None, decoders.LIKELIHOOD)
    scorer = sources.open_reward(reward, source) if scored else None
    longest = {source.name: source.positions}
    if scorer is not None:
        longest[str(reward)] = cast(RewardModel, scorer.model).config.max_positions
    most = options.rules.max_tokens
    tokens = [_encoded(request, source, longest, most) for request in requests]
    model = source.model.within(max(map(len, tokens), default=1) + most)
    stop = source.codec.stop(options.stop)
    draft = sources.open_draft(options.rules.draft, source)
    decoder = decoders.build(
        options.decoder, options.rules, model, stop, scorer, draft, source.codec.piece
    )
    for request, ids in zip(requests, tokens, strict=True):
        with _naming(request):
            decoder.check(Prompt.of([ids]))
    return Job(
        codec=source.codec,
        decoder=decoder,
        requests=requests,
        tokens=tokens,
        facts={
            "model": options.model,
            "seed": options.seed,
            "settings": decoders.settings(options.decoder, options.rules)
            | ({"stop": list(options.stop)} if options.stop else {}),
        },
        stop=options.stop,
        seed=options.seed,
        batch=min(options.batch, max(1, len(requests))),
    )


def _as_chat(request: Request) -> Request:
    if isinstance(request.prompt, str):
        words = [{"role": "user", "content": request.prompt}]
        return dataclasses.replace(request, prompt=words)
    return request


def _encoded(
    request: Request, source: Source, longest: dict[str, int], max_tokens: int
) -> list[int]:
    """Tokens of a prompt, with room for a response; `longest` is the most every model can read."""
    with _naming(request):
        tokens = source.codec.prompt(request.prompt)
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


def shard(path: Path) -> Path:
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
    job = prepare(options)
    if options.stream:
        for text in spoken(job):
            print(visible(text), end="", flush=True)
        print()
        return
    if options.output is None:
        broken = []
        for record in job.answers(range(len(job.requests))):
            print(visible(record["text"]), flush=True)
            broken += invalid([record])
        warn(broken)
        return
    with Lines(shard(options.output), FIRST) as lines:
        pending = job.pending(lines)
        kept = f"Finished prompts are kept in {lines.path}; the same command goes on."
        broken = invalid(lines.records)
        with stopping(kept), Progress(options.decoder, len(job.requests)) as progress:
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


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(
        Options, prog="python -m experiments generate", description=__doc__, args=arguments
    )
    keep_compiled()
    try:
        run(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
