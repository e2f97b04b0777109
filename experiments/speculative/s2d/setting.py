"""The setting of the experiment on S2D: targets, and drafts fine-tuned of their first layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import optax

from experiments.harness.report import Out, Seed
from experiments.speculative.speculation import Field, open_field
from experiments.tasks.batches import WindowBatches
from experiments.tasks.stdlib import StandardLibrary
from experiments.zoo import load
from experiments.zoo.recipe import as_dict
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.nested import Sorted
from models.checkpoints import load as load_checkpoint
from models.transformer import Transformer, arrays_of


@dataclass(frozen=True)
class Config:
    """What is trained and decoded.

    Attributes:
      prompts, max_tokens, batch: texts, their length, how many at a time.
      targets: numbers of layers, ascending; the last is the whole model.
      exits: sub-models of the draft by their number of layers.
      thresholds: for each but the last sub-model, a setting each.
      temperatures: of the targets.
      length: the longest draft.
      steps, rows, width, rate: of each fine-tuning.
      trunk: folder of a checkpoint whose first layers are the draft; else the zoo's model.
      models: folders of targets, in place of `targets`.
    """

    prompts: int = 24
    max_tokens: int = 48
    batch: int = 24
    targets: tuple[int, ...] = (4, 6, 8)
    exits: tuple[int, ...] = (1, 2, 3)
    thresholds: tuple[tuple[float, ...], ...] = ((0.5, 0.5), (0.75, 0.7), (0.9, 0.85))
    temperatures: tuple[float, ...] = (0.0, 1.0)
    length: int = 12
    steps: int = 150
    rows: int = 8
    width: int = 128
    rate: float = 1e-3
    trunk: str | None = None
    models: tuple[str, ...] = ()
    seed: Seed = 0
    out: Out = None


def shortened(model: Transformer, layers: int) -> Transformer:
    """A model of the first layers, with the embeddings, last norm and output matrix of all."""
    c = model.config
    if not 1 <= layers <= c.layers:
        raise ValueError(f"layers={layers}: the model has {c.layers}")
    config = replace(c.part(0, layers), unroll=False)
    arrays = arrays_of(model)
    return Transformer(config, arrays={k: v[:layers] if "/" in k else v for k, v in arrays.items()})


@dataclass(frozen=True)
class Setting:
    """The trunk, what is trained of it, and prompts."""

    config: Config
    field: Field

    @classmethod
    def of(cls, config: Config) -> Setting:
        if not config.exits or not all(len(t) == len(config.exits) - 1 for t in config.thresholds):
            raise ValueError(
                f"thresholds={config.thresholds}: one for each but the last of {config.exits}"
            )
        if 0 not in config.temperatures:
            raise ValueError(
                f"temperatures={config.temperatures}: include 0, where texts can be compared"
            )
        field = open_field("stdlib", config.prompts, config.max_tokens)
        if config.trunk is not None:
            field = replace(field, target=load_checkpoint(Path(config.trunk), dtype="float32"))
        return cls(config, field)

    def windows(self, split) -> WindowBatches:
        c, codec = self.config, load("stdlib").tokenizer
        tokens = StandardLibrary().tokens(codec, split)
        return WindowBatches(tokens, codec, c.rows, c.width, c.seed + (split != "train"))

    def tuned(self, layers: int, exits: tuple[int, ...]) -> Transformer:
        """The first layers, fine-tuned so that `exits` of them are models."""
        c = self.config
        rate = optax.warmup_cosine_decay_schedule(0, c.rate, c.steps // 25 + 1, c.steps)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0))
        store = None
        if c.out is not None:
            name = f"layers_{layers}_exits_{'_'.join(map(str, exits))}_steps_{c.steps}_{c.seed}"
            store = Checkpoints(Path(c.out) / "trained" / name, every=c.steps)
        start = shortened(self.field.target, layers)
        batches = as_dict(self.windows("train"))
        return fit(start, Sorted(exits), batches, optimizer, c.steps, store)

    def targets(self) -> dict[str, Transformer]:
        """Name -> model, ascending."""
        c, whole = self.config, self.field.target
        if c.models:
            return {Path(m).name: load_checkpoint(Path(m), dtype="float32") for m in c.models}
        return {
            f"{n} layers": (
                whole.configured(unroll=False) if n == whole.config.layers else self.tuned(n, (n,))
            )
            for n in c.targets
        }


def price(model: Transformer) -> tuple[float, float]:
    """Parameters of a layer that multiply, and of the output matrix."""
    output = float(model.config.hidden * model.vocab_size)
    return (model.cost.parameters - output) / model.config.layers, output
