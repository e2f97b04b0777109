"""The options of a command line that decodes: how tokens are drawn, drafted and chosen.

Nothing heavy is imported: help is to come at once.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

Rule = Literal["count", "quantile"]
Measure = Literal[
    "kl",
    "cross_entropy",
    "neg_entropy",
    "gini",
    "neg_distributional_perplexity",
    "avg_logprob",
    "neg_perplexity",
]
Form = Literal["auto", "scanned", "written"]
Policy = Literal["heuristic", "cost-aware"]
Cache = Literal["none", "prefix", "dual"]


@dataclass(frozen=True)
class Rules:
    """How tokens are drawn and responses chosen."""

    max_tokens: int = 128
    """The most tokens of a response; ICN: of an item, and of the list."""
    temperature: float | None = None
    """Divides the logits (1 if not given); for 0 use --decoder greedy."""
    top_k: int | None = None
    """Draw from the k most probable tokens."""
    top_p: float | None = None
    """Draw from the smallest set of tokens with this much probability."""
    min_p: float | None = None
    """Draw tokens at least this many times as probable as the best."""
    typical: float | None = None
    """Mass of the tokens whose surprise is nearest to the entropy."""
    epsilon: float | None = None
    """Least probability of a token."""
    eta: float | None = None
    """Least probability, lowered where the entropy is high."""
    top_n_sigma: float | None = None
    """Draw tokens whose logits are so many standard deviations from the best, at most."""
    dynamic_temperature: tuple[float, ...] | None = None
    """LOW HIGH [EXPONENT]: a temperature that rises with the entropy."""
    smoothing: tuple[float, ...] | None = None
    """FACTOR [CURVE]: bends the logits, quadratic smoothing."""
    xtc: tuple[float, ...] | None = None
    """PROBABILITY THRESHOLD: excludes the top choices in some of the steps."""
    mirostat: tuple[float, ...] | None = None
    """BITS [RATE]: holds the surprise of the text at so many bits a token."""
    mirostat_top_k: tuple[float, ...] | None = None
    """BITS [RATE]: the same by version 1, which cuts by rank."""
    dry: tuple[float, ...] | None = None
    """MULTIPLIER [BASE] [LENGTH]: a penalty that grows with what is repeated."""
    repetition_penalty: float | None = None
    """Divides the scores of tokens seen before; above 1 discourages."""
    presence_penalty: float | None = None
    """Subtracted from the scores of tokens written before."""
    frequency_penalty: float | None = None
    """Subtracted once for each time a token was written."""
    min_tokens: int | None = None
    """No end before this many tokens, nor any text of --stop in them."""
    no_repeat_ngram_size: int | None = None
    """No n tokens in a row twice, in prompt and response."""
    bad_words: tuple[str, ...] | None = None
    """Texts that are never written, however they are spelled, in longer words too."""
    allowed_token_ids: tuple[int, ...] | None = None
    """The only tokens that may be written; the model's end token is to be among them."""
    choices: tuple[str, ...] | None = None
    """The response is one of these texts."""
    begin_with: str | None = None
    """Text that every response begins with."""
    draft: str | None = None
    """What guesses tokens ahead: a way of drafting by name, or a smaller model, which then
    guesses in a row. It makes decoding faster and changes no distribution."""
    draft_tokens: int | None = None
    """How many it guesses at a time, for ways that guess in a row (4 if not given, 10 for
    prompt lookup)."""
    draft_model: str | None = None
    """The smaller model of a way of drafting that has one, by name, folder or .gguf file."""
    head: str | None = None
    """The trained head of a way of drafting that has one: a zoo name or a folder."""
    corpus: str | None = None
    """Text that a way of drafting looks up: a file, or a folder of .txt files."""
    policy: Policy | None = None
    """How far ahead to guess: "heuristic" by what was accepted, "cost-aware" by what guesses
    cost on this machine, which is measured first."""
    placeholder: int | None = None
    """LUD, and drafts by placeholders: id of the row beyond the vocabulary that the model learned
    to say lexical units from."""
    confidence: float | None = None
    """LUD: the least probability of a token that is said beside another (0.9 if not given, 0.5
    in a draft)."""
    span: int | None = None
    """LUD: the most tokens said at once (4 if not given)."""
    beams: int | None = None
    """Hypotheses of a search (4 if not given)."""
    length_penalty: float | None = None
    """Power of the length that scores of hypotheses are divided by (1 if not given)."""
    groups: int | None = None
    """Groups of beams that differ from each other (as many as beams if not given)."""
    strength: float | None = None
    """How strongly they differ (0.5 if not given)."""
    samples: int | None = None
    """Responses, particles, steps or rollouts that are drawn (16 if not given; 4 a step or
    token). ICN: items of the list (10 if not given)."""
    wave: int | None = None
    """Draw so many of them at a time. ICN: items found before the list is read again, a divisor
    of --samples (1 if not given)."""
    reward: str | None = None
    """What chooses: a reward model's folder or zoo name, FILE.py:FUNCTION of prompt and
    response as texts, or "likelihood", the model's own."""
    budget: int | None = None
    """Speculative rejection: cache tokens per prompt."""
    alpha: float | None = None
    """Speculative rejection: fraction dropped at each cut (0.5 if not given). Transfer Q*: how
    much of the model's own law is kept (1 if not given)."""
    rule: Rule | None = None
    """Speculative rejection: how the fraction is rounded ("count" if not given)."""
    measure: Measure | None = None
    """Self-certainty: the measure of certainty ("kl" if not given)."""
    block: int | None = None
    """Controlled decoding: tokens of a block (32 if not given). Canvases: places of a block, a
    divisor of --max-tokens (the largest up to 32 if not given)."""
    aligned: str | None = None
    """Transfer Q*: the aligned model, by name, folder or .gguf file (the model itself if not
    given)."""
    candidates: int | None = None
    """Tokens to choose from after each: 10 for transfer Q*, 3 for planning and AdaDec, 5 for
    momentum and contrastive search if not given. ICN: likeliest tokens that items may begin with
    (all if not given)."""
    penalty: float | None = None
    """Momentum and contrastive search: alpha (0.2 and 0.6 if not given)."""
    threshold: float | str | None = None
    """AdaDec: nats of entropy from which it looks ahead, or the file that `python -m experiments
    threshold` learned for this model. Canvases: what decides guesses together. Least confidence
    for fast-dllm (0.9), f of the factor rule (1), most entropy in nats (0.1), least chance by the
    filter of learn2pd (0.96)."""
    ahead: int | None = None
    """AdaDec: tokens that a candidate is continued by (5 if not given)."""
    between: str | None = None
    """ICN: what stands between two items of the list, from what closes one to what opens the
    next, whose number stands for {}; a quotation mark, a line break, the number and a quotation
    mark if not given."""
    process_reward: str | None = None
    """What scores steps: a process reward model's folder or zoo name."""
    step_end: str | None = None
    """Text that ends a step (a line break if not given)."""
    step_tokens: int | None = None
    """The most tokens of a step (32 if not given)."""
    steps: int | None = None
    """The most steps of a response (16 if not given). Canvases: passes in which all places are
    filled, as many in each block (one a place if not given)."""
    expansions: int | None = None
    """A*: the most steps that are gone on from (32 if not given)."""
    cache: Cache | None = None
    """Canvases: keys and values kept while a block is filled, of what is before it, or on both
    sides (none if not given)."""
    drafts: int | None = None
    """FreeDave: the most steps that a pass verifies (4 if not given)."""
    lessons: str | None = None
    """Learn2PD: a file of prompts, as --input takes, by which its filter is trained first."""

    @property
    def given(self) -> dict[str, Any]:
        """What was set, without `max_tokens`, which every decoder uses."""
        fields = {name: value for name, value in vars(self).items() if value is not None}
        del fields["max_tokens"]
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
        }


@cache
def helps(options: type | None = None) -> dict[str, str]:
    """What each field of a class of options is (`Rules` by default), from the lines under it."""
    (tree,) = ast.parse(inspect.getsource(options or Rules)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(said))),
            ):
                found[name] = " ".join(said.split())
    return found


def cache_growth(max_tokens: int) -> int:
    """How often the cache of a response of so many tokens grows."""
    return min(8, max(1, max_tokens // 64))
