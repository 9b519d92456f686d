"""Test what is accepted as a suppressing comment, whatever a check reports."""

from __future__ import annotations

import ast
import dataclasses

import pytest

from adalora_core.checker.documents import decode
from adalora_core.checker.pipeline import CheckOptions
from adalora_core.checker.pipeline.baseline import add_ignores
from adalora_core.checker.pipeline.inspection import examine
from adalora_core.floor.limits import DEFAULT_LIMITS

TEXT = 'from peft import AdaLoraConfig\nc = AdaLoraConfig(total_step=9, tfinal=20, a=f("""\n"""))\n'
"""A comment at the end of the second line would be inside of the string."""


def _examined(text):
    document = decode(text.encode(), "python", DEFAULT_LIMITS)
    return examine(document, "a.py", CheckOptions(), key=None, layout=None, is_optional=False)


def _with(diagnostics):
    """Return a check that finds something fixed."""

    def examined(text):
        found = _examined(text)
        return dataclasses.replace(
            found, report=dataclasses.replace(found.report, diagnostics=tuple(diagnostics))
        )

    return examined


def test_text_in_a_string_is_no_comment_even_if_its_finding_is_gone():
    found = add_ignores(_examined(TEXT), _with([]))
    assert "# adalora: ignore[" in found.document.text
    assert ast.dump(ast.parse(found.document.text)) == ast.dump(ast.parse(TEXT))


@pytest.mark.parametrize("times", [1, 2])
def test_comment_that_leaves_its_finding_or_makes_another_is_not_written(times):
    before = _examined(TEXT)
    assert before.report.diagnostics
    found = add_ignores(before, _with(before.report.diagnostics * times))
    assert found.document.text == TEXT
