"""Positions in JSON, and the messages about text that is not JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adalora_core.checker.check import check_config
from adalora_core.checker.documents.json_source import decode

TEXT = """{
  "peft_type": "ADALORA",
\t"target_modules" : [ "q_proj",
    3 ],
  "\\u0069nit_r": "12", "note": "\U0001f600", "beta1": 2, "total_step": 100, "tfinal": 9
}
"""


def _found(text, code):
    return next(d for d in check_config(text).diagnostics if d.code == code)


def _marked(text, span):
    return text[span.start : span.end]


def test_wrong_type_found_marks_value_with_line_and_column():
    finding = next(d for d in check_config(TEXT).errors if d.pointer == "/init_r")
    assert _marked(TEXT, finding.span) == '"12"'
    assert (finding.span.start_line, finding.span.start_column) == (5, 18)
    assert (finding.span.end_line, finding.span.end_column) == (5, 22)


def test_wrong_entry_of_a_list_found_marks_the_entry():
    finding = next(d for d in check_config(TEXT).errors if d.pointer == "/target_modules/1")
    assert (_marked(TEXT, finding.span), finding.span.start_line) == ("3", 4)


def test_finding_on_a_key_marks_the_key_and_columns_count_code_points():
    finding = _found(TEXT, "ADA104")
    assert _marked(TEXT, finding.span) == '"note"'
    beta = _found(TEXT, "ADA103")
    assert _marked(TEXT, beta.span) == "2"
    assert beta.span.start_column == TEXT.splitlines()[4].index('"beta1"') + 1 + len('"beta1": ')


def test_finding_on_an_absent_key_marks_the_head_of_the_block():
    text = '  {"peft": {"peft_type": "ADALORA"}}'
    report = check_config(text, key="/peft")
    finding = next(d for d in report.diagnostics if d.code == "ADA201")
    assert _marked(text, finding.span) == '"peft"'


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_numbers_count_every_kind_of_line_end(newline):
    text = json.dumps({"a": 1, "beta1": 2}, indent=1).replace("\n", newline)
    assert _found(text, "ADA103").span.start_line == 3


def test_repeated_key_found_names_all_its_places_and_the_last_value_is_judged():
    text = '{"total_step": -1,\n "total\\u005fstep": 100, "peft_type": "ADALORA", "deltaT": 1}'
    report = check_config(text)
    finding = _found(text, "ADA002")
    assert (finding.span.start_line, finding.related[0].span.start_line) == (2, 1)
    assert not any(d.code == "ADA201" for d in report.diagnostics)


@pytest.mark.parametrize(
    ("text", "phrase", "column"),
    [
        ('{"a": 1,}', "a comma before the closing bracket", 8),
        ("{'a': 1}", "double quotes", 2),
        ('{"a": True}', "True is Python", 7),
        ('{"a": 1 // x\n}', "no comments", 9),
        ('{"a": 1} {"b": 2}', "there is text after the document", 10),
        ('{"a": ', "ends too early", 7),
        ('{"a" 1}', "not valid JSON", 6),
        ('{"a": [1] \n "b": 1}', "a comma is missing", 10),
        ("a/run.yaml", "a str is content; to check a file, pass pathlib.Path('a/run.yaml')", 1),
        ("/srv/a b.json", "the text is the name of a file", 1),
    ],
)
def test_text_that_is_not_json_is_explained_at_its_position(text, phrase, column):
    (finding,) = check_config(text).diagnostics
    assert finding.code == "ADA001"
    assert phrase in f"{finding.message}; {finding.hint}"
    assert finding.span.start_column == column


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_VALUES, st.sampled_from([None, 1]))
def test_every_value_located_is_the_text_that_decodes_to_it(value, indent):
    text = json.dumps(value, indent=indent)
    document = decode(text)
    assert document.value == value
    paths = [((), value)]
    while paths:
        path, node = paths.pop()
        start, end = document.locator.locate(path, "value")
        assert json.loads(text[start:end]) == node
        if isinstance(node, dict):
            for key, entry in node.items():
                start, end = document.locator.locate((*path, key), "key")
                assert json.loads(text[start:end]) == key
                paths.append(((*path, key), entry))
        elif isinstance(node, list):
            paths += [((*path, index), entry) for index, entry in enumerate(node)]


_HEAD = {
    "json": '{"a": 1, "b": ',
    "yaml": "a: it's # [\nb: ",
    "toml": 'a = """\n[ """\nb = ',
    "python": "'''\n(['''\nf(",
}
_AFTER = {
    "json": '\n "c": {"d": 3}}',
    "yaml": "\nc: {d: 3}\n",
    "toml": "\nc = [3]\n",
    "python": ")\n",
}


@pytest.mark.parametrize("format_", _HEAD)
@pytest.mark.parametrize("inside", ['["x", "]", "y"', '["x", ["y"], "it\'s"'])
def test_bracket_that_was_not_closed_is_marked_and_the_place_that_shows_it_is_noted(
    format_, inside
):
    text = f"{_HEAD[format_]}{inside},{_AFTER[format_]}"
    (finding,) = check_config(text, format=format_).diagnostics
    assert (finding.code, finding.span.start) == ("ADA001", len(_HEAD[format_]))
    assert finding.message.endswith(": `[` is never closed")
    assert finding.hint == "close it with ]"
    assert finding.related[0].span.start > finding.span.start


@pytest.mark.parametrize(
    ("format_", "text", "marked"),
    [("yaml", 'b: ["x"\n  "y"]', '"y"'), ("json", '{"b": ["x"\n "y"]}', "\n")],
)
def test_closed_brackets_leave_the_mark_where_a_comma_is_missing(format_, text, marked):
    (finding,) = check_config(text, format=format_).diagnostics
    assert (finding.code, finding.span.start) == ("ADA001", text.index(marked))
