"""Rejection sampling on chains and trees, each rejection leaving its residual.

One child a node is speculative sampling (Leviathan et al. 2023, arXiv:2211.17192; Chen et al.
2023, arXiv:2302.01318). Several children drawn independently are the multi-round rule of
SpecInfer (Miao et al. 2024, arXiv:2305.09781); drawn without replacement, that of recursive
rejection sampling (Jeon et al. 2024, arXiv:2402.14160; Chen et al. 2024, arXiv:2402.12374).
The target's law is preserved for any law of the drafts, if they were drawn from it.
"""

from __future__ import annotations

from jaxdecode import struct, verify
from jaxdecode.draft import Draft, Verdict
from jaxdecode.drafter import Drafter
from jaxdecode.judge import Judge
from jaxdecode.types import Array, Key


def need_laws(verifier: object, drafter: Drafter) -> None:
    """Refuse a drafter that chooses its tokens instead of drawing them."""
    if not drafter.drawn:
        name, own = type(verifier).__name__, type(drafter).__name__
        raise ValueError(
            f"verifier: {name} needs the law that each draft was drawn from, and {own} does not "
            "draw; pair it with Match, which is exact for any draft"
        )


@struct.dataclass
class Residual:
    """Tries the children of a node in the order they were drawn.

    Attributes:
      replacement: static; siblings are independent draws, and not draws without replacement.
        Without siblings it makes no difference.
    """

    replacement: bool = struct.field(pytree_node=False, default=False)

    def pair(self, drafter: Drafter) -> None:
        need_laws(self, drafter)
        own = getattr(drafter, "replacement", self.replacement)
        if own != self.replacement:
            raise ValueError(
                f"verifier: replacement={self.replacement}, but the drafter draws siblings "
                f"{'with' if own else 'without'} replacement; make them agree"
            )

    def __call__(self, keys: Key[Array, "B"], judge: Judge, draft: Draft, depth: int) -> Verdict:
        draft = draft.merged() if self.replacement else draft
        return verify.recurse(keys, judge, draft, depth, self.replacement)
