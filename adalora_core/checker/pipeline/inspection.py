"""Examine decoded documents: find configurations, run the rules, locate the findings.

`examine` serves the API and the command. `Inspector` selects, suppresses and fixes findings in the
files of one run.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from adalora_core.checker.documents import decode, edit, excess_of, searchable
from adalora_core.checker.documents.document import CODE, SUFFIXES, Document, Format, format_of
from adalora_core.checker.documents.problems import (
    BOUND_EXCEEDED,
    SYNTAX_ERROR,
    Problem,
    beyond,
)
from adalora_core.checker.pipeline import CheckOptions
from adalora_core.checker.pipeline.discovery import (
    file_findings,
    find_blocks,
    has_state,
    is_empty_config,
    is_untyped,
)
from adalora_core.checker.pipeline.suppression import Selection, suppress
from adalora_core.checker.reports import Examined, Report
from adalora_core.checker.rules import BY_CODE, findings, usage_findings, with_document
from adalora_core.config.fields.block import Block
from adalora_core.config.fields.table import DISTINCTIVE_FIELDS, PEFT_TYPE
from adalora_core.config.fields.tools import Layout
from adalora_core.config.findings import ConflictError, Diagnostic, Fix, Related
from adalora_core.config.rules import with_causes
from adalora_core.config.rules.base import Finding
from adalora_core.config.rules.rank_patterns import RankPatternSum
from adalora_core.floor.places import Path as Steps
from adalora_core.floor.places import Span, to_pointer

_DISTINCTIVE = "|".join(sorted(DISTINCTIVE_FIELDS))
_ADALORA_WORDS = re.compile(rf"adalora|\b(?:{_DISTINCTIVE})\b", re.IGNORECASE | re.ASCII)
"""Every text that holds an AdaLoRA configuration contains one of these."""
_LORA_WORDS = re.compile(r"\bq?lora", re.IGNORECASE | re.ASCII)
"""Every text that holds a configuration of plain LoRA contains one of these."""
_LOADS_PEFT = re.compile(r"Peft\w+\.from")
_PEFT_WORDS = re.compile(rf"\b(?:peft_type|{_DISTINCTIVE})\b", re.IGNORECASE)
"""A damaged text without any of these is not taken for a configuration: a manifest or a script may
mention AdaLoRA too."""
_CODE_WORDS = re.compile(r"AdaLoraConfig\s*\(|\bupdate_and_allocate\b")
"""Damaged code without any of these is not reported: it may be a template, or of another Python."""


_SHELL = frozenset({".sh", ".bash", ".zsh"})
_OTHER_BYTES = "its encoding would write other bytes of the file anew; save it as UTF-8"


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
            if key is None and any(is_untyped(name, block) for block in found):
                blocks = (Block(document.value, (), options, root=document.value),)
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
    in_blocks = _findings(blocks, options, room + 1)
    beside = chain(usage_findings(document), file_findings(name, blocks))
    found = with_document(document, list(islice(chain(in_blocks, beside), room + 1)))
    if any(each.rule is RankPatternSum for each in found) and has_state(name):
        found = [each for each in found if each.rule is not RankPatternSum]
    if len(problems) > limit or len(found) > room:
        more = f"the document has more than {limit} findings; the rest is not shown"
        problems = [*problems[:limit], beyond(more)]
    tops = {block.path for block in blocks}
    diagnostics = [
        _of_finding(document, finding, tops)
        for finding in (*(_found(document, problem) for problem in problems), *found[:room])
    ]
    if document.script is not None:
        diagnostics = _merged(diagnostics)
    first = blocks[0] if blocks else None
    tool = first.tool if first else None
    return Report(
        tuple(sorted(diagnostics, key=lambda diagnostic: diagnostic.sort_key)),
        source=name,
        text=document.text if document.is_text else None,
        runtime=options.runtime,
        block=None if first is None else {**(tool.defaults if tool else {}), **first.values},
        places=tuple(dict.fromkeys(to_pointer(block.path) for block in blocks)),
        unjudged=sum(1 for block in blocks if block.deferred and not block.values),
        is_whole=first is not None
        and sum(each.method == first.method for each in blocks) == 1
        and not first.deferred
        and (tool is None or tool.total_step == "from the file"),
        has_script=document.is_about_adalora,
        method=PEFT_TYPE if first is None else first.method,
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


def _findings(blocks: Iterable[Block], options: CheckOptions, most: int) -> Iterator[Finding]:
    def judge(block: Block) -> Iterable[Finding]:
        return chain(findings(block), () if options.policy is None else options.policy.check(block))

    seen = set()
    for block in blocks:
        for finding in with_causes(block, list(islice(judge(block), most)), judge):
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
        hint=problem.hint, extent=extent, notes=problem.related, remedy=problem.remedy,
    )  # fmt: skip


def _of_finding(document: Document, finding: Finding, tops: set[Steps]) -> Diagnostic:
    rule, pointer = finding.rule, to_pointer(finding.path)
    cause = None
    if finding.cause is not None:
        above = _of_finding(document, finding.cause, tops)
        cause = Related(f"follows from {above.code} here", above.pointer, above.span, above.code)
        finding = replace(finding, hint=above.hint)
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
        )
        + (() if cause is None else (cause,)),
        fix=_fix(document, finding),
    )


def _fix(document: Document, finding: Finding) -> Fix | None:
    remedy = finding.remedy
    found = None if remedy is None else edit(document, remedy.change)
    if remedy is None or found is None:
        return None
    return Fix(remedy.description, (found,), remedy.is_safe, (remedy.change,))


@dataclass(frozen=True, slots=True)
class Inspector:
    """The settings of one run, applied to each file.

    Args:
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
        is_optional = not (was_named or is_empty_config(raw, name)) or self.ignore_unmatched
        read_as = self.format_of(name)
        is_code = read_as in CODE
        searched = searchable(raw, read_as) if is_optional else ""
        mentions_adalora = not is_optional or _mentions_adalora(searched, is_code=is_code)
        if not (mentions_adalora or _mentions_lora(searched, is_code=is_code)):
            return None
        found = self._examined(raw, name, is_optional=is_optional)
        report, words = found.report, _CODE_WORDS if is_code else _PEFT_WORDS
        is_wanted = bool(report.has_script and (report.diagnostics or report.suppressed))
        if found.document.fatal:
            is_wanted = bool(mentions_adalora and words.search(searched))
        return found if not is_optional or report.block is not None or is_wanted else None

    def beyond(self, name: str, reason: str) -> Report:
        """Return the report on a file whose check exceeds a bound; no option suppresses it."""
        rule = BY_CODE[BOUND_EXCEEDED]
        message = f"the check of the file {reason}"
        found = Diagnostic(rule.code, rule.name, rule.severity, message, "", hint=rule.hint)
        return Report((found,), name, runtime=self.check.runtime)

    def fix(
        self,
        found: Examined,
        name: str,
        *,
        was_named: bool,
        unsafe: bool,
        only: Diagnostic | None = None,
    ) -> Examined:
        """Apply the fixes that can be made, or one alone, and return the document with its report.

        `unsafe` fixes change the meaning to what was probably meant.
        """
        if only is not None:
            found = _with_findings(found, only)
        if not any(diagnostic.fix for diagnostic in found.report.diagnostics):
            return found
        from adalora_core.checker.pipeline.fixing import fix

        again = self._examiner(found, name, was_named=was_named, keeps_findings=only is None)
        return fix(found, again, unsafe=unsafe)

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
            if mark + found.document.text.encode(encoding, errors) != found.document.raw:
                raise ConflictError(_OTHER_BYTES)
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
            document = replace(document, problems=problems)
        found = examine(
            document, name, self.check, key=self.key, layout=self.layout,
            is_optional=is_optional, tries_fixes=tries_fixes,
        )  # fmt: skip
        report = found.report
        if self.reads_comments and document.format != "json":  # JSON has no comments
            report = suppress(document, report, self.is_active)
        return replace(found, report=self.selection.apply(report))

    def is_active(self, code: str) -> bool:
        """Return whether this run checks the rule with this code."""
        option = BY_CODE[code].needs_option
        is_asked_for = option is None or getattr(self.check, option) is not None
        return is_asked_for and code in self.selection.codes


def _mentions_adalora(text: str, *, is_code: bool) -> bool:
    if not is_code:
        return _ADALORA_WORDS.search(text) is not None
    letters = text.encode("ascii", "ignore").lower()  # ten times as fast as of other letters
    return b"adalora" in letters or b"update_and_allocate" in letters


def _mentions_lora(text: str, *, is_code: bool) -> bool:
    if not is_code:
        return _LORA_WORDS.search(text) is not None
    return "LoraConfig" in text or ("Peft" in text and _LOADS_PEFT.search(text) is not None)


def _with_format(problem: Problem, name: str, raw: bytes) -> Problem:
    """Return a problem; if the suffix names no format, its hint names the option that does."""
    suffix = Path(name).suffix
    if suffix in _SHELL:
        hint = "check the file of settings that the command is given"
        return replace(problem, message="a script of a shell is not read", hint=hint)
    if problem.code != SYNTAX_ERROR or suffix.lower() in SUFFIXES or raw.lstrip()[:1] in b"{[":
        return problem
    hint = f"the suffix {suffix!r} names no format, so this is read as JSON; name one by --format"
    return replace(problem, message="not valid JSON", hint=hint)


def _with_findings(found: Examined, *diagnostics: Diagnostic) -> Examined:
    """Return a document with these findings in the place of its own."""
    return replace(found, report=replace(found.report, diagnostics=diagnostics))
