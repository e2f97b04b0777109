"""Write the stored parity fixtures: `python -m tests.models.make_fixtures [NAME ...]`.

Needs the `parity` extra. Without names all are written. Each folder holds a checkpoint as the
library saves it and the library's logits and greedy tokens, so that the parity tests run without
torch. A seed whose greedy choices are closer than 1e-3 is passed over, for a tie would make the
test a lottery.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

from tests.models.reference import build, expect, store, tokens
from tests.models.variants import VARIANTS

FIXTURES = Path(__file__).parent / "fixtures"


def main(names: list[str]) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    for variant in VARIANTS:
        if names and variant.name not in names:
            continue
        folder = FIXTURES / variant.name
        shutil.rmtree(folder, ignore_errors=True)
        for seed in range(20):
            model = build(variant, seed)
            expected = expect(model, tokens(seed))
            if expected["margin"] > 1e-3:
                break
        store(variant, model, folder)
        np.savez_compressed(folder / "expected.npz", allow_pickle=False, **expected)
        size = sum(path.stat().st_size for path in folder.iterdir())
        scale = float(np.abs(expected["logits"]).max())
        print(f"{variant.name:20s} seed {seed} {size / 1e3:6.1f} kB, logits to {scale:.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
