"""Hold the reports of a run, and write them as text, JSON, or by the module of another format."""

from __future__ import annotations

import importlib
import json
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents.problems import MOST_RELATED
from adalora_core.config.fields.table import PEFT_TYPE
from adalora_core.config.findings import (
    SEVERITIES,
    Checked,
    ConfigError,
    ConfigWarning,
    Diagnostic,
    Fix,
    Severity,
)
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document
    from adalora_core.config.fields.block import Block
    from adalora_core.config.model import AdaLoraConfig
    from adalora_core.floor.places import Span


_WRITERS = {
    "full": ("text", "render"),
    "concise": ("text", "render_concise"),
    "sarif": ("services", "render_sarif"),
    "github": ("services", "render_github"),
    "gitlab": ("services", "render_gitlab"),
}
FORMATS = ("full", "concise", "json", "sarif", "github", "gitlab")
FOR_PEOPLE = FORMATS[:2]


@dataclass(frozen=True)
class Report(Checked):
    """All findings on one document, with methods to render them and to raise."""

    @cached_property
    def config(self) -> AdaLoraConfig | None:
        """The typed configuration without unknown keys; None if there is an error.

        Also None for a configuration of LoRA, if there are several configurations, or values that
        only a run can tell.
        """
        if self.block is None or not self.ok or not self.is_whole or self.method != PEFT_TYPE:
            return None
        from adalora_core.config.fields.block import Block, BlockOptions
        from adalora_core.config.model import AdaLoraConfig

        block = Block(self.block, options=BlockOptions(self.runtime))
        return AdaLoraConfig.from_checked(block.as_read, self.runtime)

    def require_config(self) -> AdaLoraConfig:
        """Return the typed configuration.

        Raises:
            ConfigError: the report has an error, or the document holds no configuration.
        """
        if self.config is not None:
            return self.config
        text = self.render("full").rstrip("\n")
        if self.ok and self.method != PEFT_TYPE:
            text = (
                "expected a configuration of AdaLoRA, got one of LoRA; check_config judges it\n"
                + text
            )
        elif self.ok:
            keys = " or ".join(f'key="{visible(place)}"' for place in self.places[:MOST_RELATED])
            several = f"name one by {keys}, or " if len(self.places) > 1 else ""
            text = (
                "expected one configuration whose values are all written in the source; "
                f"{several}use check_config for other sources\n{text}"
            )
        raise ConfigError(text, self)

    def render(self, format: str = "full") -> str:  # noqa: A002 - the name of the option
        """Return the report as text in a format of `adalora check --output-format`.

        Raises:
            ValueError: the format is unknown.
        """
        return render(Outcome((self,)), format)

    def warn(self, stacklevel: int = 2) -> None:
        """Issue the findings of severity warning through `warnings`, as `ConfigWarning`."""
        for diagnostic in self.warnings:
            warnings.warn(
                f"{diagnostic.message} ({diagnostic.code})", ConfigWarning, stacklevel + 1
            )


@dataclass(frozen=True, slots=True)
class Examined:
    """A document, the configurations in it, and the report on them."""

    document: Document
    blocks: tuple[Block, ...]
    report: Report


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
        fails_besides: whether the run fails for files that were not read or findings not shown.
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
    fails_besides: bool = False

    @property
    def findings(self) -> list[tuple[Checked, Diagnostic]]:
        """All findings, each with its report."""
        return [(report, each) for report in self.reports for each in report.diagnostics]

    @property
    def counts(self) -> Counter[Severity]:
        """How many findings of each severity there are."""
        return Counter(each.severity for _, each in self.findings)

    @property
    def failures(self) -> list[Notice]:
        """The notices for which the run fails."""
        return [each for each in self.notices if each.fails]

    @property
    def failing(self) -> tuple[Severity, ...]:
        """The severities that make the run fail."""
        return SEVERITIES[: SEVERITIES.index(self.fail_level) + 1]

    @property
    def failed(self) -> bool:
        """Whether a finding has one of these severities, or something else fails the run."""
        return self.fails_besides or any(each.severity in self.failing for _, each in self.findings)


def render(outcome: Outcome, format: str) -> str:  # noqa: A002 - the option's name
    """Return an outcome as text in one format; the text ends with a newline unless it is empty.

    Raises:
        ValueError: the format is unknown.
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if format == "json":
        return json.dumps(to_json(outcome), indent=2) + "\n"
    module, function = _WRITERS[format]
    write = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    text: str = write(outcome)
    return text


SCHEMA_VERSION = 1
"""Increased when a key changes its meaning or is removed, but not when a key is added.

The schema is `schemas/adalora-report.schema.json`.
"""


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON values."""
    found = outcome.counts
    return {
        "schema_version": SCHEMA_VERSION,
        "summary": {
            "configurations": len(outcome.reports),
            "errors": found["error"],
            "warnings": found["warning"],
            "infos": found["info"],
            "skipped": outcome.skipped,
            "too_large": outcome.too_large,
            "left_out": sum(outcome.left_out.values()),
            "unjudged": sum(report.unjudged for report in outcome.reports),
            "suppressed": sum(len(report.suppressed) for report in outcome.reports),
        },
        "settings": {"file": outcome.settings_file, "values": dict(outcome.settings)},
        "notices": [
            {"source": each.source, "message": each.message, "fails": each.fails}
            for each in outcome.notices
        ],
        "reports": [
            {
                "source": report.source,
                "runtime": report.runtime,
                "ok": report.ok,
                "diagnostics": [diagnostic_to_json(d) for d in report.diagnostics],
                "suppressed": [diagnostic_to_json(d) for d in report.suppressed],
                # Without positions, which refer to the old text.
                "fixed": [
                    {**_named(d), "description": d.fix.description, "safe": d.fix.is_safe}
                    for d in report.fixed
                    if d.fix is not None
                ],
            }
            for report in outcome.reports
        ],
    }


def diagnostic_to_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """Return one finding as JSON values."""
    return {
        **_named(diagnostic),
        "span": _span(diagnostic.span),
        "hint": diagnostic.hint,
        "related": [
            {"message": r.message, "pointer": r.pointer, "span": _span(r.span)}
            for r in diagnostic.related
        ],
        "fix": _fix(diagnostic.fix),
    }


def _named(diagnostic: Diagnostic) -> dict[str, str]:
    names = ("code", "name", "severity", "message", "pointer")
    return {name: getattr(diagnostic, name) for name in names}


def _fix(fix: Fix | None) -> dict[str, Any] | None:
    if fix is None:
        return None
    return {
        "description": fix.description,
        "safe": fix.is_safe,
        "edits": [{"span": _span(e.span), "replacement": e.replacement} for e in fix.edits],
        "obstacle": fix.obstacle,
    }


def _span(span: Span | None) -> dict[str, Any] | None:
    if span is None:
        return None
    found: dict[str, Any] = {
        "start": {"offset": span.start, "line": span.start_line, "column": span.start_column},
        "end": {"offset": span.end, "line": span.end_line, "column": span.end_column},
    }
    if span.cell is not None:
        cell = span.cell
        found["cell"] = {
            "number": cell.number,
            "start": {"line": cell.start_line, "column": cell.start_column},
            "end": {"line": cell.end_line, "column": cell.end_column},
        }
    return found
