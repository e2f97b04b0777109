"""Array aliases and the letters used in every shape.

B  rows of a batch            K  hypotheses of a row        R  flattened rows, B*K
N  draft nodes                T  tokens of one model call   S  cache slots
P  prompt tokens              L  output tokens              V  vocabulary
D  hidden width               A  attention layers
Kv key/value heads            hd width of one head
"""

from jaxtyping import Array, Bool, Float, Int, Key

__all__ = ["Array", "Bool", "Float", "Int", "Key"]
