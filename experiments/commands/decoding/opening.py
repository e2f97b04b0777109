"""What the options of a command line name, opened: rewards, drafts, heads, corpora."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from algorithms.tokens.rules.stutter import Stutter
from algorithms.tokens.threshold import Threshold
from experiments.commands.decoding import decoders
from experiments.commands.decoding.drafting import WAYS, Means
from experiments.commands.decoding.rules import Rules
from experiments.commands.decoding.uses import LIKELIHOOD, Name
from experiments.harness.files import whole_text
from experiments.inputs import sources
from experiments.inputs.sources import Source
from experiments.speculative.speculation import Field, cost_aware
from experiments.tokens.adadec.reading import weights_of
from experiments.tokens.lud.stuttering import stuttering
from jaxdecode.decoder import Decoder
from jaxdecode.scoring import Scorer
from jaxdecode.speculate import Speculator

MEASURED = 2  # prompts, and repeats, by which a policy learns what this machine pays


@dataclass(frozen=True)
class Opened:
    """What options may name; None for what they do not.

    Attributes:
      scorer: of responses; None for the likelihood as well.
      means: what drafting needs.
      judge: of steps.
      aligned: another model of the same vocabulary.
      threshold: in nats.
      stutter: of the model's tokens.
    """

    scorer: Scorer | None
    means: Means
    judge: Any
    aligned: Any
    threshold: float | None = None
    stutter: Stutter | None = None

    @property
    def readers(self) -> list[Any]:
        """Reward models, which must be able to read a whole response."""
        found = [getattr(self.scorer, "model", None), self.judge]
        return [model for model in found if hasattr(model, "config")]


def open_named(rules: Rules, source: Source) -> Opened:
    """Open everything that `rules` name for the texts of `source`.

    Raises:
      ValueError: for what is not there, damaged, or of another vocabulary.
    """
    reward = rules.reward
    draft = rules.draft_model
    if rules.draft is not None and rules.draft not in WAYS:
        draft = rules.draft
    return Opened(
        scorer=None if reward in (None, LIKELIHOOD) else sources.open_judge(reward, source),
        means=Means(
            model=None if draft is None else sources.open_beside(draft, source),
            head=None if rules.head is None else sources.open_head(rules.head, source),
            corpus=None
            if rules.corpus is None
            else sources.open_corpus(Path(rules.corpus), source),
        ),
        judge=None
        if rules.process_reward is None
        else sources.open_reward(rules.process_reward, source).model,
        aligned=None if rules.aligned is None else sources.open_beside(rules.aligned, source),
        threshold=None if rules.threshold is None else threshold_of(rules.threshold, source.name),
        # Drafts of units are verified, and may repeat what the model repeats.
        stutter=None
        if rules.placeholder is None or rules.draft is not None
        else stuttering(source.codec, source.model),
    )


def threshold_of(given: float | str, model: str) -> float:
    """Nats as they are, or of a file that was learned for the model of this name.

    Raises:
      ValueError: it is neither, or was learned for other weights.
    """
    with contextlib.suppress(ValueError):
        return float(given)
    path = Path(str(given))
    if not path.is_file():
        raise ValueError(
            f"--threshold {given}: neither nats nor a file; `python -m experiments threshold "
            "MODEL TEXTS --out FILE` learns one"
        )
    stored = Threshold.loads(whole_text(path))
    return stored.of(weights_of(sources.folder_of(model)))


def decoder_of(
    name: Name,
    rules: Rules,
    source: Source,
    stops: Sequence[str],
    opened: Opened,
    prompts: Sequence[Sequence[int]] = (),
    batch: int = 1,
) -> Decoder:
    """The decoder that the options come to.

    Args:
      stops: texts that end a response.
      prompts: the first of them are what a policy is measured on, `batch` at a time.
    Raises:
      ValueError: as `decoders.build`.
    """

    stop = source.codec.stop(stops)

    def paced(speculator: Speculator) -> Speculator:
        texts = tuple(tuple(prompt) for prompt in prompts[:MEASURED])
        ends = tuple(int(token) for token in stop.eos)
        model = source.model
        field = Field("generate", model, model, ends, texts, min(rules.max_tokens, 64))
        short = replace(
            speculator, generator=replace(speculator.generator, max_tokens=field.max_tokens)
        )
        policy = cost_aware(field, short, min(batch, len(texts)), MEASURED)
        return replace(speculator, policy=policy)

    return decoders.build(
        name,
        rules,
        source.model,
        stop,
        opened.scorer,
        piece=source.codec.piece,
        text=source.codec.text,
        stops=stops,
        means=opened.means,
        judge=opened.judge,
        aligned=opened.aligned,
        threshold=opened.threshold,
        stutter=opened.stutter,
        paced=paced if rules.policy == "cost-aware" and prompts else None,
    )
