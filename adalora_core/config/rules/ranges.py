"""Family ADA1xx, second part: numbers outside their range, and what each does to the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.block import is_large
from adalora_core.config.fields.faults import FaultKind, range_phrase
from adalora_core.config.fields.readings import NOT_LOADED
from adalora_core.config.fields.table import FIELDS, Treatment
from adalora_core.config.rules.base import SOUND, Findings, Rule

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block
    from adalora_core.config.findings import Severity

BOUNDED_BY_OWN_RULE = frozenset({"total_step", "deltaT", "lora_alpha"})
"""Fields whose lower bound has a rule of its own, which explains the consequence."""


class OutOfRange(Rule):
    code = "ADA103"
    summary = "a number is outside its legal range"
    why = """PEFT checks only orth_reg_weight. A beta of 0 or 1 is an AssertionError without a
    message when the model is built, and a target_r of 0 prunes everything. Where PEFT trains all
    the same, the finding is only a warning: a negative dropout silently means no dropout, and a
    negative tinit or tfinal is computed with as it is. A saved adapter is loaded whatever the
    settings of its training are."""
    bad = SOUND | {"beta1": 1.5}
    hint = "set a number of that range, or remove the key to get the default"
    needs = "faults"

    def check(self, block: Block) -> Findings:
        for fault in block.faults(FaultKind.RANGE):
            name, value = fault.name, block.values[fault.name]
            severity: Severity | None = None if _fails(block, name) else "warning"
            path = block.at(name)
            if is_large(block, name):
                message = f"`{name}` should fit into 64 bits, got {kinds.number_text(value)}"
                yield self.found(path, message, severity=severity, hint=_hint(block, name))
                continue
            if name in BOUNDED_BY_OWN_RULE:
                continue
            message = f"`{name}` should be {range_phrase(FIELDS[name])}, got {value!r}"
            if name == "orth_reg_weight":
                # PEFT's own words, which people search for.
                message = (
                    "`orth_reg_weight` should be greater than or equal to 0, "
                    f"but the value passed is {value!r}"
                )
            yield self.found(path, message, severity=severity, hint=_hint(block, name))


def _hint(block: Block, name: str) -> str:
    """Return what to do, with a value that is right: the default, if there is one."""
    wanted = f"set {name} to a number {range_phrase(FIELDS[name])}"
    default = FIELDS[name].default
    if default is None or block.tool is not None:
        return wanted
    return f"{wanted}, or remove it: the default is {default}"


def _fails(block: Block, name: str) -> bool:
    """Return whether the runtime fails with this number, which is out of range."""
    value = block.values[name]
    if FIELDS[name].treatment is Treatment.IGNORED:
        return False
    if block.is_saved:
        if name in {"orth_reg_weight", "tinit", "tfinal"} and block.runtime != "peft":
            return False
        # torch takes a probability of 1, and an adapter in use drops nothing.
        harmless = (
            name in NOT_LOADED
            or (name == "lora_dropout" and value <= 1)
            or (name == "total_step" and value > 0)
        )
        return not harmless and not (name in {"tinit", "tfinal"} and value < 0)
    if block.runtime == "adalora-core":
        return True
    if name == "target_r":
        return block.allocates
    if name == "deltaT":
        return False
    if name == "tinit" and value < 0 and block.invalid.isdisjoint({"tfinal", "total_step"}):
        # Else the selection at the start of the final phase is due before any score exists.
        return block["total_step"] is not None and block["total_step"] <= block["tfinal"]
    return value >= 0 if name in {"tinit", "tfinal", "lora_dropout"} else True
