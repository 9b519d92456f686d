"""Families ADA0xx and ADA6xx: faults of a text, policies, suppressions, and YAML that misleads."""

from __future__ import annotations

from typing import Any, ClassVar

from adalora_core.checker.documents import portable_number, problems
from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.block import Block
from adalora_core.config.fields.table import FIELDS, Field
from adalora_core.config.findings import Put, Remedy
from adalora_core.config.rules.base import BOTH, SOUND, SOUND_TEXT, Finding, Findings, Rule
from adalora_core.floor.places import AmbiguousScalar

_COMMENTED = """\
peft_type: ADALORA
target_modules: [q_proj, v_proj]
init_r: 12
target_r: 8
tinit: 200
tfinal: 200
deltaT: 10  # COMMENT
total_step: 1000
"""


class SourceRule(Rule):
    """A rule whose findings come from the reader of the text."""

    needs = "source"
    good = SOUND_TEXT


class NothingChecked(SourceRule):
    """A fault that leaves nothing to check, so that neither options nor comments suppress it."""

    can_be_ignored = False


class SyntaxFault(NothingChecked):
    code = problems.SYNTAX_ERROR
    name = "syntax-error"
    summary = "the text is not valid JSON, YAML, TOML or Python, or not a notebook"
    why = """A document that cannot be read cannot be checked, and PEFT raises when it loads the
    file. Python is read by the grammar of the Python that runs the check."""
    bad = SOUND_TEXT.replace("1000}", "1000,}")
    hint = "correct the text at the marked place"
    safe_fix = "in JSON commas before a closing bracket are removed"
    unsafe_fix = "in JSON comments are removed"


class DuplicateKey(SourceRule):
    code = problems.DUPLICATE_KEY
    summary = "an object has the same key twice"
    why = """Python's json and PyYAML silently take the last value, so the order of the lines
    decides which value trains. TOML refuses such a file."""
    bad = SOUND_TEXT.replace('"init_r": 12', '"init_r": 12, "init_r": 16')
    hint = "remove one of the two"


class BadEncoding(SourceRule):
    code = problems.BAD_ENCODING
    summary = "the file is not UTF-8 text, or a string holds characters that are not text"
    why = """PEFT opens the file as text in the machine's encoding. UTF-16, Latin-1 bytes, NUL and
    lone surrogates read differently, or not at all, on the next machine."""
    bad = SOUND_TEXT.replace("q_proj", "q_proj\\ud800")
    hint = "save the file as UTF-8, without a byte order mark"


class NoBlock(NothingChecked):
    code = problems.NO_BLOCK
    name = "no-adalora-block"
    summary = "a named file, or the place that --key names, holds no AdaLoRA configuration"
    why = """A check that finds nothing to check must not pass: a renamed key would disable it for
    ever. With --ignore-unmatched a file without a configuration passes, as hooks need."""
    bad = '{"model": {"name": "opt"}}\n'
    example_options = {"key": "/peft"}
    hint = """add peft_type with the value "ADALORA" to the intended mapping, or name its place with
    --key; in Python, call AdaLoraConfig; pass --ignore-unmatched to accept files of other
    methods"""


class NotAMapping(NothingChecked):
    code = problems.NOT_A_MAPPING
    summary = "the configuration is a list, a string or a number, not an object"
    why = "PEFT reads a configuration as keyword arguments of a class: it must have keys."
    bad = '["ADALORA"]\n'
    hint = 'write a mapping with keys, such as peft_type with the value "ADALORA"'


class ManyDocuments(NothingChecked):
    code = problems.MANY_DOCUMENTS
    summary = "a YAML stream holds more than one document"
    why = "Trainers read one document: yaml.safe_load raises for a second one."
    bad = "peft_type: ADALORA\n---\npeft_type: ADALORA\n"
    good = (
        "peft_type: ADALORA\ntarget_modules: [q_proj]\ninit_r: 12\ntarget_r: 8\n"
        "tfinal: 200\ntotal_step: 1000\n"
    )
    language = "yaml"
    hint = "write each document into a file of its own"


class EmptyInput(NothingChecked):
    code = problems.EMPTY_INPUT
    summary = "the document is empty"
    why = "An interrupted write leaves an empty file, and PEFT cannot load it."
    bad = "\n"
    hint = "write a configuration into the file, or remove the file"


class PolicyViolation(Rule):
    code = "ADA010"
    summary = "the configuration breaks the policy that --policy names"
    why = """A policy is a JSON Schema of your own that a configuration must satisfy besides the
    contract: a largest rank, the allowed base models, a required revision. The policy sees only the
    keys that are written; defaults are not filled in. The title of the failing part begins the
    message, and its description becomes the hint."""
    bad = SOUND
    good = SOUND | {"init_r": 8, "target_r": 4}
    example_options = {
        "policy": {"properties": {"init_r": {"maximum": 8, "description": "ranks cost memory"}}}
    }
    hint = "ask the author of the policy"
    needs_option = "policy"
    needs = "source"


class CommandRule(Rule):
    """A rule about requests to suppress findings; only the command reports it."""

    language = "yaml"
    needs = "command"


class UnusedSuppression(CommandRule):
    code = "ADA011"
    severity = "warning"
    summary = "a comment suppresses a finding that does not occur"
    why = """The fault has been corrected, or the comment is not at the line that the report names.
    Left in place, the comment would hide the next fault of this kind. A code that this run does not
    check is not reported as unused."""
    bad = _COMMENTED.replace("COMMENT", "adalora: ignore[ADA207]")
    good = _COMMENTED.replace("10  # COMMENT", "100  # adalora: ignore[ADA207]")
    hint = "remove the code"


class InvalidSuppression(CommandRule):
    code = "ADA012"
    severity = "warning"
    summary = "a comment asks to suppress findings in a way that has no effect"
    why = """A request names each rule by its full code or its name. A request for everything, or
    for a family of rules, would hide faults that nobody has seen yet, so it is refused."""
    bad = _COMMENTED.replace("COMMENT", "adalora: ignore")
    good = _COMMENTED.replace("10  # COMMENT", "100  # adalora: ignore[few-allocations]")
    hint = "write ignore[ADA202] at the line or above it, or ignore-file[ADA202] anywhere"


class BoundExceeded(Rule):
    can_be_ignored = False
    code = problems.BOUND_EXCEEDED
    summary = "the check of a file takes more time or memory than the system gives it, or ends it"
    why = """A file is checked in a process with limits of the system: 10 s of processor time, 1 GB
    of memory and 30 s by the clock. Almost every file takes a thousandth of that, so a file beyond
    a bound is hostile or not a configuration. Nothing is known about it, and neither comments nor
    settings suppress this finding. The other files of the run are checked."""
    bad = "peft_type: ADALORA\nrevision: &all [main, ...]  # and so on for 4 MB\nx: [*all, *all]\n"
    good = "peft_type: ADALORA\nrevision: main\n"
    language = "yaml"
    needs = "worker"
    hint = """exclude the file if it is not meant for a check; if it is, raise the bound with
    --limit processor-seconds, memory-bytes or wall-seconds"""


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


class YamlTrap(Rule):
    """A kind of scalar that YAML reads unexpectedly, as the value of a field."""

    language = "yaml"
    good = _GOOD
    methods = BOTH
    kind: ClassVar[str]
    """The kind of the scalars, as the reader of YAML names it."""

    def check(self, block: Block) -> Findings:
        """Yield a finding for each scalar of the kind that `judge` does not accept."""
        for name, field in FIELDS.items():
            scalar = block.ambiguous_scalars.get(block.at(name))
            if name in block.values and scalar is not None and scalar.kind == self.kind:
                finding = self.judge(scalar, field, block.values[name])
                if finding is not None:
                    yield finding

    def judge(self, scalar: AmbiguousScalar, field: Field, value: Any) -> Finding | None:
        """Return the finding on a scalar that is the value of a field, as PyYAML reads it."""
        raise NotImplementedError


def _differs(scalar: AmbiguousScalar, field: Field, value: Any) -> str:
    kind = kinds.name_of_value(value)
    return f"`{field.name}`: PyYAML reads {scalar.text} as {kind}, other readers as a string"


class ExponentIsString(YamlTrap):
    code = "ADA601"
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


class Octal(YamlTrap):
    code = "ADA602"
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


class BooleanWord(YamlTrap):
    code = "ADA603"
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


class Sexagesimal(YamlTrap):
    code = "ADA604"
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


class Date(YamlTrap):
    code = "ADA605"
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


class Underscore(YamlTrap):
    code = "ADA606"
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
