"""The options of `align`, and what can be refused of them without opening anything."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from algorithms.alignment.methods import DRAWING, Method
from experiments.commands.decoding.rules import Rules
from experiments.commands.decoding.uses import JUDGED, LIKELIHOOD, SCORED, Name, is_function
from experiments.commands.decoding.uses import check as check_rules
from experiments.commands.generate.options import parsed_as

WORST = "worst-of-n"
Deployed = Literal[Name, "worst-of-n"]
SEVERAL = ("best-of-n", WORST)
SAMPLES = 4  # of these two
TOLD = {
    "max_tokens": "The most tokens of a response, in training and in use.",
    "reward": "What is aligned to, and what chooses: a reward model's folder or zoo name, or "
    "FILE.py:FUNCTION of prompt and response as texts. Learned from --preferences if not given.",
    "samples": "Responses that the decoder draws (best-of-n, worst-of-n: 4 if not given).",
}


@dataclass(frozen=True)
class Options:
    """Align a policy."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|PATH")]
    """The base: a zoo name, the folder of a published checkpoint, or a .gguf file."""
    preferences: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Pairs as JSON lines: "chosen" and "rejected", whole dialogues, or replies to "prompt"."""
    prompts: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Prompts from a file, instead of pairs: one a line (.txt), or JSON lines (.jsonl)."""
    method: Method = "ctrl"
    """How: ctrl (InfAlign, for the decoder), rloo, ppo, grpo learn from the reward; dpo, ipo, sft
    from your pairs, or from responses that the reward ranks; bonbon from the latter."""
    decoder: Deployed = "best-of-n"
    """What the policy will be deployed with; `ctrl` is trained for it, and all are judged
    under it."""
    rules: Rules = field(default_factory=Rules)
    kl: float = 0.5
    """How far from the base, in nats of whole responses; it is reached, not hoped for."""
    lora: Annotated[int, tyro.conf.arg(metavar="RANK")] = 0
    """Train adapters of this rank, and a reward's head alone; 0 trains all weights."""
    judge: Annotated[str | None, tyro.conf.arg(metavar="NAME|PATH|FILE.py:FUNCTION")] = None
    """An independent judge of before and after: as --reward. With --preferences one is learned
    from pairs that nothing else learns from, if not given."""
    chat: tyro.conf.FlagCreatePairsOff[bool] = False
    """Put plain prompts into the model's chat template, as the user's words."""
    train_steps: int = 60
    """Of the training; it goes on for up to twice as many where the KL is short of --kl."""
    rate: float | None = None
    """Learning rate (1e-3 for adapters and for up to 10 M weights, else 2e-5)."""
    batch: int = 6
    """Different prompts of a step."""
    group: int = 8
    """Responses to each; a loss on pairs takes half of batch times group."""
    base_samples: int = 32
    """Base responses to every prompt, by which rewards are calibrated and ranked."""
    most: int = 128
    """Prompts to train on, at most."""
    held_out: int = 32
    """Prompts that are kept for judging."""
    drawn: int = 16
    """Responses to each of these, before and after."""
    reward_steps: int = 150
    """Of learning a reward or a judge."""
    longest: int = 512
    """Tokens that a pair's prompt and reply may have."""
    leave_out_long: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave longer pairs out, and say how many, instead of refusing the file."""
    mesh: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="DATA MODEL")] = None
    """Spread over this process's devices: DATA groups share the prompts of a step, MODEL devices a
    copy of the weights; what is trained is split over all of them."""
    seed: int = 0
    """Of every random draw."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/align")
    """Where everything goes: policy/, index.html, result.json; a killed run goes on from there."""

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that makes the run what it is, as JSON; where it runs does not."""
        apart = ("out", "rules", "mesh")
        fields = {name: value for name, value in vars(self).items() if name not in apart}
        fields = {name: str(v) if isinstance(v, Path) else v for name, v in fields.items()}
        return fields | {"max_tokens": self.rules.max_tokens} | self.rules.given

    @property
    def name(self) -> Name:
        """The decoder that draws, be the best or the worst wanted."""
        return "best-of-n" if self.decoder == WORST else self.decoder

    @property
    def decoding(self) -> Rules:
        """The rules of the deployed decoder, its reward named where it takes one."""
        rules = self.rules
        if self.name not in (*SCORED, *JUDGED):
            rules = dataclasses.replace(rules, reward=None)
        elif rules.reward is None:
            rules = dataclasses.replace(rules, reward="learned")
        if self.decoder in SEVERAL and rules.samples is None:
            rules = dataclasses.replace(rules, samples=SAMPLES)
        return rules


def parsed(arguments: list[str] | None, about: str) -> Options:
    """The options of a command line."""
    return parsed_as(Options, "align", arguments, about, TOLD)


def check(options: Options) -> None:
    """Refuse what cannot be run, before anything is opened.

    Raises:
      ValueError: naming the option, its value and what to do.
    """
    o = options
    if (o.preferences is None) == (o.prompts is None):
        raise ValueError("give either --preferences or --prompts, a file of JSON lines")
    given = o.preferences or o.prompts
    if given is None or not given.is_file():
        raise ValueError(f"{given} is no file; give one with JSON lines")
    for name, known in (("method", get_args(Method)), ("decoder", get_args(Deployed))):
        if (value := getattr(o, name)) not in known:
            raise ValueError(f"--{name} {value}: choose one of {', '.join(known)}")
    if not 0 < o.kl < float("inf"):
        raise ValueError(f"--kl {o.kl}: the divergence to be reached is a positive number of nats")
    if o.rate is not None and not 0 < o.rate < float("inf"):
        raise ValueError(f"--rate {o.rate}: a learning rate is positive")
    least = {"train_steps": 1, "batch": 1, "group": 2, "base_samples": 2, "held_out": 2, "drawn": 2}
    least |= {"lora": 0, "most": 1, "reward_steps": 1, "longest": 2, "seed": 0}
    for name, low in least.items():
        if not low <= (value := getattr(o, name)) < 2**31:
            raise ValueError(f"--{name.replace('_', '-')} {value}: {low} or more is needed")
    if o.mesh is not None and o.method not in DRAWING:
        raise ValueError(f"--mesh: method {o.method} trains on one device; leave it out")
    if o.mesh is not None and o.batch % o.mesh[0]:
        raise ValueError(
            f"--batch {o.batch}: prompts of a step are shared by the {o.mesh[0]} groups of --mesh; "
            "give a multiple of them"
        )
    if o.rules.reward == LIKELIHOOD:
        raise ValueError("--reward likelihood: it is the base's own, and aligns to nothing")
    if o.rules.reward is None and o.prompts is not None:
        raise ValueError(
            "--reward is needed with --prompts: a reward model, or FILE.py:FUNCTION of prompt and "
            "response; or give --preferences, from which one is learned"
        )
    if o.name in JUDGED and (o.rules.reward is None or not is_function(o.rules.reward)):
        raise ValueError(f"--decoder {o.name} needs --reward FILE.py:FUNCTION")
    check_rules(o.name, o.decoding)
    several = o.decoding.samples if o.decoder in SEVERAL else None
    if several is not None and several > min(o.drawn, o.base_samples):
        raise ValueError(
            f"--samples {several}: --drawn and --base-samples must be as many at least, and are "
            f"{o.drawn} and {o.base_samples}"
        )
    if o.drawn > 1024 or o.base_samples > 4096:
        raise ValueError("--drawn is at most 1024, --base-samples 4096")
