"""One race: all methods on one field at one batch size, taking turns prompt by prompt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from experiments.bench import peers
from experiments.bench.spec_bench.speculators import PLAIN, Method
from experiments.harness.environment import usable_cpus
from experiments.harness.measuring import timing
from experiments.speculative.speculation import Field, counts, pass_seconds
from jaxdecode.decoder import decode
from jaxdecode.drafter import Policy
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result

Call = tuple[str, int]  # a method, and which of the field's batches


@dataclass(frozen=True)
class Race:
    """What takes turns.

    Attributes:
      name: of the field, as it is shown.
      field, batch: prompts and models; rows decoded together.
      methods: by name.
      seed: of all draws.
      policies: of careful methods, learned from other prompts; from the field's own where there
        is none.
      modelled: whether passes are timed by their width.
    """

    name: str
    field: Field
    batch: int
    methods: Mapping[str, Method]
    seed: int
    policies: Mapping[str, Policy | None]
    modelled: bool

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Methods that cannot be had on this field, each with the reason."""
        told = {name: method.missing(self.field) for name, method in self.methods.items()}
        return {name: why for name, why in told.items() if why is not None}

    @cached_property
    def chosen(self) -> dict[str, Method]:
        return {name: m for name, m in self.methods.items() if name not in self.left_out}

    @cached_property
    def prompts(self) -> list[Prompt]:
        return self.field.batches(self.batch)

    def calls(self, repeats: int) -> int:
        """How many batches are decoded in all, if nothing is cut short."""
        return (1 + len(self.chosen) + len(self.peers)) * (1 + len(self.prompts) * repeats)

    @property
    def peers(self) -> tuple[str, ...]:
        """transformers on the same weights: plain and, for one row at a time, with drafts."""
        ragged = len({len(prompt) for prompt in self.field.prompts}) > 1
        if peers.missing() is not None or (ragged and self.batch > 1):
            return ()  # the peer is given no padding
        found = ["transformers"]
        if self.batch == 1:
            found += ["transformers, assisted"] if self.field.small is not None else []
            found += ["transformers, prompt lookup"]
        return tuple(found)

    def run(
        self, repeats: int, patience: float, told: Callable[[Call], None]
    ) -> list[dict[str, Any]]:
        """A row for every method; `told` hears of each batch that was decoded."""
        decoders: dict[str, Autoregressive] = {PLAIN: self.field.plain()}
        for name, method in self.chosen.items():
            policy = self.policies.get(name) or method.policy(self.field, self.batch)
            decoders[name] = method.decoder(self.field, policy)
        found: dict[Call, Any] = {}

        def ours(name: str, unit: int) -> Any:
            result = found[name, unit] = decode(
                decoders[name], jax.random.key(self.seed), self.prompts[unit]
            )
            return result.tokens

        units = range(len(self.prompts))
        calls = {(name, unit): partial(ours, name, unit) for name in decoders for unit in units}
        with contextlib.ExitStack() as stack:
            if self.peers:
                calls |= self._peer_calls(stack, lambda unit: found[PLAIN, unit])
            # The batches of a field are of one shape: a method compiles with its first.
            warm = [(name, unit) for name, unit in calls if unit == 0]
            taken = timing.medians(timing.interleaved(calls, repeats, patience, told, warm))
        seconds = {
            name: np.array([taken[name, unit] for unit in units])
            for name in dict.fromkeys(name for name, _ in calls)
        }
        counted = {
            name: counts(
                [found[name, unit] for unit in units],
                len(self.field.prompts),
                float(seconds[name].sum()),
            )
            for name in decoders
        }
        plain = counted[PLAIN]
        costs = self._costs()
        rows = []
        for name, mine in seconds.items():
            row = {
                "task": self.name,
                "batch": self.batch,
                "method": name,
                "kind": self.methods[name].kind if name in self.chosen else _other(name),
                "speed_up": float(seconds[PLAIN].sum() / mine.sum()),
                "tokens/s": float(plain.emitted.sum() / mine.sum()),
                "seconds": mine.round(4).tolist(),
            }
            if name in counted:
                pairs = zip(counted[name].tokens, plain.tokens, strict=True)
                row["equal_rows"] = float(np.mean([np.array_equal(a, b) for a, b in pairs]))
                row |= counted[name].row()
            if name in costs:
                width, verify, draft = costs[name]
                modelled = counted[name].speed_up(verify, draft)
                row |= {"width": width, "verify": verify, "modelled": modelled}
            rows.append(row)
        return rows

    def _costs(self) -> dict[str, tuple[int, float, float]]:
        """Of each method the width of its passes, and what they and the draft's cost by one."""
        if not self.modelled:
            return {}
        widths = {name: method.nodes(self.field) + 1 for name, method in self.chosen.items()}
        cost = pass_seconds(self.field.target, sorted({1, *widths.values()}), self.batch)
        small = self.field.small
        draft = pass_seconds(small, (1,), self.batch)[1] / cost[1] if small is not None else 0.0
        return {name: (width, cost[width] / cost[1], draft) for name, width in widths.items()}

    def _peer_calls(
        self, stack: contextlib.ExitStack, plain: Callable[[int], Result]
    ) -> dict[Call, Callable[[], Any]]:
        """The peer knows no end token: it writes as many tokens as plain decoding wrote."""
        threads = usable_cpus()
        target = stack.enter_context(peers.peer_of(self.field.target, threads))
        options: dict[str, dict[str, Any]] = {name: {} for name in self.peers}
        if "transformers, assisted" in options:
            draft = stack.enter_context(peers.peer_of(self.field.draft, threads))
            options["transformers, assisted"] = {"assistant": draft}
        if "transformers, prompt lookup" in options:
            options["transformers, prompt lookup"] = {"lookup": 4}
        texts = [np.asarray(prompt) for prompt in self.field.prompts]
        groups = [texts[i : i + self.batch] for i in range(0, len(texts), self.batch)]

        def theirs(name: str, unit: int) -> Any:
            new = int(plain(unit).length.max())
            return target.greedy(np.stack(groups[unit]), new, **options[name])

        return {
            (name, unit): partial(theirs, name, unit)
            for name in self.peers
            for unit in range(len(groups))
        }


def _other(name: str) -> str:
    return "" if name == PLAIN else "peer"
