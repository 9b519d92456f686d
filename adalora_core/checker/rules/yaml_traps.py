"""Family ADA6xx: YAML whose meaning differs from its look, or from reader to reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.writing import portable_number
from adalora_core.checker.rules.input import SourceRule
from adalora_core.config.changes import Put, Remedy
from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.table import FIELDS, Field
from adalora_core.config.rules.base import BOTH, Finding, Findings, Rule

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block
    from adalora_core.floor.places import AmbiguousScalar

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


class _Trap(Rule):
    """A kind of scalar that YAML reads unexpectedly, as the value of a field."""

    language = "yaml"
    good = _GOOD
    needs = "ambiguous-scalars"
    kind: ClassVar[str]
    """The kind of the scalars, as the reader of YAML names it."""

    def check(self, block: Block) -> Findings:
        """Yield a finding for each scalar of the kind that `judge` does not accept."""
        places = {block.at(name): field for name, field in FIELDS.items() if name in block.values}
        for scalar in block.ambiguous_scalars:
            if scalar.kind == self.kind and scalar.path in places:
                field = places[scalar.path]
                finding = self.judge(scalar, field, block.values[field.name])
                if finding is not None:
                    yield finding

    def judge(self, scalar: AmbiguousScalar, field: Field, value: Any) -> Finding | None:
        """Return the finding on a scalar that is the value of a field, as PyYAML reads it."""
        raise NotImplementedError


def _differs(scalar: AmbiguousScalar, field: Field, value: Any) -> str:
    kind = kinds.name_of_value(value)
    return f"`{field.name}`: PyYAML reads {scalar.text} as {kind}, other readers as a string"


class ExponentIsString(_Trap):
    code = "ADA601"
    methods = BOTH
    kind = "exponent"
    summary = "a number such as 1e-4 is a string to PyYAML"
    why = """PyYAML, and with it most trainers, reads YAML 1.1, where a number with an exponent
    needs a dot and a sign: `1e-4` is the string '1e-4'. Readers of YAML 1.2 take it as a number.
    The same file trains differently, or crashes, with another tool."""
    bad = _GOOD.replace("1.0e-1", "1e-1")
    hint = "write a dot and a sign: 1.0e-4"
    safe_fix = """the number is written so that every reader takes it as a number: 1e-4 becomes
    1.0e-4"""

    def judge(self, scalar: AmbiguousScalar, field: Field, value: Any) -> Finding | None:
        del value
        if not field.is_number:
            return None
        number = float(scalar.text.replace("_", ""))
        spelled = portable_number(scalar.text)
        put = Put(scalar.path, number, spelled)
        if kinds.NUMBER not in field.kinds and number.is_integer():
            spelled, put = str(int(number)), Put(scalar.path, int(number))
        return self.found(
            scalar.path,
            f"`{field.name}`: {scalar.text} is a string to PyYAML, not a number",
            hint=f"write {spelled}",
            remedy=Remedy("Write it so that every reader takes it as a number", put),
        )


class Octal(_Trap):
    code = "ADA602"
    methods = BOTH
    kind = "octal"
    summary = "readers of YAML disagree about an integer with a leading 0 or 0o"
    why = "PyYAML reads 010 as octal, 8, and 0o10 as a string. Readers of YAML 1.2 read 10 and 8."
    bad = _GOOD.replace("init_r: 12", "init_r: 014")
    hint = "write the number in decimal without a leading zero"
    safe_fix = "0o14, which no reader takes as another number, becomes 12"
    unsafe_fix = "014 becomes 12, the number that PyYAML, and with it the trainer, reads today"

    def judge(self, scalar: AmbiguousScalar, field: Field, value: Any) -> Finding | None:
        if not field.is_number:
            return None
        is_read = isinstance(value, int)
        seen = f"the integer {value}" if is_read else "a string"
        number = value if is_read else int(scalar.text, 8)
        return self.found(
            scalar.path,
            f"`{field.name}`: PyYAML reads {scalar.text} as {seen}, other readers do not",
            remedy=Remedy(f"Write {number}", Put(scalar.path, number), is_safe=not is_read),
        )


class BooleanWord(_Trap):
    code = "ADA603"
    methods = BOTH
    kind = "boolean-word"
    summary = "yes, no, on and off are booleans to PyYAML and strings to other readers"
    why = """YAML 1.1 has 22 spellings of true and false, so `bias: no` is false, not a word.
    Readers of YAML 1.2 get a string. In a boolean field the finding is only a warning."""
    bad = _GOOD + "bias: off\n"
    hint = "write true or false, or quote the word"
    safe_fix = "in a boolean field yes and on become true, no and off become false"
    unsafe_fix = 'no or off as the bias becomes "none"'

    def judge(self, scalar: AmbiguousScalar, field: Field, value: Any) -> Finding | None:
        wanted = kinds.BOOLEAN in field.kinds
        hint = remedy = None
        if wanted:
            hint = f"write {str(value).lower()}"
            remedy = Remedy("Write true or false", Put(scalar.path, value))
        elif field.name == "bias" and value is False:
            hint = "write none"
            remedy = Remedy("Write none", Put(scalar.path, "none"), is_safe=False)
        return self.found(
            scalar.path,
            _differs(scalar, field, value),
            severity="warning" if wanted else None,
            hint=hint,
            remedy=remedy,
        )


class Sexagesimal(_Trap):
    code = "ADA604"
    methods = BOTH
    kind = "sexagesimal"
    summary = "digits with colons are a number in base 60 to PyYAML"
    why = "YAML 1.1 reads 1:30 as 90; YAML 1.2 as a string."
    bad = _GOOD.replace("tinit: 200", "tinit: 3:20")
    hint = "write the number in decimal"
    safe_fix = "in a number field the value is written in decimal: 3:20 becomes 200"

    def judge(self, scalar: AmbiguousScalar, field: Field, value: Any) -> Finding | None:
        decimal = Remedy("Write it in decimal", Put(scalar.path, value))
        return self.found(
            scalar.path,
            _differs(scalar, field, value),
            hint=f"write {value}" if field.is_number else "quote the value",
            remedy=decimal if field.is_number else None,
        )


class Date(_Trap):
    code = "ADA605"
    methods = BOTH
    kind = "date"
    summary = "a value that looks like a date is a date to PyYAML"
    why = "No field of AdaLoRA is a date; a revision such as 2024-01-01 needs quotes to be text."
    bad = _GOOD + "revision: 2024-01-01\n"
    hint = "quote the value"
    safe_fix = "the date is put into quotes"

    def judge(self, scalar: AmbiguousScalar, field: Field, value: Any) -> Finding | None:
        del value
        return self.found(
            scalar.path,
            f"`{field.name}`: {scalar.text} is a date to PyYAML, not a string",
            remedy=Remedy("Put it into quotes", Put(scalar.path, scalar.text)),
        )


class Underscore(_Trap):
    code = "ADA606"
    methods = BOTH
    kind = "underscore"
    severity = "warning"
    summary = "PyYAML allows underscores in a number, and other readers do not"
    why = "YAML 1.1 reads 1_000 as 1000; YAML 1.2 as a string."
    bad = _GOOD.replace("total_step: 1000", "total_step: 1_000")
    hint = "write the number without underscores"
    safe_fix = "the number is written without underscores"

    def judge(self, scalar: AmbiguousScalar, field: Field, value: Any) -> Finding | None:
        # Write a whole number in decimal: 0_14 without its underscore would still be octal.
        plain = str(value) if isinstance(value, int) else scalar.text.replace("_", "")
        return self.found(
            scalar.path,
            f"`{field.name}`: {scalar.text} is a string to readers of YAML 1.2",
            hint=f"write {plain}",
            remedy=Remedy("Write it without underscores", Put(scalar.path, value, plain)),
        )


class NonStringKey(SourceRule):
    language = "yaml"
    good = _GOOD
    code = problems.NON_STRING_KEY
    summary = "a key is a number, a boolean, a date or null"
    why = """Keys become names of Python arguments, which are strings. To PyYAML `on:` is the key
    true, not a word."""
    bad = _GOOD + "on: 3\n"
    hint = "quote the key, or remove it"


class UnknownTag(SourceRule):
    language = "yaml"
    good = _GOOD
    code = problems.UNKNOWN_TAG
    summary = "a value has a tag that PyYAML's safe loader refuses, such as !!python/object"
    why = """yaml.safe_load raises at such a tag, and a loader that obeys it runs code from the
    file. adalora-core never runs such code."""
    bad = _GOOD + "revision: !!python/object/apply:os.getcwd []\n"
    hint = "remove the tag"
