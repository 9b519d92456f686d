"""Family ADA1xx, second part: each value on its own, and its correction if that is clear: "12"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.block import (
    Block,
    Fault,
    fits_field,
    is_large,
    range_phrase,
)
from adalora_core.config.fields.readings import NOT_LOADED
from adalora_core.config.fields.table import Treatment
from adalora_core.config.findings import Put, Remedy, Severity, changed
from adalora_core.config.rules.allocations import drops_are_trained_again
from adalora_core.config.rules.base import SOUND, Findings, SharedRule
from adalora_core.config.rules.schedule import TotalStepMissing, is_share

BOUNDED_BY_OWN_RULE = frozenset({"total_step", "deltaT", "lora_alpha"})
"""Fields whose lower bound has a rule of its own, which explains the consequence."""

_WORDS = {"true": True, "false": False, "null": None, "none": None}


class WrongType(SharedRule):
    code = "ADA102"
    summary = "a value does not have the type of its field"
    why = """PEFT does not check types. A string in place of a number is stored as it is and fails
    later, when the adapter is built or in the middle of training ("12" * 1.0). Where PEFT works
    with the value, or does not read it, the finding is only a warning; --strict-types makes it an
    error."""
    bad = SOUND | {"init_r": "12"}
    hint = "write the value in the type that the message names"
    warns_at_construction = True
    safe_fix = """a number written as a string becomes a number; a value that is taken for one of
    the right type, or not read, becomes that value or the default"""
    unsafe_fix = """true, false and null written as strings lose their quotes; a single name in a
    list field becomes a list"""

    def check(self, block: Block) -> Findings:
        for fault in block.faults("type"):
            if fault.name in block.misread_fields:
                continue  # reported by a rule of family ADA6xx
            field = block.fields[fault.name]
            got = kinds.name_of_value(fault.value)
            if fault.subpath:
                got += " at " + "".join(f"[{step!r}]" for step in fault.subpath)
            remedy = correct_type(block, fault)
            yield self.found(
                block.at(fault.name, *fault.subpath),
                f"`{fault.name}` should be {kinds.phrase_of(field.kinds)}, got {got}"
                + as_read(block, fault),
                severity=type_severity(block, fault),
                hint=share_hint(block, fault) or type_hint(block, fault, remedy),
                remedy=remedy,
            )


class IntegralFloat(SharedRule):
    code = "ADA106"
    summary = "a whole number is written with a decimal point where an integer is needed"
    why = """JSON Schema accepts 12.0 as an integer, and Python does not. torch refuses a float as a
    size, so `init_r: 12.0` is a TypeError when PEFT builds the adapter. Other fields, and the
    runtime adalora-core, take 12.0 for 12, so there the finding is only a warning; --strict-types
    makes it an error."""
    bad = SOUND | {"init_r": 12.0}
    hint = "write the number without the decimal point"
    warns_at_construction = True
    safe_fix = "the number is written without the decimal point"

    def check(self, block: Block) -> Findings:
        for fault in block.faults("integral-float"):
            value = fault.value
            path = block.at(fault.name, *fault.subpath)
            severity = type_severity(block, fault)
            message = f"`{fault.name}` should be an integer, got {value!r}"
            if severity is not None:
                message = f"`{fault.name}` {value!r} is taken as {int(value)}"
            yield self.found(
                path,
                message,
                severity=severity,
                hint=f"write {int(value)}",
                remedy=Remedy("Write it as an integer", Put(path, int(value))),
            )


class UnknownChoice(SharedRule):
    code = "ADA107"
    errors = (
        "Invalid task type",
        "Requested bias: ... is not implemented",
    )
    summary = "a string is not one of the values that its field allows"
    why = """An unknown task_type is refused when the configuration is built. An unknown bias is a
    NotImplementedError, but only when the adapter is injected; PEFT takes every word that ends in
    _only as lora_only."""
    bad = SOUND | {"bias": "lora"}
    hint = "use one of the values that the message lists"
    safe_fix = "a value that PEFT reads, or that differs only in its case, is written as PEFT does"
    unsafe_fix = "a likely misspelling becomes the value that was probably meant"

    def check(self, block: Block) -> Findings:
        for fault in block.faults("choice"):
            if fault.name == "peft_type":
                continue
            name, value, path = fault.name, fault.value, block.at(fault.name)
            default, choices = block.fields[name].default, block.fields[name].choices or ()
            message = f"`{name}` should be one of {', '.join(choices)}; got {value!r}"
            severity: Severity | None = None
            hint = f"write one of these, or remove {name}"
            hint += f": the default is {default}" if default is not None else ""
            remedy = None
            if fault.reading is not None:
                near, is_safe, severity = [fault.reading.value], True, "warning"
                message = f"`{name}` {value!r} is taken as {near[0]!r}"
            else:
                from difflib import get_close_matches  # slow to import, and most words are right

                upper = {each.upper(): each for each in choices}
                near = [upper[each] for each in get_close_matches(value.upper(), upper, n=1)]
                is_safe = upper.get(value.strip().upper()) in near
            if near:
                hint = f'write "{near[0]}"'
                remedy = Remedy(f"Write {near[0]}", Put(path, near[0]), is_safe)
            yield self.found(path, message, severity=severity, hint=hint, remedy=remedy)


class RepeatedEntry(SharedRule):
    code = "ADA109"
    severity = "info"
    summary = "a list of modules names one module twice"
    why = """PEFT turns the list into a set, so the repetition has no effect. Often it is a typing
    mistake."""
    bad = SOUND | {"target_modules": ["q_proj", "v_proj", "q_proj"]}
    hint = "remove the repetition, or write the intended name"
    inputs = ("target_modules", "exclude_modules", "modules_to_save")

    def check(self, block: Block) -> Findings:
        for name in self.inputs:
            seen: dict[str, int] = {}
            entries = block[name]
            for index, entry in enumerate(entries if isinstance(entries, list) else ()):
                if entry in seen:
                    first = (block.at(name, seen[entry]), "first named here")
                    message = f"`{name}` names {entry!r} twice"
                    yield self.found(block.at(name, index), message, related=(first,))
                seen.setdefault(entry, index)


class NonFinite(SharedRule):
    code = "ADA003"
    name = "non-finite-number"
    summary = "a number is NaN or infinite"
    why = """JSON has no such numbers, and other readers refuse the file. NaN passes every
    comparison that PEFT makes: a NaN weight makes the loss NaN at the first step. Where PEFT still
    trains, or does not read the field, the finding is only a warning."""
    bad = (
        '{"peft_type": "ADALORA", "target_modules": ["q_proj"], "init_r": 12, "target_r": 8,\n'
        ' "tfinal": 200, "total_step": 1000, "orth_reg_weight": NaN}\n'
    )
    hint = "write a finite number"

    def check(self, block: Block) -> Findings:
        for fault in block.faults("nonfinite"):
            message = f"`{fault.name}` should be finite, got {fault.value!r}"
            severity: Severity | None = None if fault.reading is None else "warning"
            path = block.at(fault.name, *fault.subpath)
            is_number = not fault.subpath and block.fields[fault.name].is_number
            hint = range_hint(block, fault.name) if is_number else None
            yield self.found(path, message, severity=severity, hint=hint)


class OutOfRange(SharedRule):
    code = "ADA103"
    errors = ("`r` should be a positive integer value but the value passed is",)
    summary = "a number is outside its legal range"
    why = """PEFT checks only orth_reg_weight. A beta of 0 or 1 is an AssertionError without a
    message when the model is built, and a target_r of 0 prunes everything. Where PEFT trains all
    the same, the finding is only a warning: a negative dropout silently means no dropout, and a
    negative tinit or tfinal is computed with as it is. A saved adapter is loaded whatever the
    settings of its training are."""
    bad = SOUND | {"beta1": 1.5}
    hint = "set a number of that range, or remove the key to get the default"

    def check(self, block: Block) -> Findings:
        for fault in block.faults("range"):
            name, value = fault.name, block.values[fault.name]
            severity: Severity | None = None if fails(block, name) else "warning"
            path = block.at(name)
            if is_large(block, name):
                message = f"`{name}` should fit into 64 bits, got {kinds.number_text(value)}"
                yield self.found(path, message, severity=severity, hint=range_hint(block, name))
                continue
            if name in BOUNDED_BY_OWN_RULE:
                continue
            message = f"`{name}` should be {range_phrase(block.fields[name])}, got {value!r}"
            if name == "orth_reg_weight":
                # PEFT's own words, which people search for.
                message = (
                    "`orth_reg_weight` should be greater than or equal to 0, "
                    f"but the value passed is {value!r}"
                )
            yield self.found(path, message, severity=severity, hint=range_hint(block, name))


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


def correct_type(block: Block, fault: Fault) -> Remedy | None:
    """Return the remedy for a value of a wrong type, or None if its meaning is not clear."""
    for description, new, is_safe in _meanings(fault.value):
        whole = changed([block.values[fault.name]], [Put((0, *fault.subpath), new)])[0]
        if fits_field(block.fields[fault.name], whole):
            return Remedy(description, Put(block.at(fault.name, *fault.subpath), new), is_safe)
    reading = fault.reading
    if reading is None or not reading.is_exact:
        return None
    description = "Write what is read" if reading.is_read else "Write the default"
    return Remedy(description, Put(block.at(fault.name), reading.value))


def _meanings(value: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield the value that was meant, with an imperative, and whether no other was."""
    plain = value.strip() if isinstance(value, str) else ""
    number = _number(plain)
    if number is not None:
        yield "Write the number without quotes", number, True
    elif plain.lower() in _WORDS:
        yield "Write it without quotes", _WORDS[plain.lower()], False
    elif plain:
        yield "Write a list with one name", [value], False
    elif value in (0, 1):
        yield "Write true or false", bool(value), True


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
    old, new = fault.value, remedy.change.value
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
