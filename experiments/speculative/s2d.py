"""S2D: one draft of sorted sub-models for targets of several sizes.

Claim (Kavehzadeh et al. 2024, arXiv 2407.01955): the best depth of a draft depends on its target,
and one draft model whose sub-models are trained together, left by each token at the first
confident one, serves all: 1.55x over three targets, against 1.22x and 1.11x for plainly
fine-tuned drafts read early.

    python -m experiments s2d --preset cpu

Targets of one vocabulary: the zoo's model of the standard library's source, and its first layers
briefly fine-tuned to be models of their own. The draft is three layers of it, fine-tuned in equal
steps sorted (all of its prefixes at once) and plainly (the whole). What is trained is kept in the
run's folder. Held-out prompts, K by the heuristic schedule, greedy and at temperature 1.

Speed-ups are modelled: a pass costs the parameters that it reads, whatever it verifies; a draft
token costs the layers that were run for it, catching up included, and an output matrix for
each sub-model that was asked. About 4 minutes on two cores, half of it training.

To expect: sorting makes shallow sub-models that early exits of plain fine-tuning are not, texts
equal to the targets', and no gain from choosing depths. The published drafts have 12 layers of
targets of 32, 40 and 80; here a whole draft has 3 of 4 to 8, so that one layer is the best fixed
depth for all, and source code is so hard to foresee for it that at the published thresholds
nearly nine of ten tokens go to the bottom, past output matrices that are dear at this size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from algorithms.speculative.s2d import s2d
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from experiments.speculative.speculation import Field, open_field
from experiments.speculative.trees import law
from experiments.tasks.batches import WindowBatches
from experiments.tasks.stdlib import StandardLibrary
from experiments.zoo import load
from experiments.zoo.recipe import as_dict, held_out
from jaxdecode import autoregress
from jaxdecode.decoder import decode
from jaxdecode.prompt import Prompt
from jaxdecode.speculate import Speculator
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


PRESETS = {
    "smoke": Config(
        prompts=4,
        max_tokens=12,
        batch=4,
        targets=(8,),
        exits=(1, 2),
        thresholds=((0.5,),),
        temperatures=(0.0,),
        length=4,
        steps=3,
        width=32,
    ),
    "cpu": Config(),
    # The published setting, Spec-Bench aside. Give the folders:
    #   --config.trunk VICUNA_7B --config.models VICUNA_7B VICUNA_13B LLAMA2_CHAT_70B
    "paper": Config(
        prompts=80,
        max_tokens=1024,
        batch=1,
        exits=(6, 9, 12),
        length=16,
        steps=3000,
        rows=128,
        width=2048,
        rate=2e-5,
        trunk="",
        models=("", "", ""),
    ),
}


def shortened(model: Transformer, layers: int) -> Transformer:
    """A model of the first layers, with the embeddings, last norm and output matrix of all."""
    c = model.config
    if not 1 <= layers <= c.layers:
        raise ValueError(f"layers={layers}: the model has {c.layers}")
    config = replace(c, layers=layers, sliding=c.sliding[:layers], unroll=False)
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


@jax.jit
def generated(spec: Speculator, key, prompt: Prompt):
    """The account of decoding, and what the drafter remembers of it."""
    rows = autoregress.generate(spec, key, prompt)
    return rows.usage, rows.speculation[0], rows.tokens


def plain(setting: Setting, target: Transformer) -> list[Any]:
    """The greedy text of a target, batch by batch."""
    field, c = replace(setting.field, target=target), setting.config
    return [decode(field.plain(), c.seed, prompt).tokens for prompt in field.batches(c.batch)]


def measure(
    setting: Setting,
    target: Transformer,
    draft: Transformer,
    thresholds: tuple[float, ...],
    temperature: float,
    texts: list[Any],
) -> dict[str, Any]:
    """Decode the prompts, and price what was run. A sub-model of a fixed depth asks no other.

    `texts` is the target's own greedy text.
    """
    c, total, same = setting.config, {}, []
    field = replace(setting.field, target=target)
    spec = s2d(field.generator(*law(temperature)), draft, c.exits, thresholds, c.length)

    for prompt, text in zip(field.batches(c.batch), texts, strict=True):
        usage, state, tokens = generated(spec, jax.random.key(c.seed), prompt)
        same.append(np.all(np.asarray(tokens == text), axis=1))
        now = {
            "emitted": usage.emitted.sum(),
            "passes": usage.histogram.sum(),
            "runs": state.levels.runs.sum(0),
            "exits": state.exits.sum(0),
        }
        total = {k: total.get(k, 0) + np.asarray(v, np.float64) for k, v in now.items()}
    layers = np.diff([0, *c.exits])
    layer, output = price(draft)
    own_layer, own_output = price(target)
    one = target.config.layers * own_layer + own_output
    fixed = len(set(thresholds)) <= 2 and set(thresholds) <= {0.0, 1.0}
    asked = total["exits"].sum() if fixed else total["exits"] @ (1 + np.arange(len(c.exits)))
    drafting = (total["runs"] @ layers) * layer + asked * output
    depth = total["exits"] @ np.array(c.exits) / total["exits"].sum()
    return {
        "accepted per call": float(total["emitted"] / total["passes"]),
        "mean depth": float(depth),
        "exits": (total["exits"] / total["exits"].sum()).tolist(),
        "speed-up": float(total["emitted"] * one / (total["passes"] * one + drafting)),
    } | ({} if temperature else {"same text": float(np.mean(np.concatenate(same)))})


def ways(config: Config) -> dict[str, tuple[str, tuple[float, ...]]]:
    """Name -> which draft and thresholds. A threshold of 1 is never passed, of 0 always."""
    last = len(config.exits) - 1
    found = {}
    for kind in ("SoFT", "SFT"):
        for place, exit in enumerate(config.exits):
            bars = (1.0,) * place + (0.0,) * (last - place + 1)
            found[f"{kind}, {exit} layers"] = (kind, bars)
    for bars in config.thresholds:
        found[f"S2D, {', '.join(f'{bar:g}' for bar in bars)}"] = ("SoFT", (*bars, 0.0))
    return found


def losses(setting: Setting, draft: Transformer) -> dict[str, float]:
    """Held-out loss of every sub-model."""
    score = held_out(Sorted(setting.config.exits), lambda: as_dict(setting.windows("validation")))
    return score(draft)


def run(config: Config) -> Report:
    """Two drafts, all targets, fixed depths and S2D."""
    setting, c = Setting.of(config), config
    todo = ways(c)
    count = len(c.targets if not c.models else c.models) * len(c.temperatures)
    with Resumption(config) as finished, Progress("s2d", count * len(todo) + 2) as progress:
        depth = c.exits[-1]
        drafts = {"SoFT": setting.tuned(depth, c.exits)}
        progress.advance(note="sorted fine-tuning")
        drafts["SFT"] = setting.tuned(depth, (depth,))
        progress.advance(note="fine-tuning")
        held = {
            kind: finished.row(f"loss of {kind}", partial(losses, setting, draft))
            for kind, draft in drafts.items()
        }
        rows = [{"way": f"held-out loss, {kind}"} | held[kind] for kind in held]
        targets = setting.targets()
        for name, target in targets.items():
            texts = plain(setting, target)
            for temperature in c.temperatures:
                for way, (kind, bars) in todo.items():
                    key = f"{name}, T = {temperature:g}, {way}"
                    work = partial(measure, setting, target, drafts[kind], bars, temperature, texts)
                    found = finished.row(key, work)
                    head = {"way": way, "target": name, "T": temperature}
                    rows.append(head | found)
                    progress.advance(note=key)
    draw(config, rows)
    return Report(claims(config, rows, held), rows, seconds=finished.seconds)


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Way -> speed-up, over targets and temperatures."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if "speed-up" in row:
            found.setdefault(row["way"], []).append(row["speed-up"])
    return {way: float(np.mean(values)) for way, values in found.items()}


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Speed-ups by target, and where S2D's tokens leave."""
    path = None if config.out is None else Path(config.out) / "figure.png"
    rows = [row for row in rows if "speed-up" in row and row["T"] == config.temperatures[0]]
    ways, targets = (list(dict.fromkeys(row[k] for row in rows)) for k in ("way", "target"))
    with figure(path, columns=2, width=5.2, height=3.6) as (left, right):
        width = 0.8 / len(ways)
        for place, way in enumerate(ways):
            values = [row["speed-up"] for row in rows if row["way"] == way]
            hatch = "//" if way.startswith("SFT") else ".." if way.startswith("S2D") else ""
            at = np.arange(len(targets)) + width * (place - (len(ways) - 1) / 2)
            left.bar(at, values, width, label=way, hatch=hatch, edgecolor="white")
        left.set_xticks(range(len(targets)), targets)
        left.set(ylabel="modelled speed-up", xlabel="target")
        left.legend(ncols=3, fontsize="x-small", loc="upper center")
        left.set_ylim(0, 1.35 * max(row["speed-up"] for row in rows))  # room for the legend
        left.axhline(1.0, color="0.4", lw=0.8, marker="")
        own = [r for r in rows if r["way"].startswith("S2D") and r["target"] == targets[-1]]
        bottom = np.zeros(len(own))
        for place, exit in enumerate(config.exits):
            share = np.array([row["exits"][place] for row in own])
            right.bar([r["way"][5:] for r in own], share, bottom=bottom, label=f"{exit} layers")
            bottom += share
        right.set(ylabel="draft tokens that leave there", xlabel="thresholds of S2D")
        right.set_ylim(0, 1.2)
        right.legend(ncols=len(config.exits), loc="upper center")


def claims(config: Config, rows, held) -> list[Claim]:
    """The paper's, by rules fixed before measuring."""
    c, average = config, means(rows)
    fixed = {way: v for way, v in average.items() if way.startswith("SoFT")}
    plain = {way: v for way, v in average.items() if way.startswith("SFT")}
    nested = {way: v for way, v in average.items() if way.startswith("S2D")}
    best = {}
    for row in rows:
        if "speed-up" in row and row["way"].startswith("SoFT") and row["T"] == c.temperatures[0]:
            top = best.get(row["target"])
            best[row["target"]] = row if top is None or row["speed-up"] > top["speed-up"] else top
    shallow = [f"loss_{n}" for n in c.exits[:-1]]
    deep = f"loss_{c.exits[-1]}"
    gap = held["SoFT"][deep] - held["SFT"][deep]
    mine = next(iter(nested))
    same = [row["same text"] for row in rows if "same text" in row]
    found = [
        Claim(
            "sorted fine-tuning makes shallow sub-models that plain fine-tuning does not, at "
            "little cost to the whole",
            "accepted tokens 1.51 and 1.99 early, 2.86 sorted (7B)",
            "; ".join(
                f"{n[5:]} layers {held['SoFT'][n]:.2f} against {held['SFT'][n]:.2f} nats"
                for n in (*shallow, deep)
            ),
            all(held["SoFT"][n] < held["SFT"][n] - 0.2 for n in shallow) and gap < 0.1,
        ),
        Claim(
            f"S2D ({mine[5:]}) is faster on average than any plainly fine-tuned draft",
            "1.55x against 1.22x and 1.11x",
            f"{nested[mine]:.2f}x against "
            + ", ".join(f"{v:.2f}x ({way[5:]})" for way, v in plain.items()),
            nested[mine] > max(plain.values()),
        ),
        Claim(
            "and at least as fast as any fixed sub-model, on average over targets",
            "at or near the best fixed depth for each",
            f"{nested[mine]:.2f}x against "
            + ", ".join(f"{v:.2f}x ({way[6:]})" for way, v in fixed.items()),
            nested[mine] >= max(fixed.values()),
        ),
        Claim(
            "greedy text is the target's",
            "lossless",
            f"{100 * min(same):.0f} % of texts are equal",
            min(same) == 1.0,
        ),
    ]
    if len(best) > 1:
        depths = {name: row["way"][6:] for name, row in best.items()}
        found.append(
            Claim(
                "the best fixed depth is another for another target",
                "6, 6 or 9, 12 of 12 layers for 7B, 13B, 70B",
                ", ".join(f"{depth} for {name}" for name, depth in depths.items()),
                len(set(depths.values())) > 1,
            )
        )
    if len(nested) > 1 and len(best) > 1:
        low, high = mine, list(nested)[-1]
        change = {}
        for name in best:
            pick = {r["way"]: r["speed-up"] for r in rows if r.get("target") == name}
            change[name] = pick[high] / pick[low]
        values = list(change.values())
        found.append(
            Claim(
                "the larger the target, the less high thresholds cost",
                "-10 %, -4 %, +1 % for 7B, 13B, 70B",
                ", ".join(f"{100 * (v - 1):+.1f} % for {name}" for name, v in change.items()),
                values[-1] > values[0],
            )
        )
    return found
