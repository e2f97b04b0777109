"""Which meshes a job fits on, how much of it, and how fast it is there at most."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.commands.plan.chips import GIB, Chip
from experiments.commands.plan.job import Job, Step
from experiments.commands.plan.share import Split
from experiments.commands.plan.topology import Topology

MOST = 2**20  # rows of a batch that are looked for


def splits(topology: Topology, heads: int) -> list[Split]:
    """Meshes of all chips that divide a model's heads, the models in as few parts as can be first.

    A model lies within a group of chips that fast links join.
    """
    chips = topology.chips
    widest = min(chips, topology.chip.group or chips)
    parts = [m for m in range(1, widest + 1) if chips % m == 0 and heads % m == 0]
    return [Split(chips // m, m) for m in parts]


def split_of(name: str, topology: Topology, job: Job, batch: int) -> Split:
    """The mesh of a name, as `2x4`: groups of a batch x parts of a model.

    Raises:
      ValueError: it is none, or does not divide chips, heads or batch, with those that do.
    """
    data, cross, model = name.partition("x")
    if not (cross and data.isdecimal() and model.isdecimal() and int(data) and int(model)):
        raise ValueError(f"--mesh {name!r:.40}: give DATAxMODEL, as 2x4")
    wanted = Split(int(data), int(model))
    known = splits(topology, job.heads)
    fits = [split for split in known if batch % split.data == 0]
    choices = ", ".join(split.name for split in fits or known)
    if wanted.chips != topology.chips:
        reason = f"makes {wanted.chips} chips and {topology.name} has {topology.chips}"
    elif wanted not in known:
        reason = f"model={wanted.model} does not divide the {job.heads} heads"
        if job.heads % wanted.model == 0:
            reason = f"model={wanted.model} is more than the {topology.chip.group} chips of a host"
    elif batch % wanted.data:
        reason = f"data={wanted.data} does not divide --batch {batch}"
    else:
        return wanted
    raise ValueError(f"--mesh {name}: {reason}; {choices} would do")


def meshes(topology: Topology, job: Job, batch: int) -> list[Split]:
    """All meshes that divide heads and batch.

    Raises:
      ValueError: none does, with the batches that would do.
    """
    known = splits(topology, job.heads)
    found = [split for split in known if batch % split.data == 0]
    if not found:
        least = min(split.data for split in known)
        raise ValueError(
            f"--batch {batch}: no mesh of {topology.name} divides it and the {job.heads} heads "
            f"of the model; give a multiple of {least}"
        )
    return found


@dataclass(frozen=True)
class Fit:
    """A job on a mesh.

    Attributes:
      room: bytes of a chip that a program may use.
      memory: bytes that it needs, by what they are.
      step: a turn of its loop.
      seconds: of a whole batch, at least.
      largest: the largest batch that fits; 0 if none does.
      rate_largest: tokens a second there at most.
    """

    split: Split
    chip: Chip
    room: float
    memory: dict[str, float]
    step: Step
    seconds: float
    largest: int
    rate_largest: float

    @property
    def needed(self) -> float:
        """Bytes of a chip in all."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        return self.needed <= self.room

    @property
    def rate(self) -> float:
        """Tokens a second at most."""
        return self.step.rate(self.chip)

    @property
    def bound(self) -> str:
        """What the step waits for most."""
        limits = self.step.cost.limits(self.chip)
        return max(limits, key=lambda name: limits[name])


def fit(job: Job, split: Split, chip: Chip, batch: int, spare: float) -> Fit:
    """A job on a mesh; `spare` is the share of a chip's memory that is left alone."""
    room = chip.memory * (1 - spare)
    most = largest(job, split, room)
    return Fit(
        split=split,
        chip=chip,
        room=room,
        memory=job.memory(split, batch),
        step=job.step(split, batch),
        seconds=job.whole(split, batch, chip),
        largest=most,
        rate_largest=job.step(split, most).rate(chip) if most else 0.0,
    )


def largest(job: Job, split: Split, room: float) -> int:
    """The largest batch that fits on a mesh, a multiple of its `data`; memory grows with it."""

    def fits(rows: int) -> bool:
        return sum(job.memory(split, rows * split.data).values()) <= room

    if not fits(1):
        return 0
    good, bad = 1, 2
    while bad <= MOST and fits(bad):
        good, bad = bad, 2 * bad
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good * split.data


def best(found: list[Fit]) -> Fit | None:
    """The fastest of those that fit."""
    return max((one for one in found if one.fits), key=lambda one: one.rate, default=None)


def smallest(job: Job, chip: Chip, batch: int, spare: float) -> tuple[Topology, Split] | None:
    """The smallest slice of a chip that a batch fits on, and the mesh; None if there is none."""
    room = chip.memory * (1 - spare)
    for shape in chip.shapes:
        topology = Topology(chip, shape)
        for split in splits(topology, job.heads):
            if batch % split.data == 0 and sum(job.memory(split, batch).values()) <= room:
                return topology, split
    return None


def refusal(found: list[Fit], job: Job, topology: Topology, batch: int, spare: float) -> str:
    """Why a batch does not fit, by how much, and what would do."""
    near = min(found, key=lambda one: one.needed)
    missing = (near.needed - near.room) / GIB
    said = (
        f"batch={batch} does not fit on {topology.name}: {missing:.2f} GiB a chip are missing "
        f"with mesh {near.split.name}, the nearest"
    )
    most = max(one.largest for one in found)
    if most:
        said += f"; --batch {most} fits"
    would = smallest(job, topology.chip, batch, spare)
    if would is None:
        end = Topology(topology.chip, topology.chip.shapes[-1]).name
        return f"{said}; no {topology.chip.name} up to {end} would do"
    return f"{said}; {would[0].name} with mesh {would[1].name} is the smallest that would do"
