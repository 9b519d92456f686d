"""Hold the findings of a check as data: severities, diagnostics, fixes, a checked document."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.floor.errors import AdaLoraError

if TYPE_CHECKING:
    from adalora_core.config.fields.table import Method, Runtime
    from adalora_core.floor.places import Edit, Extent, Path, Span


@dataclass(frozen=True, slots=True)
class Put:
    """Replace the value at an existing place; in YAML the text may be another than usual."""

    path: Path
    value: Any
    yaml: str | None = None


@dataclass(frozen=True, slots=True)
class Rename:
    """Rename an existing key; its value stays."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a key before all others of its mapping."""

    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Replace:
    """Replace a stretch of source code that no path names; the decoded value stays."""

    extent: Extent
    text: str


Change = Put | Rename | Insert | Replace


@dataclass(frozen=True, slots=True)
class Remedy:
    """The change that a rule proposes, described as an imperative: "Write it as an integer".

    No change removes a key. It `is_safe` if the meaning stays: PEFT reads the same as before, or
    could not work with the old value and only one reading is possible.
    """

    description: str
    change: Change
    is_safe: bool = True


class ConflictError(Exception):
    """A change cannot be made; the message gives the reason."""


def changed(value: Any, changes: Iterable[Change]) -> Any:
    """Return a copy of a decoded document with all changes made.

    A value that several aliases share is shared in the copy too, so it changes everywhere.
    """
    root = copy.deepcopy(value)
    puts = [change for change in changes if isinstance(change, Put)]
    renames = [change for change in changes if isinstance(change, Rename)]
    for put in puts:
        _node(root, put.path)  # the place exists
        _node(root, put.path[:-1])[put.path[-1]] = put.value
    for insert in (change for change in changes if isinstance(change, Insert)):
        _rebuild(_node(root, insert.path[:-1]), {}, {insert.path[-1]: insert.value})
    # Inner names first: the path of an outer one leads there.
    for rename in sorted(renames, key=lambda change: -len(change.path)):
        _node(root, rename.path)
        _rebuild(_node(root, rename.path[:-1]), {rename.path[-1]: rename.name}, {})
    return root


def _rebuild(mapping: Any, names: dict[Any, str], before: dict[Any, Any]) -> None:
    """Rename keys of a mapping in place, and put new ones before them."""
    for name in (*names.values(), *before):
        if name in mapping:
            raise ConflictError(f"the key {name!r} exists already")
    entries = before | {names.get(key, key): value for key, value in mapping.items()}
    mapping.clear()
    mapping.update(entries)


def _node(root: Any, path: Iterable[str | int]) -> Any:
    node = root
    try:
        for step in path:
            node = node[step]
    except (LookupError, TypeError):
        raise ConflictError("another fix has moved the place") from None
    return node


def same(one: Any, other: Any) -> bool:
    """Return whether two decoded documents are equal, types included: 12 is not 12.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        # Compare the keys with their types: to Python, True and 1 are the same key.
        if {(type(k), k) for k in one} != {(type(k), k) for k in other}:
            return False
        return all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


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
