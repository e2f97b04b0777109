"""Array aliases and the letters used in every shape.

B  rows of a batch            K  hypotheses of a row        R  flattened rows, B*K
N  draft nodes                T  tokens of one model call   S  cache slots
P  prompt tokens              L  output tokens              V  vocabulary
D  hidden width               A  attention layers
Kv key/value heads            hd width of one head

Np1 is N + 1 (a draft's root and its nodes), Pm1 is P - 1 and so on, where nothing before it in
the signature has N or P. The tests check every annotation, of arguments, results and fields.
"""

from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Key, UInt

if TYPE_CHECKING:
    from jaxtyping import Array
else:  # as it is checked: what was read back from a device is NumPy's
    Array = jax.Array | np.ndarray

__all__ = ["Array", "Bool", "Float", "Int", "Key", "UInt"]
