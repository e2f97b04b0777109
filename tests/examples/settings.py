"""What the examples run on: a model small enough to enumerate, and two prompts."""

from jaxdecode.autoregress import Generator
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM


def generator(max_tokens=12):
    model = EnumerableLM.random(9, vocab=5, sharpness=3.0)
    return Generator(model, Identity(), Categorical(), Stop.of(0), max_tokens)


def prompt():
    return Prompt.of([[1, 2, 3, 1, 2], [3, 4]])
