"""Edits of next-token logits, and how they chain.

Semantics are those of the common implementations (generation in Hugging Face transformers,
vLLM) with one stated difference: a threshold never splits a tie, so that tokens whose scores
are equal are kept or dropped together and no vocabulary is ever sorted.
"""

from jaxdecode.logits.citation import NoCitation
from jaxdecode.logits.constraints import Allow, Ban, ForcedTokens, MinimumLength, NoRepeatNgram
from jaxdecode.logits.dry import Dry
from jaxdecode.logits.filters import Epsilon, Eta, MinP, Temperature, TopK, TopP, Typical
from jaxdecode.logits.penalties import FrequencyPenalty, PresencePenalty, RepetitionPenalty
from jaxdecode.logits.shaping import (
    DynamicTemperature,
    ExcludeTop,
    QuadraticSmoothing,
    TopNSigma,
)
from jaxdecode.logits.spelling import BanSequences, OneOf
from jaxdecode.logits.threshold import mass_threshold, ordered, rank_threshold
from jaxdecode.logits.transform import (
    Chain,
    Hearing,
    Identity,
    LogitsTransform,
    chain,
    deaf,
    hears,
    noted,
)

__all__ = [
    "Allow",
    "Ban",
    "BanSequences",
    "Chain",
    "Dry",
    "DynamicTemperature",
    "Epsilon",
    "Eta",
    "ExcludeTop",
    "ForcedTokens",
    "FrequencyPenalty",
    "Hearing",
    "Identity",
    "LogitsTransform",
    "MinP",
    "MinimumLength",
    "NoCitation",
    "NoRepeatNgram",
    "OneOf",
    "PresencePenalty",
    "QuadraticSmoothing",
    "RepetitionPenalty",
    "Temperature",
    "TopK",
    "TopNSigma",
    "TopP",
    "Typical",
    "chain",
    "deaf",
    "hears",
    "mass_threshold",
    "noted",
    "ordered",
    "rank_threshold",
]
