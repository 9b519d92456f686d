"""The base of every rule, and what a rule yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adalora_core.contract.fields.block import Block
    from adalora_core.contract.findings import Severity
    from adalora_core.contract.text.changes import Remedy
    from adalora_core.contract.text.places import Path

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
"""A configuration without findings; the rules' examples differ from it in what they show."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule saw, before it has a position.

    Args:
        rule: the rule that speaks.
        path: where, from the document's top.
        message: what is wrong, with the values concerned.
        at: whether the key or the value is meant.
        severity: if not the rule's own.
        hint: if not the rule's own.
        related: other places with a word on each.
        remedy: what would take the finding away.
    """

    rule: Rule
    path: Path
    message: str
    at: Literal["key", "value"] = "value"
    severity: Severity | None = None
    hint: str | None = None
    related: tuple[tuple[Path, str], ...] = ()
    remedy: Remedy | None = None


class Rule:
    """One fault a configuration can have. Subclasses fill the attributes and `check`.

    The documentation page, `adalora rule CODE`, the SARIF rule entry and two tests (`bad` yields
    exactly this code, `good` yields nothing) all come from the attributes.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity]
    summary: ClassVar[str]
    why: ClassVar[str]
    bad: ClassVar[Example]
    good: ClassVar[Example] = SOUND
    hint: ClassVar[str]
    since: ClassVar[str] = "0.1.0"
    language: ClassVar[Literal["json", "yaml", "toml", "python"]] = "json"
    """What the examples are written in, where they are text."""
    example_options: ClassVar[dict[str, Any]] = {}
    """Options of `check_config` under which `bad` shows the fault."""
    inputs: ClassVar[tuple[str, ...]] = ()
    """Fields that the rule reads; it is skipped if one of them has a wrong type or range."""
    only_if_set: ClassVar[tuple[str, ...] | None] = None
    """Fields of which one must differ from its default for the rule to have anything to say; None:
    those of `inputs`; empty: it may always have."""
    needs: ClassVar[
        Literal["nothing", "faults", "ambiguous-scalars", "source", "command", "run"]
    ] = "nothing"
    """What a block must have for the rule to have anything to say; `source`, `command`, `run`: it
    never has, the reader of the text, the command or a training run raises its findings."""
    asked_for_by: ClassVar[Literal["policy", "peft_version"] | None] = None
    """The option without which the rule is never looked for."""
    can_be_ignored: ClassVar[bool] = True
    """Whether options and comments may silence the rule; not where nothing was checked."""
    safe_fix: ClassVar[str | None] = None
    """What `--fix` writes, and when; None: nothing."""
    unsafe_fix: ClassVar[str | None] = None
    """What `--fix --unsafe-fixes` writes besides, and when; None: nothing."""
    warns_at_construction: ClassVar[bool] = False
    """Whether `AdaLoraConfig(...)` itself warns: only of settings that have no effect."""

    def check(self, block: Block) -> Iterable[Finding]:
        """Yield what is wrong with the block; input rules are raised by their source instead."""
        del block
        return ()
