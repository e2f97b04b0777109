"""Write the stored reward fixtures: `python -m tests.models.make_reward_fixtures`.

Needs the `parity` extra. Each folder holds a checkpoint as published and the outputs of
`transformers` on it, so that the tests run without torch.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from tests.models.reward_variants import VARIANTS, build, expect, rows, store

FIXTURES = Path(__file__).parent / "reward_fixtures"


def main() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    for seed, variant in enumerate(VARIANTS):
        folder = FIXTURES / variant.name
        shutil.rmtree(folder, ignore_errors=True)
        model = build(variant, seed)
        expected = expect(variant, model, rows(variant, seed))
        store(variant, model, folder)
        np.savez_compressed(folder / "expected.npz", allow_pickle=False, **expected)
        size = sum(path.stat().st_size for path in folder.iterdir())
        scale = float(np.abs(expected["outputs"]).max())
        print(f"{variant.name:20s} {size / 1e3:6.1f} kB, outputs to {scale:.1f}")


if __name__ == "__main__":
    main()
