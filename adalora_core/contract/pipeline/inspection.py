"""Inspect the files of one run: text, configurations, the findings that count, fixes."""

from __future__ import annotations

import codecs
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adalora_core.contract.pipeline.assembly import Examined, examine
from adalora_core.contract.pipeline.discovery import ADALORA_WORDS, PEFT_WORDS
from adalora_core.contract.rules import BY_CODE
from adalora_core.contract.text import decode
from adalora_core.contract.text.reading import format_of

if TYPE_CHECKING:
    from adalora_core.contract.fields.block import Layout
    from adalora_core.contract.pipeline.options import CheckOptions
    from adalora_core.contract.pipeline.selection import Selection
    from adalora_core.contract.text.document import Format


@dataclass(frozen=True, slots=True)
class Inspector:
    """The settings of one run, and what they make of each file.

    Args:
        check: how to check.
        selection: which findings count.
        key: JSON pointer of the configuration; None: search.
        layout: the layout to search for; None: all.
        format: of every file; None: by the suffix.
        ignore_unmatched: whether a named file may hold no configuration.
    """

    check: CheckOptions
    selection: Selection
    key: str | None = None
    layout: Layout | None = None
    format: Format | None = None
    ignore_unmatched: bool = False

    def inspect(self, raw: bytes, name: str, *, was_named: bool) -> Examined | None:
        """Return a file's report, or None if the file holds no configuration and need not.

        Files of other tools need not even be readable.
        """
        is_optional = not was_named or self.ignore_unmatched
        if is_optional and not ADALORA_WORDS.search(raw):
            return None
        found = self._examined(raw, name, is_optional=is_optional)
        if is_optional and not found.blocks:
            return found if found.document.fatal and PEFT_WORDS.search(raw) else None
        return found

    def fix(self, found: Examined, name: str, *, was_named: bool, unsafe: bool) -> Examined:
        """Return what was inspected with the fixes in it that can be made."""
        if not any(diagnostic.fix for diagnostic in found.report.diagnostics):
            return found
        from adalora_core.contract.pipeline.fixing import fix

        is_optional = not was_named or self.ignore_unmatched
        mark = codecs.BOM_UTF8 if found.document.raw.startswith(codecs.BOM_UTF8) else b""

        def examine_again(text: str) -> Examined:
            # A fix may write the half of a surrogate pair: the reader shall see and refuse it.
            raw = mark + text.encode("utf-8", "surrogatepass")
            return self._examined(raw, name, is_optional=is_optional)

        return fix(found, examine_again, unsafe=unsafe)

    def _examined(self, raw: bytes, name: str, *, is_optional: bool) -> Examined:
        document = decode(raw, self.format or format_of(name), self.check.limits)
        found = examine(
            document,
            name,
            self.check,
            key=self.key,
            layout=self.layout,
            is_optional=is_optional,
        )
        report = found.report
        if document.format != "json":  # JSON has no comments
            from adalora_core.contract.pipeline.suppression import suppress

            report = suppress(document, report, self.judges)
        return dataclasses.replace(found, report=self.selection.apply(report))

    def judges(self, code: str) -> bool:
        """Return whether this run looks for a rule."""
        option = BY_CODE[code].needs_option
        is_asked_for = option is None or getattr(self.check, option) is not None
        return is_asked_for and code in self.selection.codes
