"""Findings of a check as data: severities, diagnostics, fixes, and a checked document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adalora_core.contract.fields.table import Runtime
    from adalora_core.contract.text.changes import Change
    from adalora_core.contract.text.places import Edit, Span

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""From worst to mildest."""


class ConfigWarning(UserWarning):
    """A configuration is legal and probably not what was meant."""


@dataclass(frozen=True, slots=True)
class Related:
    """Another place of the document that a finding refers to."""

    message: str
    pointer: str
    span: Span | None


@dataclass(frozen=True, slots=True)
class Fix:
    """Edits that remove the cause of a finding; all of them or none.

    Args:
        description: what is done, as an order.
        edits: the replacements, all in the text that was checked.
        is_safe: whether the meaning of the file stays the same.
        changes: what the edits do to the decoded document.
        obstacle: why the fix could not be made, where that was tried.
    """

    description: str
    edits: tuple[Edit, ...]
    is_safe: bool = True
    changes: tuple[Change, ...] = ()
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding; `span` is None where the source was not text."""

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
    def sort_key(self) -> tuple[int, str, str]:
        """Order of a report: position, then code, then pointer."""
        return (self.span.start if self.span else 0, self.code, self.pointer)


@dataclass(frozen=True)
class Checked:
    """A document and all findings on it, in the order of their positions.

    Args:
        diagnostics: the findings.
        source: the file's name, `<stdin>`, or None.
        text: the text that the spans refer to, where there is one.
        runtime: the runtime that was assumed.
        block: the decoded AdaLoRA mapping, where one was found.
        fixed: the findings that are gone because `adalora check --fix` fixed them.
        suppressed: the findings that comments or `--per-file-ignores` removed.
    """

    diagnostics: tuple[Diagnostic, ...]
    source: str | None = None
    text: str | None = field(default=None, repr=False)
    runtime: Runtime = "peft"
    block: Mapping[str, Any] | None = field(default=None, repr=False)
    fixed: tuple[Diagnostic, ...] = ()
    suppressed: tuple[Diagnostic, ...] = ()

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
