"""Examine a decoded document: find configurations, run the rules, locate the findings."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from adalora_core.checker.documents.problems import Problem, too_many_findings
from adalora_core.checker.documents.writing import edit
from adalora_core.checker.pipeline.discovery import find_blocks
from adalora_core.checker.reports import Examined, Report
from adalora_core.checker.rules import BY_CODE, findings, usage_findings
from adalora_core.config.findings import Diagnostic, Fix, Related
from adalora_core.config.rules.base import Finding
from adalora_core.floor.places import to_pointer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from adalora_core.checker.documents.document import Document
    from adalora_core.checker.pipeline.options import CheckOptions
    from adalora_core.config.fields.block import Block
    from adalora_core.config.fields.tools import Layout
    from adalora_core.floor.places import Path, Span


def examine(
    document: Document,
    name: str | None,
    options: CheckOptions,
    *,
    key: str | None = None,
    layout: Layout | None = None,
    is_optional: bool = False,
    tries_fixes: bool = True,
) -> Examined:
    """Find the configurations of a decoded document and check them.

    Args:
        document: the document; a missing configuration is a problem of it.
        name: the file's name for the report; None: the source is not a file.
        options: how to check.
        key: JSON pointer of the one configuration, empty for the whole document; None: search.
        layout: the layout to search for; None: every layout.
        is_optional: whether the document may hold no configuration, or one of another method.
        tries_fixes: whether to find the fixes that an alias prevents.

    Raises:
        ValueError: `key` is not a JSON pointer.
    """
    blocks: tuple[Block, ...] = ()
    problems = document.problems
    if not document.fatal:
        found = find_blocks(document, options, key, layout, is_optional=is_optional)
        if not isinstance(found, Problem):
            blocks = found
        elif not is_optional:
            problems = [*problems, found]
    report = _report(document, problems, blocks, name, options)
    examined = Examined(document, blocks, report)
    has_alias = document.format == "yaml" and "*" in document.text
    if tries_fixes and has_alias and any(each.fix for each in report.diagnostics):
        # Imported for an alias only: the module takes time.
        from adalora_core.checker.pipeline.fixing import with_known_obstacles

        return replace(examined, report=with_known_obstacles(examined))
    return examined


def _report(
    document: Document,
    problems: Sequence[Problem],
    blocks: Sequence[Block],
    name: str | None,
    options: CheckOptions,
) -> Report:
    limit = options.limits.diagnostics
    room = max(0, limit - len(problems))
    found = list(islice(chain(_findings(blocks, options), usage_findings(document)), room + 1))
    shown = found[:room]
    if len(problems) > limit or len(found) > room:
        problems = [*problems[:limit], too_many_findings(limit)]
    tops = {block.path for block in blocks}
    diagnostics = [
        _of_finding(document, finding, tops)
        for finding in (*(_found(document, problem) for problem in problems), *shown)
    ]
    if document.script is not None:
        diagnostics = _merged(diagnostics)
    only = blocks[0] if len(blocks) == 1 else None
    return Report(
        tuple(sorted(diagnostics, key=lambda diagnostic: diagnostic.sort_key)),
        source=name,
        text=document.text if document.is_text else None,
        runtime=options.runtime,
        block=blocks[0].values if blocks else None,
        unjudged=sum(1 for block in blocks if block.deferred and not block.values),
        is_whole=only is not None and not only.deferred,
        has_script=document.script is not None and document.script.is_about_adalora,
        lacks_total=any("total_step" in each.deferred for each in blocks if each.values),
    )


def _merged(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return one finding for those that are equal: several calls may take one dict."""
    found: dict[tuple[str, str, Span | None], Diagnostic] = {}
    for each in diagnostics:
        mark = (each.code, each.message, each.span)
        first = found.setdefault(mark, each)
        if first is not each and first.fix is not None and each.fix is not None:
            fix = replace(first.fix, changes=(*first.fix.changes, *each.fix.changes))
            found[mark] = replace(first, fix=fix)
    return list(found.values())


def _findings(blocks: Iterable[Block], options: CheckOptions) -> Iterator[Finding]:
    seen = set()
    for block in blocks:
        found = findings(block)
        if options.policy is not None:
            found = chain(found, options.policy.check(block))
        for finding in found:
            # The combinations of a sweep share most of their values.
            mark = (finding.rule.code, finding.path, finding.message)
            if mark not in seen:
                seen.add(mark)
                yield finding


def _found(document: Document, problem: Problem) -> Finding:
    """Return a problem of the text as a finding of the rule that explains it."""
    rule, extent = type(BY_CODE[problem.code]), None
    if problem.offset is not None:
        end = min(problem.offset + 1, len(document.text))
        extent = min(problem.offset, end), end
    return Finding(
        rule, problem.path, problem.message, problem.at,
        hint=problem.hint, extent=extent, notes=problem.related,
    )  # fmt: skip


def _of_finding(document: Document, finding: Finding, tops: set[Path]) -> Diagnostic:
    rule, pointer = finding.rule, to_pointer(finding.path)
    return Diagnostic(
        code=rule.code,
        name=rule.name,
        severity=finding.severity or rule.severity,
        message=finding.message,
        pointer=pointer,
        span=document.span(*finding.extent)
        if finding.extent is not None
        # A finding on a whole block points at the block's key, not at all of its lines.
        else document.span_of(finding.path, "key" if finding.path in tops else finding.at),
        hint=finding.hint or rule.hint,
        related=tuple(
            Related(message, to_pointer(path), document.span_of(path, "value"))
            for path, message in finding.related
        )
        + tuple(
            Related(message, pointer, document.span(*extent)) for extent, message in finding.notes
        ),
        fix=_fix(document, finding),
    )


def _fix(document: Document, finding: Finding) -> Fix | None:
    remedy = finding.remedy
    if remedy is None:
        return None
    found = edit(document, remedy.change)
    if found is None:
        return None
    return Fix(remedy.description, (found,), remedy.is_safe, (remedy.change,))
