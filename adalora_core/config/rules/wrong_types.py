"""Describe values of a wrong type or range, and correct those whose meaning is clear: "12"."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from adalora_core.config.changes import Put, Remedy, changed
from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.block import Block, Fault, fits_field, range_phrase
from adalora_core.config.fields.readings import NOT_LOADED
from adalora_core.config.fields.table import Treatment
from adalora_core.config.rules.allocations import drops_are_trained_again
from adalora_core.config.rules.schedule import TotalStepMissing, is_share

if TYPE_CHECKING:
    from adalora_core.config.findings import Severity

_WORDS = {"true": True, "false": False, "null": None, "none": None}


def value_at(block: Block, fault: Fault) -> Any:
    """Return the part of a field's value that is wrong."""
    value = block.values[fault.name]
    for step in fault.subpath:
        value = value[step]
    return value


def type_severity(block: Block, fault: Fault) -> Severity | None:
    """Return "warning" where the runtime works with the value, unless types are strict."""
    if fault.reading is None or block.options.strict_types:
        return None
    is_zero = fault.name == "tfinal" and is_share(fault.name, block.values[fault.name])
    return None if is_zero and drops_are_trained_again(block) else "warning"


def as_read(block: Block, fault: Fault) -> str:
    """Describe what the runtime makes of a value of another type; empty if it fails."""
    reading = fault.reading
    if reading is None:
        return ""
    reader = "PEFT" if block.runtime == "peft" else "adalora-core"
    if not reading.is_read:
        return f"; {reader} does not read it"
    if isinstance(reading.value, float) and not reading.is_exact:
        return f"; {reader} takes it as it is"
    what = kinds.name_of_value(reading.value)
    return f"; {reader} takes it for {what}" + ("" if reading.is_exact else ", or nearly so")


def correct_type(block: Block, fault: Fault, value: Any) -> Remedy | None:
    """Return the remedy for a value of a wrong type, or None if its meaning is not clear."""

    def instead(description: str, new: Any, *, is_safe: bool) -> Remedy | None:
        whole = changed([block.values[fault.name]], [Put((0, *fault.subpath), new)])[0]
        if not fits_field(block.fields[fault.name], whole):
            return None
        return Remedy(description, Put(block.at(fault.name, *fault.subpath), new), is_safe)

    return _by_meaning(value, instead) or _as_read(block, fault)


def _as_read(block: Block, fault: Fault) -> Remedy | None:
    reading = fault.reading
    if reading is None or not reading.is_exact:
        return None
    description = "Write what is read" if reading.is_read else "Write the default"
    return Remedy(description, Put(block.at(fault.name), reading.value))


def _by_meaning(value: Any, instead: Callable[..., Remedy | None]) -> Remedy | None:
    if isinstance(value, str):
        plain = value.strip()
        number = _number(plain)
        if number is not None:
            return instead("Write the number without quotes", number, is_safe=True)
        if plain.lower() in _WORDS:
            return instead("Write it without quotes", _WORDS[plain.lower()], is_safe=False)
        return instead("Write a list with one name", [value], is_safe=False) if plain else None
    return instead("Write true or false", bool(value), is_safe=True) if value in (0, 1) else None


def _number(text: str) -> float | None:
    """Return the decimal number that `text` writes as JSON does, or None; very long ones too."""
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"-?\d{1,18}(\.\d+)?([eE][-+]?\d{1,2})?", text):
        return float(text)
    return None


def share_hint(block: Block, fault: Fault) -> str | None:
    """Return the hint for a share of the run in a field that counts steps."""
    share = block.values[fault.name]
    if not is_share(fault.name, share):
        return None
    hint = f"write a number of steps: `{fault.name}` counts steps, not a share of the run"
    total = block.values.get("total_step")
    if type(total) is not int or not 1 <= share * total < kinds.LARGEST_INTEGER:
        return hint
    steps = round(share * total)
    about = "" if steps == share * total else "about "
    return f"{hint}; {share:.3g} of {total} steps is {about}{steps}"


def type_hint(block: Block, fault: Fault, remedy: Remedy | None) -> str:
    """Return the hint that ends in the value to write, or in the default."""
    spell = repr if block.layout == "python" else json.dumps
    if remedy is None or not isinstance(remedy.change, Put):
        if fault.name == "total_step":
            return TotalStepMissing.hint
        field = block.fields[fault.name]
        default = "" if field.default is None else f": the default is {spell(field.default)}"
        return f"write {kinds.phrase_of(field.kinds)}, or remove it{default}"
    old, new = value_at(block, fault), remedy.change.value
    is_unquoted = isinstance(old, str) and not isinstance(new, (str, list))
    return f"write {spell(new)}" + " without quotes" * is_unquoted


def range_hint(block: Block, name: str) -> str:
    """Return the hint for a number out of range, with the default where there is one."""
    wanted = f"set {name} to a number {range_phrase(block.fields[name])}"
    default = block.fields[name].default
    if default is None or block.tool is not None:
        return wanted
    return f"{wanted}, or remove it: the default is {default}"


def fails(block: Block, name: str) -> bool:
    """Return whether the runtime fails with this number, which is out of range."""
    value = block.values[name]
    if block.fields[name].treatment is Treatment.IGNORED:
        return False
    if block.is_saved or (block.is_lora and name == "lora_dropout" and value >= 0):
        if name in {"orth_reg_weight", "tinit", "tfinal"} and block.runtime != "peft":
            return False
        # torch takes a probability of 1, with which LoRA learns nothing; an adapter in use drops
        # nothing.
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
