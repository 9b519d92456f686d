"""Hold the findings of a check as data: severities, diagnostics, fixes, a checked document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.floor.errors import AdaLoraError

if TYPE_CHECKING:
    from adalora_core.config.changes import Change
    from adalora_core.config.fields.table import Method, Runtime
    from adalora_core.floor.places import Edit, Span

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""All severities, the worst first."""


class ConfigWarning(UserWarning):
    """A configuration is legal, but probably not what its author meant."""


@dataclass(frozen=True, slots=True)
class Related:
    """A further place that a finding refers to; `code` is that of the finding there, its cause."""

    message: str
    pointer: str
    span: Span | None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Fix:
    """Edits that together remove the cause of a finding.

    Args:
        description: the action, in the imperative.
        edits: the replacements in the checked text; apply all or none.
        is_safe: whether the file keeps its meaning.
        changes: what the edits do to the decoded document.
        obstacle: the reason why the fix cannot be applied, if that is known.
    """

    description: str
    edits: tuple[Edit, ...]
    is_safe: bool = True
    changes: tuple[Change, ...] = ()
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding; `span` is None if the source is not text."""

    code: str
    name: str
    severity: Severity
    message: str
    pointer: str
    span: Span | None = None
    hint: str | None = None
    related: tuple[Related, ...] = ()
    fix: Fix | None = None

    @property
    def cause(self) -> Related | None:
        """The place of the finding from which this one follows."""
        return next((each for each in self.related if each.code), None)

    @property
    def sort_key(self) -> tuple[int, str, str]:
        """The key that sorts a report: position, then code, then pointer."""
        return (self.span.start if self.span else 0, self.code, self.pointer)


@dataclass(frozen=True)
class Checked:
    """A checked document with all findings, in the order of their positions.

    Args:
        diagnostics: the findings.
        source: the file's name or `<stdin>`; None: the source is not a file.
        text: the text that the spans refer to; None: the source is not text.
        runtime: the package that is assumed to train.
        block: the decoded mapping, the first of AdaLoRA, else of LoRA; None: there is none.
        fixed: the findings that `adalora check --fix` removed by fixing.
        suppressed: the findings that comments or `--per-file-ignores` removed.
        places: the JSON pointers of the configurations.
        is_whole: whether `block` is the only configuration and all of its values are known.
        unjudged: the number of configurations of which the document holds no value.
        has_script: whether the document is code about AdaLoRA, with or without a configuration.
        lacks_total: whether a configuration has known values, and a `total_step` that only a run
            can tell.
        method: the method of `block`.
    """

    diagnostics: tuple[Diagnostic, ...]
    source: str | None = None
    text: str | None = field(default=None, repr=False)
    runtime: Runtime = "peft"
    block: Mapping[str, Any] | None = field(default=None, repr=False)
    fixed: tuple[Diagnostic, ...] = ()
    suppressed: tuple[Diagnostic, ...] = ()
    has_script: bool = False
    places: tuple[str, ...] = ()
    is_whole: bool = True
    unjudged: int = 0
    lacks_total: bool = False
    method: Method = "ADALORA"

    @property
    def was_checked(self) -> bool:
        """Whether there was something to check: a configuration, or code."""
        return self.block is not None or self.has_script

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The findings of severity error."""
        return tuple(d for d in self.diagnostics if d.severity == "error")

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The findings of severity warning."""
        return tuple(d for d in self.diagnostics if d.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not any(d.severity == "error" for d in self.diagnostics)


class ConfigError(AdaLoraError, ValueError):
    """A configuration has errors; `report` holds every finding, and the message shows them."""

    def __init__(self, message: str, report: Checked) -> None:
        super().__init__(message)
        self.report = report
