"""From findings to a report: severities, positions, order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.diagnostics import Diagnostic, Fix, Related, Report, Span, to_pointer
from adalora_core.contract.engine import run
from adalora_core.contract.rule import Finding
from adalora_core.contract.rules import input as rules
from adalora_core.contract.sources.writing import edits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adalora_core.contract.block import Block
    from adalora_core.contract.options import CheckOptions
    from adalora_core.contract.sources.document import Document


def assemble(
    document: Document,
    blocks: Sequence[Block],
    name: str | None,
    options: CheckOptions,
    *,
    has_text: bool = True,
) -> Report:
    """Run the rules over the blocks and give every finding its place."""
    findings = list(document.findings)
    for block in blocks:
        findings += run(block)
        if options.policy is not None:
            findings += options.policy.check(block)
    tops = {block.path for block in blocks}
    limit = options.limits.diagnostics
    diagnostics = [_diagnostic(document, finding, tops) for finding in findings[:limit]]
    if len(findings) > limit:
        message = f"more than {limit} findings; the others are not shown"
        rest = Finding(rules.LIMIT_EXCEEDED, (), message, offset=0)
        diagnostics.append(_diagnostic(document, rest, tops))
    return Report(
        tuple(sorted(diagnostics, key=lambda diagnostic: diagnostic.sort_key)),
        source=name,
        text=document.text if has_text else None,
        runtime=options.runtime,
        block=blocks[0].values if blocks else None,
    )


def _diagnostic(
    document: Document, finding: Finding, tops: set[tuple[str | int, ...]]
) -> Diagnostic:
    rule = finding.rule
    return Diagnostic(
        code=rule.code,
        name=rule.name,
        severity=finding.severity or rule.severity,
        message=finding.message,
        pointer=to_pointer(finding.path),
        span=_span(document, finding, tops),
        hint=finding.hint or rule.hint,
        related=(
            *(
                Related(message, to_pointer(path), document.span_of(path, "value"))
                for path, message in finding.related
            ),
            *(
                Related(message, to_pointer(finding.path), document.span(*extent))
                for extent, message in finding.related_offsets
            ),
        ),
        fix=_fix(document, finding),
    )


def _fix(document: Document, finding: Finding) -> Fix | None:
    remedy = finding.remedy
    if remedy is None:
        return None
    found = edits(document, remedy.changes)
    return Fix(remedy.description, found, remedy.is_safe, remedy.changes) if found else None


def _span(document: Document, finding: Finding, tops: set[tuple[str | int, ...]]) -> Span | None:
    if finding.offset is not None:
        end = min(finding.offset + 1, len(document.text))
        return document.span(min(finding.offset, end), end)
    # What is absent is shown at the head of its block; the whole block would hide the place.
    at = "key" if finding.path in tops else finding.at
    return document.span_of(finding.path, at)
