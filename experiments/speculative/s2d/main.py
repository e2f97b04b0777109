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

from functools import partial

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.speculative.s2d.figure import draw
from experiments.speculative.s2d.findings import claims
from experiments.speculative.s2d.measures import losses, measure, plain, ways
from experiments.speculative.s2d.setting import Config, Setting

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
    return Report.of(claims, config, rows, seconds=finished.seconds)
