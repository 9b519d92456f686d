"""Family ADA1xx: each key and value on its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adalora_core.config.changes import Insert, Put, Remedy, Rename
from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.block import Block, Fault, FaultKind, is_large, range_phrase
from adalora_core.config.fields.spellings import TRAINER_SETTINGS, suggest_key
from adalora_core.config.fields.table import (
    ADALORA_FIELDS,
    PEFT_TYPE,
    PEFT_VERSION,
)
from adalora_core.config.rules.base import BOTH, SOUND, Finding, Findings, Rule
from adalora_core.config.rules.wrong_types import (
    as_read,
    correct_type,
    fails,
    range_hint,
    share_hint,
    type_hint,
    type_severity,
    value_at,
)

if TYPE_CHECKING:
    from adalora_core.config.findings import Severity

MOST_COMPARED = 1000
"""The most unknown keys of a configuration that are compared with all fields for a misspelling."""

BOUNDED_BY_OWN_RULE = frozenset({"total_step", "deltaT", "lora_alpha"})
"""Fields whose lower bound has a rule of its own, which explains the consequence."""

EDITOR_KEY = "$schema"
"""The key that names an editor's schema; PEFT drops it without harm."""


class MissingPeftType(Rule):
    code = "ADA101"
    severity = "warning"
    summary = "the configuration has no peft_type"
    why = """PEFT chooses the configuration class by peft_type. Without it PEFT reads the file with
    the class that the caller named, and refuses the file if this class does not know one of its
    keys. A saved adapter without it is not loaded at all: PeftModel.from_pretrained asks for the
    key."""
    bad = {key: value for key, value in SOUND.items() if key != "peft_type"}
    hint = 'add the key peft_type with the value "ADALORA"'
    unsafe_fix = """peft_type is added before the other keys; a tool that does not know the key may
    refuse it"""

    def check(self, block: Block) -> Findings:
        if "peft_type" not in block.values and block.layout == "peft":
            change = Insert((*block.path, "peft_type"), PEFT_TYPE)
            unknown = None if block.path else next(block.faults(FaultKind.UNKNOWN), None)
            is_refused = block.runtime == "peft" and (block.is_saved or unknown is not None)
            message = "`peft_type` is missing: the configuration does not name its method"
            if unknown is not None and is_refused and not block.is_saved:
                message += f", and PEFT then refuses unknown keys such as {unknown.name!r}"
            yield self.found(
                block.path,
                message,
                "key",
                severity="error" if is_refused else None,
                remedy=Remedy("Add peft_type", change, is_safe=False),
            )


class WrongType(Rule):
    code = "ADA102"
    methods = BOTH
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
    needs = "faults"

    def check(self, block: Block) -> Findings:
        for fault in block.faults(FaultKind.TYPE):
            if fault.name in block.misread_fields:
                continue  # reported by a rule of family ADA6xx
            field = block.fields[fault.name]
            value = value_at(block, fault)
            got = kinds.name_of_value(value)
            if fault.subpath:
                got += " at " + "".join(f"[{step!r}]" for step in fault.subpath)
            remedy = correct_type(block, fault, value)
            yield self.found(
                block.at(fault.name, *fault.subpath),
                f"`{fault.name}` should be {kinds.phrase_of(field.kinds)}, got {got}"
                + as_read(block, fault),
                severity=type_severity(block, fault),
                hint=share_hint(block, fault) or type_hint(block, fault, remedy),
                remedy=remedy,
            )


class UnknownKey(Rule):
    code = "ADA104"
    methods = BOTH
    errors = (
        "AdaLoraConfig.__init__() got an unexpected keyword argument",
        "LoraConfig.__init__() got an unexpected keyword argument",
    )
    severity = "warning"
    summary = "the configuration has a key that PEFT does not know"
    why = f"""PEFT drops unknown keys of a file with one warning and continues: `delta_t: 10` trains
    with deltaT 1. As a keyword argument an unknown key is a TypeError. The finding is only a
    warning, because newer releases than {PEFT_VERSION} add keys; --strict-keys makes it an error.
    In a call of the class in Python the finding is an error, and so it is in the file of a tool
    that stops at such a key."""
    bad = {key: value for key, value in SOUND.items() if key != "deltaT"} | {"delta_t": 10}
    hint = "remove the key, or spell it as PEFT does"
    unsafe_fix = """the key gets the name of the field that was probably meant, if that field is not
    set"""
    needs = "faults"

    def check(self, block: Block) -> Findings:
        for fault, meant in unknown_keys(block):
            is_call = block.layout == "python"
            if block.runtime == "adalora-core" and block.options.strict_keys:
                unknown = "AdaLoraConfig has no such field"
            else:
                effect = "raises TypeError" if is_call else "ignores it"
                if block.layout == "peft" and not block.path and "peft_type" not in block.values:
                    effect = "refuses the file, which lacks peft_type"
                unknown = f"PEFT {PEFT_VERSION} has no such field and {effect}"
            stops = block.tool is not None and block.tool.stops_at_unknown
            if block.tool is not None and stops:
                unknown = f"{block.tool.name} has no such key and stops"
            message = f"unexpected keyword argument `{fault.name}`: {unknown}"
            hint = remedy = None
            if fault.name in block.fields:
                message += "; only the runtime adalora-core reads it"
                hint = "train with adalora_core, and check with --runtime adalora-core"
            elif meant is not None:
                taken = meant in block.values
                message += f"; did you mean `{meant}`?"
                hint = f"rename `{fault.name}` to `{meant}`"
                if taken:
                    hint = f"remove `{fault.name}`: `{meant}` is set too"
                remedy = None if taken else _renamed(block, fault.name, meant)
            yield self.found(
                block.at(fault.name),
                message,
                "key",
                severity="error" if block.options.strict_keys or is_call or stops else None,
                hint=hint,
                remedy=remedy,
            )


def unknown_keys(block: Block) -> Iterator[tuple[Fault, str | None]]:
    """Yield the fault of each unknown key, and the field that was probably meant."""
    for number, fault in enumerate(block.faults(FaultKind.UNKNOWN)):
        if not isinstance(fault.name, str):
            continue  # reported by rule non-string-key
        if fault.name == EDITOR_KEY and not block.options.strict_keys:
            continue
        meant = suggest_key(fault.name, misspelt=number < MOST_COMPARED, method=block.method)
        if block.has_foreign_keys and (meant is None or fault.name in TRAINER_SETTINGS):
            continue
        yield fault, meant


def _renamed(block: Block, name: str, meant: str) -> Remedy | None:
    path = block.at(name)
    prefix = str(path[-1]).removesuffix(name)
    if block.layout not in {"peft", "python"} and not prefix:
        return None  # the key may be a setting of the tool
    return Remedy(f"Rename {name} to {meant}", Rename(path, prefix + meant), is_safe=False)


class WrongPeftType(Rule):
    code = "ADA105"
    methods = BOTH
    errors = (
        "object has no attribute 'update_and_allocate'",
        "KeyError: 'adalora'",
    )
    summary = "peft_type is not ADALORA"
    why = """PEFT looks up the class by the exact string. `adalora` in lower case is a KeyError
    without an explanation, and the name of another method builds another kind of adapter."""
    bad = SOUND | {"peft_type": "adalora"}
    hint = 'set peft_type to "ADALORA"'
    safe_fix = "adalora and lora in lower case become ADALORA and LORA"
    needs = "faults"

    def check(self, block: Block) -> Findings:
        for fault in block.faults(FaultKind.CHOICE):
            if fault.name != "peft_type":
                continue
            value = block.values["peft_type"]
            message = f"`peft_type` should be {block.method!r}, got {value!r}"
            path = block.at("peft_type")
            hint = remedy = None
            if value.strip().upper() == block.method:
                hint = f'set peft_type to "{block.method}"'
                remedy = Remedy(f"Write {block.method}", Put(path, block.method))
            elif value == "LORA":
                message = "`peft_type` is 'LORA': this is a LoRA adapter, not AdaLoRA"
                hint = f"{self.hint} to train AdaLoRA, or pass --ignore-unmatched"
                if not ADALORA_FIELDS.isdisjoint(block.values):
                    message += "; use the class AdaLoraConfig, which writes ADALORA"
            yield self.found(path, message, hint=hint, remedy=remedy)


class IntegralFloat(Rule):
    code = "ADA106"
    methods = BOTH
    summary = "a whole number is written with a decimal point where an integer is needed"
    why = """JSON Schema accepts 12.0 as an integer, and Python does not. torch refuses a float as a
    size, so `init_r: 12.0` is a TypeError when PEFT builds the adapter. Other fields, and the
    runtime adalora-core, take 12.0 for 12, so there the finding is only a warning; --strict-types
    makes it an error."""
    bad = SOUND | {"init_r": 12.0}
    hint = "write the number without the decimal point"
    warns_at_construction = True
    safe_fix = "the number is written without the decimal point"
    needs = "faults"

    def check(self, block: Block) -> Findings:
        for fault in block.faults(FaultKind.INTEGRAL_FLOAT):
            value = value_at(block, fault)
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


class UnknownChoice(Rule):
    code = "ADA107"
    methods = BOTH
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
    needs = "faults"

    def check(self, block: Block) -> Findings:
        for fault in block.faults(FaultKind.CHOICE):
            if fault.name == "peft_type":
                continue
            choices = block.fields[fault.name].choices or ()
            value = block.values[fault.name]
            if fault.reading is not None:
                yield self._read_as(block, fault, str(fault.reading.value))
                continue
            message = f"`{fault.name}` should be one of {', '.join(choices)}; got {value!r}"
            from difflib import get_close_matches  # slow to import, and most words are right

            near = get_close_matches(value.upper(), [c.upper() for c in choices], n=1)
            path = block.at(fault.name)
            default = block.fields[fault.name].default
            hint = f"write one of these, or remove {fault.name}"
            hint += f": the default is {default}" if default is not None else ""
            remedy = None
            if near:
                meant = next(c for c in choices if c.upper() == near[0])
                hint = f'write "{meant}"'
                is_safe = value.strip().upper() == near[0]
                remedy = Remedy(f"Write {meant}", Put(path, meant), is_safe)
            yield self.found(path, message, hint=hint, remedy=remedy)

    def _read_as(self, block: Block, fault: Fault, word: str) -> Finding:
        path = block.at(fault.name)
        message = f"`{fault.name}` {block.values[fault.name]!r} is taken as {word!r}"
        remedy = Remedy(f"Write {word}", Put(path, word))
        return self.found(path, message, severity="warning", hint=f'write "{word}"', remedy=remedy)


class RuntimeConfigInFile(Rule):
    code = "ADA108"
    methods = BOTH
    severity = "warning"
    summary = "runtime_config is set in a configuration"
    why = """runtime_config holds settings of one process. PEFT removes it when it saves and drops
    it with a warning when it loads, so it has no effect in a file. AdaLoRA does not read it at
    all."""
    bad = SOUND | {"runtime_config": {"ephemeral_gpu_offload": True}}
    hint = "remove runtime_config"
    inputs = ("runtime_config",)

    def check(self, block: Block) -> Findings:
        if block.is_lora and block.layout == "python":
            return  # the process that makes such a configuration reads it
        if block.is_set("runtime_config") and any(block["runtime_config"].values()):
            message = "`runtime_config` has no effect: PEFT drops it when it loads a file"
            yield self.found(block.at("runtime_config"), message, "key")


class RepeatedEntry(Rule):
    code = "ADA109"
    methods = BOTH
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


class NonFinite(Rule):
    code = "ADA003"
    methods = BOTH
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
    needs = "faults"

    def check(self, block: Block) -> Findings:
        for fault in block.faults(FaultKind.NONFINITE):
            message = f"`{fault.name}` should be finite, got {value_at(block, fault)!r}"
            severity: Severity | None = None if fault.reading is None else "warning"
            path = block.at(fault.name, *fault.subpath)
            is_number = not fault.subpath and block.fields[fault.name].is_number
            hint = range_hint(block, fault.name) if is_number else None
            yield self.found(path, message, severity=severity, hint=hint)


class OutOfRange(Rule):
    code = "ADA103"
    methods = BOTH
    errors = ("`r` should be a positive integer value but the value passed is",)
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
