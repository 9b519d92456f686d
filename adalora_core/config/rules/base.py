"""Define the base class of all rules and the finding that a rule yields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from adalora_core.config.fields.block import Block
from adalora_core.config.fields.table import LORA, PEFT_TYPE, Method
from adalora_core.config.findings import Remedy, Severity
from adalora_core.floor.places import Extent, Path

Example = dict[str, Any] | str
"""A whole configuration as a mapping (shown as JSON), or the text of a file."""

SOUND: dict[str, Any] = {
    "peft_type": "ADALORA",
    "target_modules": ["q_proj", "v_proj"],
    "init_r": 12,
    "target_r": 8,
    "lora_alpha": 16,
    "tinit": 200,
    "tfinal": 200,
    "deltaT": 10,
    "total_step": 1000,
}
"""A configuration without findings; the example of a rule changes only what it shows."""

SOUND_LORA: dict[str, Any] = {
    "peft_type": "LORA",
    "target_modules": ["q_proj", "v_proj"],
    "r": 16,
    "lora_alpha": 32,
}
"""A configuration of LoRA without findings."""

SOUND_TEXT = (
    '{"peft_type": "ADALORA", "target_modules": ["q_proj"], "init_r": 12, "target_r": 8,\n'
    ' "tfinal": 200, "total_step": 1000}\n'
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that a rule found, before its position in the text is known.

    Args:
        rule: the rule that found it.
        path: the path of the fault, from the document's top.
        message: the subject, the problem and the values.
        at: whether the key or the value is marked.
        severity: the severity, where it differs from the rule's.
        hint: the hint, where it differs from the rule's.
        related: other places, each with a note.
        remedy: the change that corrects the fault.
        target: the target that names no known module; reports do not print it.
        extent: the place in the text, where no path names it.
        notes: other places in the text, each with a note.
        cause: the finding from which this one follows.
    """

    rule: type[Rule]
    path: Path
    message: str
    at: Literal["key", "value"] = "value"
    severity: Severity | None = None
    hint: str | None = None
    related: tuple[tuple[Path, str], ...] = ()
    remedy: Remedy | None = None
    target: str | None = None
    extent: Extent | None = None
    notes: tuple[tuple[Extent, str], ...] = ()
    cause: Finding | None = None


_TEXTS = frozenset({"summary", "why", "hint", "safe_fix", "unsafe_fix"})
"""Attributes of a rule that are written on several lines and read as one."""

Needs = Literal[
    "nothing", "tool", "source", "command", "run", "script", "file", "worker",
]  # fmt: skip
BOTH: tuple[Method, ...] = (PEFT_TYPE, LORA)
Findings = Iterator[Finding]
"""The findings of a rule about a block."""


class Rule:
    """One fault a configuration can have. Subclasses fill the attributes and `check`.

    The page of the site, `adalora rule CODE`, the SARIF rule entry and two tests (`bad` yields
    exactly this code, `good` yields nothing) all come from the attributes.
    """

    code: ClassVar[str]
    """`ADA`, the digit of the family and a number in it; never used again."""
    name: ClassVar[str]
    """The fault in kebab-case: "no-budgeting-phase" is the name of `NoBudgetingPhase`, which writes
    none of its own."""
    severity: ClassVar[Severity] = "error"
    """Error: the runtime fails or gives something else. Warning: the run goes on, but a value is
    ignored or weakens the method. Info: worth knowing."""
    summary: ClassVar[str]
    """The fault as a phrase without a full stop; the table of all rules shows it."""
    why: ClassVar[str]
    """The consequence, in sentences."""
    bad: ClassVar[Example]
    """An example that shows this fault, and no other but `comes_with`."""
    good: ClassVar[Example] = SOUND
    """The corrected example, without findings."""
    hint: ClassVar[str]
    """The advice, as an order without a full stop; a finding may have its own."""
    errors: ClassVar[tuple[str, ...]] = ()
    """What PEFT, torch or transformers say where the fault stays, as they write it; `...` stands
    for what varies. `adalora explain` looks these up."""
    since: ClassVar[str] = "0.1.0"
    """The release that has the rule first; written only for a later release than 0.1.0."""
    language: ClassVar[Literal["json", "yaml", "toml", "python"]] = "json"
    """The format of the examples, where they are text."""
    example_options: ClassVar[dict[str, Any]] = {}
    """Options of `check_config` under which `bad` shows the fault."""
    comes_with: ClassVar[tuple[str, ...]] = ()
    """Codes that `bad` shows too, since the fault cannot be without them."""
    inputs: ClassVar[tuple[str, ...]] = ()
    """Fields that the rule reads; it is skipped if one of them has a wrong type or range."""
    judges_defaults: ClassVar[bool] = False
    """Whether the rule is called also where all fields of `inputs` have their defaults."""
    needs: ClassVar[Needs] = "nothing"
    """Where the findings come from, if not from the fields alone: `tool`: a known tool reads the
    file. For `source`, `command`, `worker`, `run` and `file` (tensors beside a configuration) the
    reader of the text, the command or a training run reports them. `script`: see `UsageRule`."""
    methods: ClassVar[tuple[Method, ...]] = (PEFT_TYPE,)
    """The methods whose configurations and scripts the rule judges."""
    needs_option: ClassVar[Literal["policy", "peft_version"] | None] = None
    """The option without which the rule is never checked."""
    can_be_ignored: ClassVar[bool] = True
    """Whether options and comments may suppress the rule; false where nothing could be checked."""
    safe_fix: ClassVar[str | None] = None
    """The change that `--fix` makes, and when; None: no change."""
    unsafe_fix: ClassVar[str | None] = None
    """The further change of `--fix --unsafe-fixes`, and when; None: no change."""
    warns_at_construction: ClassVar[bool] = False
    """Whether `AdaLoraConfig(...)` itself warns: only of settings that have no effect."""
    fails_at_allocation: ClassVar[bool] = False
    """Whether the fault harms allocations alone: a warning where a tool never allocates."""
    defined: ClassVar[list[type[Rule]]] = []
    """Every subclass with a code of its own; the others are bases."""

    def __init_subclass__(cls) -> None:
        """Name the rule after its class, join the lines of its texts, and list the class."""
        for name in _TEXTS & vars(cls).keys():
            setattr(cls, name, " ".join((vars(cls)[name] or "").split()) or None)
        if "code" in vars(cls):
            if "name" not in vars(cls):
                cls.name = re.sub(r"\B(?=[A-Z])", "-", cls.__name__).lower()
            Rule.defined.append(cls)

    def found(
        self,
        path: Path,
        message: str,
        at: Literal["key", "value"] = "value",
        *,
        severity: Severity | None = None,
        hint: str | None = None,
        related: tuple[tuple[Path, str], ...] = (),
        remedy: Remedy | None = None,
        target: str | None = None,
    ) -> Finding:
        """Return a finding of this rule; the arguments are those of `Finding`."""
        return Finding(type(self), path, message, at, severity, hint, related, remedy, target)

    def check(self, block: Block) -> Iterable[Finding]:
        """Yield the findings of this rule about the block."""
        del block
        return ()


class SharedRule(Rule):
    """A rule on the configurations of both methods."""

    methods = BOTH


class LoraRule(Rule):
    """A rule on the configurations of LoRA alone."""

    methods = (LORA,)
    good = SOUND_LORA


def defined_rules() -> tuple[Rule, ...]:
    """Return one of each rule that has been defined so far, in the order of the codes."""
    return tuple(rule() for rule in sorted(Rule.defined, key=lambda rule: rule.code))
