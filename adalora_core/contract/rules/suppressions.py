"""Rules ADA011 and ADA012: comments and options that suppress findings."""

from __future__ import annotations

from adalora_core.contract.rules.base import Rule

_SOUND = """\
peft_type: ADALORA
target_modules: [q_proj, v_proj]
init_r: 12
target_r: 8
tinit: 200
tfinal: 200
deltaT: 10  # COMMENT
total_step: 1000
"""


class CommandRule(Rule):
    """A rule about requests to suppress findings; only the command reports it."""

    language = "yaml"
    needs = "command"


class UnusedSuppression(CommandRule):
    code = "ADA011"
    severity = "warning"
    summary = "a comment suppresses a finding that does not occur"
    why = (
        "The fault has been corrected, or the comment is not at the line that the report names. "
        "Left in place, the comment would hide the next fault of this kind. A code that this run "
        "does not check is not reported as unused."
    )
    bad = _SOUND.replace("COMMENT", "adalora: ignore[ADA207]")
    good = _SOUND.replace("10  # COMMENT", "100  # adalora: ignore[ADA207]")
    hint = "remove the code"
    safe_fix = (
        "the code is removed from the comment; if it is the only one, the whole request is removed"
    )


class InvalidSuppression(CommandRule):
    code = "ADA012"
    severity = "warning"
    summary = "a comment asks to suppress findings in a way that has no effect"
    why = (
        "A request names each rule by its full code or its name. A request for everything, or for "
        "a family of rules, would hide faults that nobody has seen yet, so it is refused."
    )
    bad = _SOUND.replace("COMMENT", "adalora: ignore")
    good = _SOUND.replace("10  # COMMENT", "100  # adalora: ignore[few-allocations]")
    hint = "write ignore[ADA202] at the line or above it, or ignore-file[ADA202] anywhere"
