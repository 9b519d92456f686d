"""Write reports as text: one module per format, imported on use."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adalora_core.config.findings import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adalora_core.config.findings import Checked, Severity

_MODULES = {
    "full": "full",
    "concise": "full",
    "json": "json_report",
    "sarif": "sarif",
    "github": "github",
    "gitlab": "gitlab",
    "junit": "junit",
}
FORMATS = tuple(_MODULES)
FOR_PEOPLE = FORMATS[:2]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something besides a configuration that a reader of a report must know.

    Args:
        message: what happened; it names the file.
        source: the file or folder; None: there is none.
        fails: whether the run fails, since something could not be checked.
    """

    message: str
    source: str | None = None
    fails: bool = True

    @property
    def severity(self) -> Severity:
        """The severity for a format that has findings only."""
        return "error" if self.fails else "warning"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run of `adalora check`.

    Args:
        reports: one for each checked document.
        skipped: the number of files without an AdaLoRA configuration.
        too_large: the number of files that are too large to look into.
        colour: whether to write colours.
        fail_level: the mildest severity that makes the run fail.
        fixing: whether fixes were requested; the text then mentions what is not fixed.
        settings_file: the file of the project's settings; None: no settings were used.
        settings: the settings that this file holds.
        left_out: `{what and why: number}` of the files and folders that searches left out.
        is_quiet: whether texts hold the findings only.
        notices: the files that could not be read, and the like. Texts for people lack them: the
            command prints them when they happen.
    """

    reports: tuple[Checked, ...]
    skipped: int = 0
    too_large: int = 0
    colour: bool = False
    fail_level: Severity = "error"
    fixing: bool = False
    settings_file: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    is_quiet: bool = False
    notices: tuple[Notice, ...] = ()

    @property
    def failing(self) -> tuple[Severity, ...]:
        """The severities that make the run fail."""
        return SEVERITIES[: SEVERITIES.index(self.fail_level) + 1]

    @property
    def failed(self) -> bool:
        """Whether a finding has one of these severities."""
        return any(d.severity in self.failing for r in self.reports for d in r.diagnostics)


def render(outcome: Outcome, format: str) -> str:  # noqa: A002 - the option's name
    """Return an outcome as text in one format; the text ends with a newline unless it is empty.

    Raises:
        ValueError: the format is unknown.
    """
    if format not in _MODULES:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[format]}")
    write = module.render_concise if format == "concise" else module.render
    text: str = write(outcome)
    return text
