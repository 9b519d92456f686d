"""From the bytes of one file to a report: text, blocks, findings that count, fixes."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adalora_core.contract.assembly import assemble
from adalora_core.contract.block import Block
from adalora_core.contract.check import decode_further
from adalora_core.contract.discovery import ADALORA_WORDS, PEFT_WORDS, block_at, find_blocks
from adalora_core.contract.rule import Finding
from adalora_core.contract.rules import BY_CODE
from adalora_core.contract.rules.input import NO_BLOCK
from adalora_core.contract.sources.document import Document
from adalora_core.contract.sources.reading import format_of, to_text

if TYPE_CHECKING:
    from adalora_core.contract.block import Trainer
    from adalora_core.contract.diagnostics import Report
    from adalora_core.contract.options import CheckOptions
    from adalora_core.contract.selection import Selection
    from adalora_core.contract.sources.reading import Format


@dataclass(frozen=True, slots=True)
class Inspected:
    """What one file is worth saying.

    Args:
        report: the findings.
        text: the text that the report speaks of, with the fixes in it.
        content: the bytes of that text, as the file would hold them.
    """

    report: Report
    text: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Inspector:
    """How files are looked at in one run.

    Args:
        check: how to judge.
        selection: which findings count.
        key: JSON pointer of the block; None: search.
        trainer: the habit to search for; None: all.
        format: of every file; None: by the suffix.
        ignore_unmatched: whether a named file may hold no configuration.
    """

    check: CheckOptions
    selection: Selection
    key: str | None = None
    trainer: Trainer | None = None
    format: Format | None = None
    ignore_unmatched: bool = False

    def inspect(self, raw: bytes, name: str, *, was_named: bool) -> Inspected | None:
        """Return what there is to say, or None if there is no configuration and need not be."""
        if self._is_optional(was_named=was_named) and not ADALORA_WORDS.search(raw):
            # Other tools' files need not even be readable.
            return None
        document = self._decoded(to_text(raw, self.check.limits), name)
        if document.fatal and self._is_optional(was_named=was_named) and not PEFT_WORDS.search(raw):
            return None
        blocks, missing = self._blocks(document, was_named=was_named)
        if missing is not None:
            if self._is_optional(was_named=was_named):
                return None
            document.findings.append(missing)
        return Inspected(self._report(document, blocks, name), document.text, raw)

    def fix(self, found: Inspected, name: str, *, was_named: bool, unsafe: bool) -> Inspected:
        """Return what was inspected with the fixes in it that can be made."""
        if not any(diagnostic.fix for diagnostic in found.report.diagnostics):
            return found
        from adalora_core.contract.fixing import fix

        encoding = to_text(found.content, self.check.limits).findings

        def examine(text: str) -> tuple[Document, Report]:
            document = self._decoded(Document(text, findings=list(encoding)), name)
            blocks, _ = self._blocks(document, was_named=was_named)
            return document, self._report(document, blocks, name)

        text, report = fix(found.text, examine, unsafe=unsafe)
        mark = codecs.BOM_UTF8 if found.content.startswith(codecs.BOM_UTF8) else b""
        return Inspected(report, text, mark + text.encode())

    def _decoded(self, document: Document, name: str) -> Document:
        if document.fatal:
            return document
        return decode_further(document, self.format or format_of(name), self.check.limits)

    def _is_optional(self, *, was_named: bool) -> bool:
        """Whether a file may hold no configuration, or that of another method."""
        return not was_named or self.ignore_unmatched

    def _blocks(self, document: Document, *, was_named: bool) -> tuple[list[Block], Finding | None]:
        """Return the configurations of a document, or what to say if there is none."""
        if document.fatal:
            return [], None
        missing = Finding(NO_BLOCK, (), "no AdaLoRA configuration in this file", "key")
        if self.key is not None:
            found = block_at(document, self.key, self.check)
            blocks, missing = ([found], missing) if isinstance(found, Block) else ([], found)
        else:
            blocks = find_blocks(document, self.check, self.trainer)
            if self._is_optional(was_named=was_named):
                blocks = [block for block in blocks if block.is_told]
        if self._is_optional(was_named=was_named):
            blocks = [block for block in blocks if not block.is_other_method]
        return blocks, None if blocks else missing

    def _report(self, document: Document, blocks: list[Block], name: str) -> Report:
        report = assemble(document, blocks, name, self.check)
        if document.format != "json":  # JSON has no comments
            from adalora_core.contract.suppression import suppress

            report = suppress(document, report, self.judges)
        return self.selection.apply(report)

    def judges(self, code: str) -> bool:
        """Return whether a rule is looked for in this run."""
        option = BY_CODE[code].asked_for_by
        is_asked_for = option is None or getattr(self.check, option) is not None
        return is_asked_for and code in self.selection.codes
