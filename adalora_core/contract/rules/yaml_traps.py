"""Family ADA6xx: YAML whose meaning differs from its look, or from reader to reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.fields import value_kinds as kinds
from adalora_core.contract.fields.table import FIELDS, Field
from adalora_core.contract.rules.base import Finding, Rule
from adalora_core.contract.rules.input import SourceRule
from adalora_core.contract.text import problems
from adalora_core.contract.text.changes import Put, Remedy
from adalora_core.contract.text.writing import portable_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.contract.fields.block import Block
    from adalora_core.contract.text.document import AmbiguousScalar

_GOOD = """\
peft_type: ADALORA
target_modules: [q_proj, v_proj]
init_r: 12
target_r: 8
lora_dropout: 0.05
tinit: 200
tfinal: 200
deltaT: 10
total_step: 1000
orth_reg_weight: 1.0e-1
fan_in_fan_out: false
"""


def _ambiguous(block: Block, kind: str) -> Iterator[tuple[AmbiguousScalar, Field]]:
    """Yield the scalars of one kind that are the value of a field."""
    if not block.ambiguous_scalars:
        return
    places = {block.at(name): field for name, field in FIELDS.items() if name in block.values}
    for scalar in block.ambiguous_scalars:
        if scalar.kind == kind and scalar.path in places:
            yield scalar, places[scalar.path]


class ExponentIsString(Rule):
    code = "ADA601"
    summary = "a number such as 1e-4 is a string to PyYAML"
    why = (
        "PyYAML, and with it most trainers, reads YAML 1.1, where a number with an exponent needs "
        "a dot and a sign: `1e-4` is the string '1e-4'. Readers of YAML 1.2 take it as a number. "
        "The same file trains differently, or crashes, with another tool."
    )
    bad = _GOOD.replace("1.0e-1", "1e-1")
    good = _GOOD
    language = "yaml"
    hint = "write a dot and a sign: 1.0e-4"
    safe_fix = (
        "the number is written so that every reader takes it as a number: 1e-4 becomes 1.0e-4"
    )
    needs = "ambiguous-scalars"

    def check(self, block: Block) -> Iterator[Finding]:
        for scalar, field in _ambiguous(block, "exponent"):
            if field.is_number:
                value = float(scalar.text.replace("_", ""))
                spelled = portable_number(scalar.text)
                put = Put(scalar.path, value, spelled)
                if kinds.NUMBER not in field.kinds and value.is_integer():
                    spelled, put = str(int(value)), Put(scalar.path, int(value))
                yield self.found(
                    scalar.path,
                    f"`{field.name}`: {scalar.text} is a string to PyYAML, not a number",
                    hint=f"write {spelled}",
                    remedy=Remedy("Write it so that every reader takes it as a number", (put,)),
                )


class Octal(Rule):
    code = "ADA602"
    summary = "readers of YAML disagree about an integer with a leading 0 or 0o"
    why = "PyYAML reads 010 as octal, 8, and 0o10 as a string. Readers of YAML 1.2 read 10 and 8."
    bad = _GOOD.replace("init_r: 12", "init_r: 014")
    good = _GOOD
    language = "yaml"
    hint = "write the number in decimal without a leading zero"
    safe_fix = "0o14, which no reader takes as another number, becomes 12"
    unsafe_fix = "014 becomes 12, the number that PyYAML, and with it the trainer, reads today"
    needs = "ambiguous-scalars"

    def check(self, block: Block) -> Iterator[Finding]:
        for scalar, field in _ambiguous(block, "octal"):
            if field.is_number:
                value = block.values[field.name]
                is_read = isinstance(value, int)
                seen = f"the integer {value}" if is_read else "a string"
                number = value if is_read else int(scalar.text, 8)
                yield self.found(
                    scalar.path,
                    f"`{field.name}`: PyYAML reads {scalar.text} as {seen}, other readers do not",
                    remedy=Remedy(
                        f"Write {number}", (Put(scalar.path, number),), is_safe=not is_read
                    ),
                )


class BooleanWord(Rule):
    code = "ADA603"
    summary = "yes, no, on and off are booleans to PyYAML and strings to other readers"
    why = (
        "YAML 1.1 has 22 spellings of true and false, so `bias: no` is false, not a word. Readers "
        "of YAML 1.2 get a string. In a boolean field the finding is only a warning."
    )
    bad = _GOOD + "bias: off\n"
    good = _GOOD
    language = "yaml"
    hint = "write true or false, or quote the word"
    safe_fix = "in a boolean field yes and on become true, no and off become false"
    unsafe_fix = 'no or off as the bias becomes "none"'
    needs = "ambiguous-scalars"

    def check(self, block: Block) -> Iterator[Finding]:
        for scalar, field in _ambiguous(block, "boolean-word"):
            value = block.values[field.name]
            wanted = kinds.BOOLEAN in field.kinds
            remedy = None
            if wanted:
                remedy = Remedy("Write true or false", (Put(scalar.path, value),))
            elif field.name == "bias" and value is False:
                remedy = Remedy("Write none", (Put(scalar.path, "none"),), is_safe=False)
            yield self.found(
                scalar.path,
                f"`{field.name}`: PyYAML reads {scalar.text} as {kinds.name_of_value(value)}, "
                "other readers as a string",
                severity="warning" if wanted else None,
                hint=f"write {str(value).lower()}" if wanted else None,
                remedy=remedy,
            )


class Sexagesimal(Rule):
    code = "ADA604"
    summary = "digits with colons are a number in base 60 to PyYAML"
    why = "YAML 1.1 reads 1:30 as 90; YAML 1.2 as a string."
    bad = _GOOD.replace("tinit: 200", "tinit: 3:20")
    good = _GOOD
    language = "yaml"
    hint = "write the number in decimal"
    safe_fix = "in a number field the value is written in decimal: 3:20 becomes 200"
    needs = "ambiguous-scalars"

    def check(self, block: Block) -> Iterator[Finding]:
        for scalar, field in _ambiguous(block, "sexagesimal"):
            value = block.values[field.name]
            yield self.found(
                scalar.path,
                f"`{field.name}`: PyYAML reads {scalar.text} as {kinds.name_of_value(value)}, "
                "other readers as a string",
                hint=f"write {value}" if field.is_number else "quote the value",
                remedy=Remedy("Write it in decimal", (Put(scalar.path, value),))
                if field.is_number
                else None,
            )


class Date(Rule):
    code = "ADA605"
    summary = "a value that looks like a date is a date to PyYAML"
    why = "No field of AdaLoRA is a date; a revision such as 2024-01-01 needs quotes to be text."
    bad = _GOOD + "revision: 2024-01-01\n"
    good = _GOOD
    language = "yaml"
    hint = "quote the value"
    safe_fix = "the date is put into quotes"
    needs = "ambiguous-scalars"

    def check(self, block: Block) -> Iterator[Finding]:
        for scalar, field in _ambiguous(block, "date"):
            yield self.found(
                scalar.path,
                f"`{field.name}`: {scalar.text} is a date to PyYAML, not a string",
                remedy=Remedy("Put it into quotes", (Put(scalar.path, scalar.text),)),
            )


class Underscore(Rule):
    code = "ADA606"
    severity = "warning"
    summary = "PyYAML allows underscores in a number, and other readers do not"
    why = "YAML 1.1 reads 1_000 as 1000; YAML 1.2 as a string."
    bad = _GOOD.replace("total_step: 1000", "total_step: 1_000")
    good = _GOOD
    language = "yaml"
    hint = "write the number without underscores"
    safe_fix = "the number is written without underscores"
    needs = "ambiguous-scalars"

    def check(self, block: Block) -> Iterator[Finding]:
        for scalar, field in _ambiguous(block, "underscore"):
            value = block.values[field.name]
            # Write a whole number in decimal: 0_14 without its underscore would still be octal.
            plain = str(value) if isinstance(value, int) else scalar.text.replace("_", "")
            yield self.found(
                scalar.path,
                f"`{field.name}`: {scalar.text} is a string to readers of YAML 1.2",
                hint=f"write {plain}",
                remedy=Remedy("Write it without underscores", (Put(scalar.path, value, plain),)),
            )


class NonStringKey(SourceRule):
    code = problems.NON_STRING_KEY
    summary = "a key is a number, a boolean, a date or null"
    why = (
        "Keys become names of Python arguments, which are strings. To PyYAML `on:` is the key "
        "true, not a word."
    )
    bad = _GOOD + "on: 3\n"
    good = _GOOD
    language = "yaml"
    hint = "quote the key, or remove it"


class UnknownTag(SourceRule):
    code = problems.UNKNOWN_TAG
    summary = "a value has a tag that PyYAML's safe loader refuses, such as !!python/object"
    why = (
        "yaml.safe_load raises at such a tag, and a loader that obeys it runs code from the file. "
        "adalora-core never runs such code."
    )
    bad = _GOOD + "revision: !!python/object/apply:os.getcwd []\n"
    good = _GOOD
    language = "yaml"
    hint = "remove the tag"
