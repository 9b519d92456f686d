"""Reports as text: one module per format, imported when it is asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adalora_core.contract.findings import Checked, Severity

_MODULES = {
    "full": "full",
    "concise": "concise",
    "json": "json_report",
    "jsonl": "jsonl",
    "sarif": "sarif",
    "github": "github",
    "gitlab": "gitlab",
    "junit": "junit",
}
FORMATS = tuple(_MODULES)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the check found.

    Args:
        reports: one for each document that was checked.
        skipped: files that were looked at and hold no AdaLoRA configuration.
        colour: whether the text is for a terminal with colours.
        fail_level: the mildest severity that makes the run fail.
        fixing: whether fixes were made, so that what is left needs a word.
    """

    reports: tuple[Checked, ...]
    skipped: int = 0
    colour: bool = False
    fail_level: Severity = "error"
    fixing: bool = False


def render(outcome: Outcome, format: str) -> str:  # noqa: A002 - the option's name
    """Write an outcome in one format; the text ends with a newline unless it is empty.

    Raises:
        ValueError: there is no such format.
    """
    if format not in _MODULES:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[format]}")
    text: str = module.render(outcome)
    return text
