"""What a check finds: positions, findings and the report that holds them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adalora_core.contract.changes import Change
    from adalora_core.contract.fields import Runtime
    from adalora_core.contract.model import AdaLoraConfig
    from adalora_core.contract.shapes import Path

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""From worst to mildest."""


class ConfigWarning(UserWarning):
    """A configuration is legal and probably not what was meant."""


def to_pointer(path: Path) -> str:
    """Write a path as a JSON pointer (RFC 6901); the whole document is the empty string.

    Example:
        >>> to_pointer(("peft", "a/b", 0))
        '/peft/a~1b/0'
    """
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def from_pointer(pointer: str) -> tuple[str, ...]:
    """Split a JSON pointer into its steps, all of them strings.

    Raises:
        ValueError: the pointer neither is empty nor starts with a slash.
    """
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        raise ValueError(
            f"a JSON pointer starts with '/', got {pointer!r}; write for example /model/peft"
        )
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/"))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the source: 0-based offsets, 1-based lines and columns, in code points.

    The end is exclusive: `end_column` is the column after the last character.
    """

    start: int
    end: int
    start_line: int
    start_column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Related:
    """Another place of the document that a finding speaks of."""

    message: str
    pointer: str
    span: Span | None


@dataclass(frozen=True, slots=True)
class Edit:
    """Another text for a stretch of the source."""

    span: Span
    replacement: str


@dataclass(frozen=True, slots=True)
class Fix:
    """Edits that take a finding away; all of them or none.

    Args:
        description: what is done, as an order.
        edits: the replacements, all in the text that was checked.
        is_safe: whether the file goes on meaning what it says.
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
class Report:
    """All findings of one document, in the order of their positions.

    Args:
        diagnostics: the findings.
        source: the file's name, `<stdin>`, or None.
        text: the text that the spans point into, where there was one.
        runtime: who was assumed to train.
        block: the decoded AdaLoRA mapping, where one was found.
        fixed: the findings that are gone because `adalora check --fix` fixed them.
        suppressed: the findings that comments or `--per-file-ignores` took out.
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

    @cached_property
    def config(self) -> AdaLoraConfig | None:
        """The typed configuration, or None if there is an error; unknown keys are left out."""
        if self.block is None or not self.ok:
            return None
        from adalora_core.contract.model import AdaLoraConfig

        return AdaLoraConfig.from_checked(self.block)

    def render(self, format: str = "full") -> str:  # noqa: A002 - the name of the option
        """Write the report in one of the formats of `adalora check --output-format`.

        Raises:
            ValueError: there is no such format.
        """
        from adalora_core.contract.reports import Outcome, render

        return render(Outcome((self,)), format)

    def raise_if_errors(self) -> None:
        """Raise `ConfigError` with the whole report if a finding is an error."""
        if not self.ok:
            raise ConfigError(self.render("full").rstrip("\n"), self)

    def warn(self, stacklevel: int = 2) -> None:
        """Hand the findings of severity warning to Python's `warnings`, as `ConfigWarning`."""
        for diagnostic in self.warnings:
            warnings.warn(
                f"{diagnostic.message} ({diagnostic.code})", ConfigWarning, stacklevel + 1
            )
