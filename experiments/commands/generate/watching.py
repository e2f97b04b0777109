"""A canvas on the terminal, drawn anew after every pass; a pipe gets the text alone."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from experiments.commands.generate.answers import Job
from experiments.commands.terminal import visible
from jaxdecode.canvas_stream import View, views
from jaxdecode.denoiser import Denoiser
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt

OPEN = "▒"


def drawn(job: Job, view: View) -> str:
    """The response of the first row, a sign for every place that is open and none for ends."""
    assert isinstance(job.decoder, Autoregressive)
    model = job.decoder.generator.model
    assert isinstance(model, Denoiser)
    prompt, text, mask = job.tokens[0], job.codec.text, model.mask_id
    shown = view.open[0] | (view.decided[0] >= 0)
    tokens = np.where(view.open[0], mask, view.tokens[0])[shown]
    kept = tokens[~np.isin(tokens, text.eos)].tolist()
    spelled = text.decode([mask], skip_special=False).strip()
    said = visible(text.decode(kept, skip_special=False, after=prompt))
    return said.replace(spelled, OPEN) if spelled else said


def show(job: Job, console: Console | None = None) -> None:
    """Answer the one prompt of a job while somebody looks on."""
    console = Console(highlight=False) if console is None else console
    assert isinstance(job.decoder, Autoregressive)
    prompt = Prompt.of([job.tokens[0]], [job.requests[0].number])
    seen = views(job.decoder.generator, job.seed, prompt)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for view in seen:
            if console.is_terminal:
                live.update(Text(drawn(job, view)), refresh=True)
            if view.result is not None:
                text = job.record(0, view.result)["text"]
    print(visible(text), file=console.file)
