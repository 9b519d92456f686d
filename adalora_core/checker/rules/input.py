"""Family ADA0xx: faults of the text, breaches of a policy, and requests to suppress findings."""

from __future__ import annotations

from adalora_core.checker.documents import problems
from adalora_core.config.rules.base import SOUND, SOUND_TEXT, Rule

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
