"""The options of `generate`, and how a command line shows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

from experiments.commands.decoding.rules import Form, Rules, helps
from experiments.commands.decoding.uses import DRAFTS, GROUPS, Name


@dataclass(frozen=True)
class Options:
    """Generate text from any model by any decoder."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|PATH")]
    """A zoo name, the folder of a published checkpoint, or a .gguf file."""
    decoder: Annotated[tuple[Name, ...], tyro.conf.UseAppendAction] = ()
    """How responses are found ("sample" if not given); several are raced."""
    prompts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...")] = ()
    """Prompts as they are."""
    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Prompts from a file: one a line (.txt), or JSON lines (.jsonl)."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """JSON lines; without it, text on the terminal."""
    rules: Rules = field(default_factory=Rules)
    listed: Annotated[int, tyro.conf.arg(name="return", metavar="N")] = 1
    """How many responses to give: so many draws for sample, elsewhere the best first, where a
    method has several."""
    stop: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...")] = ()
    """Texts that end a response, and are cut off."""
    chat: tyro.conf.FlagCreatePairsOff[bool] = False
    """Put plain prompts into the model's chat template, as the user's words. Messages whose last
    one is the assistant's are gone on with."""
    enable_thinking: tyro.conf.FlagCreatePairsOff[bool] = False
    """Have the chat template ask for thoughts before the answer, where it can."""
    no_enable_thinking: tyro.conf.FlagCreatePairsOff[bool] = False
    """Have the chat template ask for no thoughts, where it can."""
    split_special_tokens: tyro.conf.FlagCreatePairsOff[bool] = False
    """Take names of special tokens in prompts and messages as text, and not as the tokens."""
    seed: int = 0
    """Of every random draw."""
    batch: int = 8
    """Prompts decoded together."""
    form: Form = "auto"
    """The model's layers: scanned compiles at once, written (out) runs up to twice as fast."""
    mesh: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="DATA MODEL")] = None
    """Spread over this process's devices: DATA groups share the prompts of a batch, MODEL devices
    the weights."""
    stream: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one response as it is being written."""
    distributed: tyro.conf.FlagCreatePairsOff[bool] = False
    """Share the prompts with the other processes of this job (JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID, or what a cluster says of itself)."""

    @property
    def reading(self) -> dict[str, bool]:
        """How prompts become tokens, where it is not as the model's folder says.

        Raises:
          ValueError: for two that exclude each other.
        """
        if self.enable_thinking and self.no_enable_thinking:
            raise ValueError("--enable-thinking and --no-enable-thinking: choose one")
        thinking = self.enable_thinking or self.no_enable_thinking
        return ({"enable_thinking": self.enable_thinking} if thinking else {}) | (
            {"split_special": True} if self.split_special_tokens else {}
        )


def shown(
    options: type = Options, name: str = "generate", told: Mapping[str, str] | None = None
) -> type[Any]:
    """The options as a command line shows them: those of decoding in groups.

    Args:
      options: a class with a field `rules`.
      told: what options of decoding are, where it is not what `Rules` says.
    """
    hints, said = get_type_hints(Rules, include_extras=True), helps() | dict(told or {})
    said["draft"] += f" Ways: {', '.join(DRAFTS)}."
    defaults = {entry.name: entry.default for entry in dataclasses.fields(Rules)}
    own = get_type_hints(options, include_extras=True)
    fields: list[tuple[str, Any, Any]] = []
    for entry in dataclasses.fields(options):
        if entry.name != "rules":
            kept = {} if entry.default is dataclasses.MISSING else {"default": entry.default}
            about = Annotated[own[entry.name], tyro.conf.arg(help=helps(options)[entry.name])]
            fields.append((entry.name, about, field(**kept)))
    for group, names in GROUPS.items():
        members = [
            (name, Annotated[hints[name], tyro.conf.arg(help=said[name])], defaults[name])
            for name in names
        ]
        made = dataclasses.make_dataclass(group, members, frozen=True)
        fields.append((group, tyro.conf.OmitArgPrefixes[made], field(default_factory=made)))
    return dataclasses.make_dataclass(name, fields, frozen=True)


Given = TypeVar("Given")


def parsed_as(
    options: type[Given],
    name: str,
    arguments: list[str] | None,
    about: str,
    told: Mapping[str, str] | None = None,
) -> Given:
    """The options of a command line; `about` is what its help opens with."""
    prog = f"python -m experiments {name}"
    found = tyro.cli(shown(options, name, told), prog=prog, description=about, args=arguments)
    given = vars(found)
    rules = {name: value for group in GROUPS for name, value in vars(given.pop(group)).items()}
    make: Any = options
    return make(**given, rules=Rules(**rules))


def parsed(arguments: list[str] | None, about: str) -> Options:
    """The options of `generate`."""
    return parsed_as(Options, "generate", arguments, about)
