"""Where a run is kept: checkpoints and the metrics file.

Checkpoints are written beside the training by Orbax, every process its own shards, and appear
under their step when they are whole; whatever stops a write, a full disk or a kill, the ones
before it stay. A folder belongs to one run, which `jaxdecode.train.identity` tells from others by
what it is made of, not by its place, and to one process at a time. A checkpoint is what is trained,
the optimiser's state, the step, and, where the data are a stream, every process's position in it.
Random keys are functions of the step and need no keeping.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from jaxdecode.distributed import from_all, primary
from jaxdecode.train.data import Positioned
from jaxdecode.train.identity import IDENTITY, claim
from jaxdecode.train.lock import hold

METRICS, LOCK = "metrics.jsonl", ".lock"
STATE, DATA = "default", "data"  # items of a checkpoint


class Checkpoints(NamedTuple):
    """Where and how often to save.

    Attributes:
      folder: one run's own folder; a run resumes from the newest step found there, and no
        other run does.
      every: steps between saves; the last step is always saved.
      accept: beginnings of the names of those parts of the run (see `jaxdecode.train.identity`)
        in which it may differ from the one that is kept, e.g. "code" after an upgrade.
    """

    folder: Path
    every: int = 500
    accept: tuple[str, ...] = ()


class Store:
    """Checkpoints and the metrics file of a run, or nothing at all."""

    def __init__(self, where: Checkpoints | None) -> None:
        self.where = where
        self.metrics: Path | None = (
            where.folder / METRICS if where is not None and primary() else None
        )
        self.manager: ocp.CheckpointManager | None = None
        self._held = ExitStack()
        if where is not None:
            if where.every < 1:
                raise ValueError(f"every={where.every}: at least one step lies between saves")
            if primary():
                self._hold(where.folder)
            options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
            self.manager = ocp.CheckpointManager(
                where.folder.absolute(), options=options, item_names=(STATE, DATA)
            )

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        with self._held:
            if self.manager is not None:
                try:
                    self.settle()
                finally:
                    self.manager.close()

    def _hold(self, folder: Path) -> None:
        """Keep other processes out of the folder until this run is over, and stay out of theirs.

        Raises:
          ValueError: another process writes there, or the folder has metrics of something else.
        """
        path = folder / METRICS
        if path.exists() and not (folder / IDENTITY).exists() and kept(folder) == 0:
            raise ValueError(
                f"checkpoints.folder={folder} has a {METRICS} and is no run's folder; it stays as "
                "it is, name another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            other = hold(stack.enter_context((folder / LOCK).open("a")).fileno())
            if other is not None:
                raise ValueError(
                    f"checkpoints.folder={folder} is being written by {other}; wait for it, end "
                    "it, or name another folder"
                )
            self._held = stack.pop_all()

    def claim(self, identity: Callable[[], Mapping[str, str]]) -> None:
        """Refuse a folder that another run has begun in; take a new one.

        Raises:
          ValueError: naming what differs.
        """
        if self.manager is not None and self.where is not None:
            begun = self.manager.latest_step() is not None
            claim(self.where.folder, identity(), begun, tuple(self.where.accept))

    def restore(
        self, state: dict[str, Any], steps: int, data: Any = None
    ) -> tuple[int, dict[str, Any]]:
        """The newest saved step and its state, or step 0 and the state given.

        Data that are `Positioned` are moved to where they were.
        """
        if self.manager is None or self.where is None:
            return 0, state
        newest = self.manager.latest_step() or 0
        if newest > steps:
            raise ValueError(
                f"checkpoints.folder={self.where.folder} holds step {newest} of a longer run, "
                f"steps={steps} was asked for; ask for {newest} or name another folder"
            )
        self._forget(newest)
        if newest == 0:
            return 0, state
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        items: dict[str, Any] = {STATE: ocp.args.StandardRestore(abstract)}
        if isinstance(data, Positioned):
            items[DATA] = ocp.args.JsonRestore()
        saved = self.manager.restore(newest, args=ocp.args.Composite(**items))
        if isinstance(data, Positioned):
            positions = saved[DATA]["positions"]
            if len(positions) != jax.process_count():
                raise ValueError(
                    f"checkpoints.folder={self.where.folder} holds the positions of "
                    f"{len(positions)} processes in their data and there are "
                    f"{jax.process_count()}; resume with as many as there were"
                )
            data.restore(positions[jax.process_index()])
        return newest, dict(saved[STATE])

    def due(self, step: int, last: bool) -> bool:
        return self.where is not None and (last or step % self.where.every == 0)

    def save(self, step: int, state: dict[str, Any], data: Any = None) -> None:
        """Begin to write; the arrays may be replaced at once, a failure is told later."""
        if self.manager is None:
            return
        items: dict[str, Any] = {STATE: ocp.args.StandardSave(state)}
        if isinstance(data, Positioned):
            items[DATA] = ocp.args.JsonSave({"positions": from_all(data.position())})
        with self._writing():
            self.manager.save(step, args=ocp.args.Composite(**items), force=True)

    def settle(self) -> str:
        """Wait for what is being written, and say where the run can be taken up again."""
        if self.manager is not None:
            with self._writing():
                self.manager.wait_until_finished()
        return self._newest()

    def _newest(self) -> str:
        steps = ocp.utils.checkpoint_steps(self.where.folder) if self.where is not None else ()
        return f"the checkpoint of step {max(steps)} is kept" if steps else "nothing is saved"

    def log(self, step: int, means: Mapping[str, float]) -> None:
        """Append a line to the metrics beside the checkpoints."""
        if self.metrics is not None:
            with self._writing(), self.metrics.open("a") as file:
                file.write(json.dumps({"step": step, **means}) + "\n")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say of a write that failed, here or in the background, what became of the run."""
        assert self.where is not None
        try:
            yield
        except (OSError, ValueError) as error:
            # What the storage layer cannot write it reports as either.
            raise OSError(
                f"{self.where.folder} could not be written to: {error}; {self._newest()}; "
                "make room and run again to go on from there"
            ) from error

    def _forget(self, newest: int) -> None:
        """Drop the metrics of steps that are about to be run again, and a line cut short."""
        if self.metrics is None or not self.metrics.is_file():
            return
        lines = self.metrics.read_text().splitlines(keepends=True)
        kept = [
            line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= newest
        ]
        draft = self.metrics.with_name(f"{METRICS}.tmp")
        draft.write_text("".join(kept))
        draft.replace(self.metrics)


def kept(folder: Path) -> int:
    """The newest step that is saved in a run's folder; 0 where there is none."""
    return max(ocp.utils.checkpoint_steps(folder), default=0) if folder.is_dir() else 0
