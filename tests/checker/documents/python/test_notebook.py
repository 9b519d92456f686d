"""The code of a notebook's cells is judged, and places and edits are those of the file."""

from __future__ import annotations

import json

import pytest
from contract_fixes import fix, inspect
from contract_reports import parse

from adalora_core.checker.documents.python.lexical import comments, without_magics
from adalora_core.checker.reports import FORMATS, Outcome, render

ENOUGH = "target_r=8, target_modules=['q_proj'], tfinal=200, total_step=1000"
CALL = f"AdaLoraConfig(\n    init_r='12',  # \"é\"\n    {ENOUGH},\n)\n"


def _notebook(*sources, indent=1, lists=True, **more):
    cells = [
        {
            "cell_type": "markdown" if source.startswith("# ") else "code",
            "source": source.splitlines(keepends=True) if lists else source,
            "outputs": [{"text": ["AdaLoraConfig(init_r='12')\n"]}],
        }
        for source in sources
    ]
    return json.dumps({"cells": cells, "nbformat": 4, **more}, indent=indent, ensure_ascii=False)


def _report(text):
    return inspect(text, "notebook").report


def _cells(report):
    return [
        (d.code, d.span.cell.number, d.span.cell.start_line, d.span.cell.start_column)
        for d in report.diagnostics
    ]


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("indent", [1, None])
def test_place_is_that_of_the_cell_and_of_the_file(lists, indent):
    text = _notebook("# title", "x = 1", f"\ny = 'é'\n{CALL}", lists=lists, indent=indent)
    report = _report(text)
    assert _cells(report) == [("ADA102", 3, 4, 12)]
    span = report.diagnostics[0].span
    assert text[span.start : span.end] == "'12'"
    assert span.cell.source == "    init_r='12',  # \"é\""
    assert span.start_line == text[: span.start].count("\n") + 1
    assert (span.cell.end_line, span.cell.end_column) == (4, 16)


def test_escaped_characters_keep_places_right():
    text = _notebook("s = '😀\\t'; AdaLoraConfig(init_r=\"12\", " + ENOUGH + ")")
    for written in (text, json.dumps(json.loads(text)), text.replace("init_r", "\\u0069nit_r")):
        report = _report(written)
        assert _cells(report) == [("ADA102", 1, 1, 33)]
        span = report.diagnostics[0].span
        assert written[span.start : span.end] == '\\"12\\"'
        fixed = fix(written, "notebook").document.raw.decode()
        assert fixed == written.replace('\\"12\\"', "12")


def test_names_of_one_cell_are_known_in_the_next():
    text = _notebook("RANK = '12'", f"AdaLoraConfig(init_r=RANK, {ENOUGH})")
    assert _cells(_report(text)) == [("ADA102", 2, 1, 22)]


def test_fix_changes_nothing_outside_of_the_value():
    text = _notebook("# AdaLoraConfig(init_r='12')", CALL, "'12'")
    fixed = fix(text, "notebook").document.raw.decode()
    before, after = text.split("    init_r='12'")
    assert fixed == f"{before}    init_r=12{after}"


def test_comment_suppresses_in_its_cell_only():
    comment = "init_r='12',  # adalora: ignore[ADA102] -"
    text = _notebook(CALL.replace("init_r='12',  #", comment), CALL)
    for written in (text, _notebook(*json_sources(text), lists=False, indent=None)):
        report = _report(written)
        assert _cells(report) == [("ADA102", 2, 2, 12)]
        assert len(report.suppressed) == 1
    unused = _notebook(f"# t\nAdaLoraConfig(init_r=12, {ENOUGH})  # adalora: ignore[ADA102]"[4:])
    (diagnostic,) = _report(unused).diagnostics
    assert "at line 1 of cell 1" in diagnostic.message


def json_sources(text):
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"]]


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_names_the_cell(format_):
    report = _report(_notebook("# title", CALL))
    shown = render(Outcome((report,)), format_)
    parse(shown, format_)
    names = {
        "full": "file:cell 2:2:12",
        "concise": "file:cell 2:2:12: error[ADA102]",
        "github": "::cell 2, line 2: ",
        "gitlab": '"description": "cell 2, line 2: ',
    }
    if format_ in names:
        assert names[format_] in shown
    elif format_ == "sarif":
        (result,) = json.loads(shown)["runs"][0]["results"]
        properties = result["locations"][0]["properties"]
        assert properties == {"cell": 2, "line": 2, "column": 12}
    else:
        found = json.loads(shown)["reports"][0]["diagnostics"][0]
        assert found["span"]["cell"] == {
            "number": 2,
            "start": {"line": 2, "column": 12},
            "end": {"line": 2, "column": 16},
        }


def test_excerpt_shows_the_line_of_code():
    shown = render(Outcome((_report(_notebook("# title", CALL)),)), "full")
    assert " 2 |     init_r='12',  # \"é\"\n   |            ^^^^\n" in shown


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("!ls", "0  "),
        ("%cd x\ny = 1", "0    \ny = 1"),
        ("if x:\n    !ls -l\n", "if x:\n    0     \n"),
        ("!pip \\\n  install\nx", "0     \n         \nx"),
        ("x = !ls", "x = 0  "),
        ("x = %who", "x = 0   "),
        ("model?", "0     "),
        ("?model", "0     "),
        ("%time f(1)", "if 1: f(1)"),
        ("%%x", "0  "),
        ("x = (a\n  % b)", None),
        ("x = '''\n!ls\n'''", None),
        ("# it's\n!ls", "# it's\n0  "),
        ("x = '('\n!ls", "x = '('\n0  "),
        ("x = a % b", None),
        ("x = a != b", None),
        ("x = {'a': 1} if y else '%s'", None),
    ],
)  # fmt: skip
def test_lines_of_ipython_are_replaced_in_their_length(code, left):
    found = without_magics(code)
    assert len(found) == len(code)
    if left is None:
        assert found == code
    else:
        assert " ".join(found.split()) == " ".join(left.split())
        assert found.count("\n") <= code.count("\n")


def test_cells_of_other_languages_are_left_out_and_written_scripts_are_read():
    call = f"AdaLoraConfig(init_r='12', {ENOUGH})"
    for magic in ("%%bash", "%%writefile notes.md", "%%javascript", "%%html"):
        assert [d.code for d in _report(_notebook(f"{magic}\n{call}")).diagnostics] == ["ADA006"]
    python = ("%%time", "%%capture out", "%%writefile train.py", "%%debug", "%%file 'train.py'")
    for magic in (*python, "%%script --bg /usr/bin/python3 -u"):
        assert _cells(_report(_notebook(f"{magic}\n{call}"))) == [("ADA102", 1, 2, 22)]


@pytest.mark.parametrize(
    ("metadata", "is_read"),
    [
        ({"language_info": {"name": "R"}}, False),
        ({"kernelspec": {"name": "ir", "language": "R"}}, False),
        ({"language_info": {"name": "R"}, "kernelspec": {"name": "x", "language": "python"}}, True),
        ({"language_info": {"name": "R"}, "kernelspec": {"name": "python3"}}, True),
        ({"kernelspec": {"name": "mine"}}, True),
    ],
)
def test_notebook_that_a_kernel_of_python_may_run_is_read(metadata, is_read):
    (diagnostic,) = _report(_notebook(CALL, metadata=metadata)).diagnostics
    assert diagnostic.code == ("ADA102" if is_read else "ADA006")


def test_broken_cell_is_a_finding_only_if_it_is_about_adalora():
    assert _cells(_report(_notebook("def f(", CALL))) == [("ADA102", 2, 2, 12)]
    found = _cells(_report(_notebook(CALL, "\nAdaLoraConfig(init_r=12,,)")))
    assert found == [("ADA102", 1, 2, 12), ("ADA001", 2, 2, 25)]


def test_large_notebook_is_advised_to_clear_its_outputs():
    (diagnostic,) = _report(_notebook(CALL, metadata={"x": "y" * 5_000_000})).diagnostics
    assert (diagnostic.code, diagnostic.hint.split(",")[0]) == (
        "ADA005",
        "clear the outputs of the notebook",
    )


def test_comments_are_found_outside_of_strings_only():
    code = "x = '#' # a\n'''\n# b\n''' # c\n\"\\\"#\" # d\nr'\\' # e'\n# f"
    assert [code[slice(*each)] for each in comments(code)] == ["# a", "# c", "# d", "# f"]
