"""Write JUnit's XML, which nearly every CI service shows as test results."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from adalora_core.checker.reports.text import place
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from adalora_core.checker.reports import Notice, Outcome
    from adalora_core.config.findings import Checked, Diagnostic

# Characters that XML forbids, even if escaped.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def render(outcome: Outcome) -> str:
    """Write one suite per document or failure, and one case per finding.

    A finding at or above the fail level is a failure, any other a passed case with an output. A
    document without findings is one passed case: the results show that it was checked.
    """
    top = ET.Element("testsuites", name="adalora check")
    totals = [0, 0]
    for report in outcome.reports:
        cases = len(report.diagnostics) or 1
        failures = sum(d.severity in outcome.failing for d in report.diagnostics)
        suite = ET.SubElement(top, "testsuite", name=_text(place(report, None)))
        _count(suite, cases, failures)
        if not report.diagnostics:
            _case(suite, report, "adalora check")
        for diagnostic in report.diagnostics:
            _finding(suite, report, diagnostic, is_failure=diagnostic.severity in outcome.failing)
        totals = [totals[0] + cases, totals[1] + failures]
    for notice in outcome.failures:
        _failure(top, notice)
    _count(top, totals[0] + len(outcome.failures), totals[1], len(outcome.failures))
    ET.indent(top)
    text = ET.tostring(top, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _count(element: ET.Element, tests: int, failures: int, errors: int = 0) -> None:
    element.set("tests", str(tests))
    element.set("failures", str(failures))
    element.set("errors", str(errors))


def _failure(top: ET.Element, notice: Notice) -> None:
    """Write what could not be checked as an error of a test."""
    name = _text(notice.source or "adalora check")
    suite = ET.SubElement(top, "testsuite", name=name)
    _count(suite, 1, 0, 1)
    case = ET.SubElement(suite, "testcase", name="adalora check", classname=name, time="0")
    ET.SubElement(case, "error", type="not-checked", message=_text(notice.message))


def _case(suite: ET.Element, report: Checked, name: str) -> ET.Element:
    file = _text(place(report, None))
    return ET.SubElement(suite, "testcase", name=name, classname=file, file=file, time="0")


def _finding(
    suite: ET.Element, report: Checked, diagnostic: Diagnostic, *, is_failure: bool
) -> None:
    pointer = f" {diagnostic.pointer}" if diagnostic.pointer else ""
    case = _case(suite, report, _text(f"{diagnostic.code} {diagnostic.name}{pointer}"))
    if diagnostic.span is not None:
        case.set("line", str(diagnostic.span.start_line))
    lines = [f"{place(report, diagnostic.span)}: {diagnostic.severity}: {diagnostic.message}"]
    lines += [f"note: {r.message} ({place(report, r.span)})" for r in diagnostic.related]
    lines += [f"hint: {diagnostic.hint}"] if diagnostic.hint else []
    body = "\n".join(_text(line) for line in lines)
    if is_failure:
        message = _text(diagnostic.message)
        found = ET.SubElement(case, "failure", type=diagnostic.code, message=message)
    else:
        found = ET.SubElement(case, "system-out")
    found.text = body


def _text(text: str) -> str:
    return _FORBIDDEN.sub("?", visible(text))
