"""Inspect the files of one run: check, select findings, suppress findings, fix."""

from __future__ import annotations

import codecs
import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.checker.documents import decode, excess_of
from adalora_core.checker.documents.document import CODE, SUFFIXES, format_of
from adalora_core.checker.documents.problems import SYNTAX_ERROR
from adalora_core.checker.documents.python.encodings import searchable
from adalora_core.checker.pipeline.assembly import examine
from adalora_core.checker.rules import BY_CODE
from adalora_core.config.fields.table import DISTINCTIVE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from adalora_core.checker.documents.document import Format
    from adalora_core.checker.documents.problems import Problem
    from adalora_core.checker.pipeline.options import CheckOptions
    from adalora_core.checker.pipeline.selection import Selection
    from adalora_core.checker.reports import Examined, Report
    from adalora_core.config.fields.tools import Layout
    from adalora_core.config.findings import Diagnostic


_DISTINCTIVE = b"|".join(name.encode() for name in sorted(DISTINCTIVE_FIELDS))
_ADALORA_WORDS = re.compile(rb"adalora|\b(?:" + _DISTINCTIVE + rb")\b", re.IGNORECASE)
"""Every text that holds an AdaLoRA configuration contains one of these."""
_PEFT_WORDS = re.compile(rb"\b(?:peft_type|" + _DISTINCTIVE + rb")\b", re.IGNORECASE)
"""A damaged text without any of these is not taken for a configuration: a manifest or a script may
mention AdaLoRA too."""
_CODE_WORDS = re.compile(rb"AdaLoraConfig\s*\(|\bupdate_and_allocate\b")
"""Damaged code without any of these is not reported: it may be a template, or of another Python."""


@dataclass(frozen=True, slots=True)
class Inspector:
    """The settings of one run, applied to each file.

    Args:
        check: how to check.
        selection: which findings to report.
        key: JSON pointer of the configuration; None: search for it.
        layout: the layout to search for; None: every layout.
        format: the format of every file; None: by the suffix.
        ignore_unmatched: whether a named file may hold no configuration.
        reads_comments: whether comments suppress findings.
    """

    check: CheckOptions
    selection: Selection
    key: str | None = None
    layout: Layout | None = None
    format: Format | None = None
    ignore_unmatched: bool = False
    reads_comments: bool = True

    def format_of(self, name: str) -> Format:
        """Return the format in which a file is read."""
        return self.format or format_of(name)

    def leaves_out(self, raw: bytes, name: str, *, was_named: bool) -> bool:
        """Return whether a file is too large to look into and need not hold a configuration."""
        is_optional = not was_named or self.ignore_unmatched
        return is_optional and excess_of(raw, self.format_of(name), self.check.limits) is not None

    def inspect(self, raw: bytes, name: str, *, was_named: bool) -> Examined | None:
        """Return the report on a file; None if it holds no configuration and need not hold one.

        A file that need not hold a configuration may also be damaged.
        """
        is_optional = not was_named or self.ignore_unmatched
        read_as = self.format_of(name)
        is_code, is_notebook = read_as in CODE, read_as == "notebook"
        searched = searchable(raw, is_notebook=is_notebook) if is_code and is_optional else raw
        if is_optional and not (
            b"adalora" in searched.lower() if is_code else _ADALORA_WORDS.search(searched)
        ):
            return None
        found = self._examined(raw, name, is_optional=is_optional)
        if is_optional and not found.blocks:
            if found.document.fatal:
                words = _CODE_WORDS if is_code else _PEFT_WORDS
                return found if words.search(searched) else None
            report = found.report
            return (
                found if report.has_script and (report.diagnostics or report.suppressed) else None
            )
        return found

    def fix(
        self,
        found: Examined,
        name: str,
        *,
        was_named: bool,
        unsafe: bool,
        only: Diagnostic | None = None,
    ) -> Examined:
        """Apply the fixes that can be made, and return the fixed document with its report.

        Args:
            found: the document.
            name: its name.
            was_named: as for `inspect`.
            unsafe: also apply fixes that change the meaning to what was probably meant.
            only: the finding to fix; None: every finding. The report then has no other finding.
        """
        if only is not None:
            found = _with_findings(found, only)
        if not any(diagnostic.fix for diagnostic in found.report.diagnostics):
            return found
        from adalora_core.checker.pipeline.fixing import fix

        again = self._examiner(found, name, was_named=was_named, keeps_findings=only is None)
        return fix(found, again, unsafe=unsafe)

    def add_ignores(self, found: Examined, name: str, *, was_named: bool) -> Examined:
        """Add comments that suppress the findings; JSON, which has none, stays as it is."""
        if found.document.format == "json" or not found.report.was_checked:
            return found
        from adalora_core.checker.pipeline.baseline import add_ignores

        return add_ignores(found, self._examiner(found, name, was_named=was_named))

    def _examiner(
        self, found: Examined, name: str, *, was_named: bool, keeps_findings: bool = True
    ) -> Callable[[str], Examined]:
        """Return a function that checks another text as the text of a document was checked."""
        is_optional = not was_named or self.ignore_unmatched
        mark = codecs.BOM_UTF8 if found.document.raw.startswith(codecs.BOM_UTF8) else b""

        def examine_again(text: str) -> Examined:
            # A fix may write half of a surrogate pair: the reader must see and refuse it.
            encoding = found.document.encoding
            errors = "surrogatepass" if encoding == "utf-8" else "strict"
            raw = mark + text.encode(encoding, errors)
            again = self._examined(raw, name, is_optional=is_optional, tries_fixes=False)
            return again if keeps_findings else _with_findings(again)

        return examine_again

    def _examined(
        self, raw: bytes, name: str, *, is_optional: bool, tries_fixes: bool = True
    ) -> Examined:
        document = decode(raw, self.format_of(name), self.check.limits)
        if self.format is None and document.fatal:
            problems = [_with_format(each, name, raw) for each in document.problems]
            document = dataclasses.replace(document, problems=problems)
        found = examine(
            document,
            name,
            self.check,
            key=self.key,
            layout=self.layout,
            is_optional=is_optional,
            tries_fixes=tries_fixes,
        )
        report = found.report
        if self.reads_comments and document.format != "json":  # JSON has no comments
            from adalora_core.checker.pipeline.suppression import suppress

            report = suppress(document, report, self.is_active, self.check.limits.diagnostics)
        return dataclasses.replace(found, report=self.selection.apply(report))

    def is_active(self, code: str) -> bool:
        """Return whether this run checks the rule with this code."""
        option = BY_CODE[code].needs_option
        is_asked_for = option is None or getattr(self.check, option) is not None
        return is_asked_for and code in self.selection.codes

    def with_unused_ignores(
        self, reports: Sequence[Report], searched: Container[str]
    ) -> list[Report]:
        """Return all reports of a run, with findings on unused `--per-file-ignores` entries.

        Args:
            reports: the reports of the run.
            searched: names of the files that were found by searching, not named one by one.
        """
        result = list(reports)
        if not self.selection.per_file:
            return result
        from adalora_core.checker.pipeline.suppression import unused_file_ignores

        unused = unused_file_ignores(self.selection.per_file, reports, searched, self.is_active)
        for index, found in unused.items():
            diagnostics = (*found, *reports[index].diagnostics)
            result[index] = self.selection.apply(
                dataclasses.replace(reports[index], diagnostics=diagnostics)
            )
        return result


def _with_format(problem: Problem, name: str, raw: bytes) -> Problem:
    """Return a problem; if the suffix names no format, its hint names the option that does."""
    suffix = Path(name).suffix
    if problem.code != SYNTAX_ERROR or suffix.lower() in SUFFIXES or raw.lstrip()[:1] in b"{[":
        return problem
    hint = f"the suffix {suffix!r} names no format, so this is read as JSON; name one by --format"
    return dataclasses.replace(problem, message="not valid JSON", hint=hint)


def _with_findings(found: Examined, *diagnostics: Diagnostic) -> Examined:
    """Return a document with these findings in the place of its own."""
    return dataclasses.replace(
        found, report=dataclasses.replace(found.report, diagnostics=diagnostics)
    )
