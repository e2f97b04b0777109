"""A scorer: the response with the most different tokens wins best-of-N."""

import jax
import jax.numpy as jnp

from algorithms.selection.best_of_n import BestOfN
from jaxdecode import struct
from jaxdecode.decoder import decode
from jaxdecode.scoring import Spent


@struct.dataclass
class Variety:
    """How many different tokens a response has. `vocab` shapes the table of those seen."""

    vocab: int = struct.field(pytree_node=False)

    def init(self, prompt, samples):
        """What R rows need to be scored, leaves lead with R; and what reading prompts cost."""
        rows = prompt.batch * samples
        return (), Spent.nothing(rows)

    def score(self, state, prompt, rows, window):
        index = jnp.arange(rows.tokens.shape[1])
        place = jnp.where(index < rows.length[:, None], rows.tokens, self.vocab)
        table = jnp.zeros((rows.tokens.shape[0], self.vocab), bool)
        seen = jax.vmap(lambda row, at: row.at[at].set(True, mode="drop"))(table, place)
        return jnp.sum(seen, axis=1).astype(jnp.float32), state, Spent.nothing(seen.shape[0])


def run(generator, prompt, samples=8):
    scorer = Variety(generator.model.vocab_size)
    return decode(BestOfN(generator, scorer, samples), key=0, prompt=prompt)
