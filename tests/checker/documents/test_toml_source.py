"""TOML: the standard parser's values, with positions."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adalora_core.checker.check import check_config
from adalora_core.checker.documents.toml_source import decode

TEXT = '''\
# a comment = [1]
title = """
[not.a.table]"""
[model.peft]      # the block
peft_type = "ADALORA"
"target_modules" = ["q_proj", 3,  # a comment ]
  'v_proj',
]
beta1=2 # too large
init_r = 12
target_r = 8
optimizer.lr = 1e-3
extra = { a = 1, "b c" = [1, {d = 2}] }
total_step = 1_000

[[run]]
tinit = 1
[[run]]
peft = { peft_type = "ADALORA", deltaT = 0 }
[run.nested]
peft_type = "ADALORA"
beta1 = 3
'''


def _marked(diagnostic):
    return TEXT[diagnostic.span.start : diagnostic.span.end]


def test_wrong_values_in_a_table_are_marked():
    report = check_config(TEXT, format="toml", key="/model/peft")
    found = {d.pointer: d for d in report.diagnostics}
    assert _marked(found["/model/peft/target_modules/1"]) == "3"
    assert found["/model/peft/target_modules/1"].span.start_line == 6
    assert (_marked(found["/model/peft/beta1"])) == "2"
    assert _marked(found["/model/peft/optimizer"]) == "optimizer"
    assert _marked(found["/model/peft/extra"]) == "extra"


def test_wrong_value_in_an_array_of_tables_is_marked_in_the_right_one():
    report = check_config(TEXT, format="toml", key="/run/1/peft")
    finding = next(d for d in report.diagnostics if d.code == "ADA204")
    assert (_marked(finding), finding.span.start_line) == ("0", 19)


def test_wrong_value_in_a_table_of_the_last_array_element_is_marked():
    report = check_config(TEXT, format="toml", key="/run/1/nested")
    finding = next(d for d in report.diagnostics if d.code == "ADA103")
    assert (_marked(finding), finding.span.start_line) == ("3", 22)


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a = 1\na = 2\n", "ADA002", 2),
        ("[t]\nx = 1\n[t]\n", "ADA002", 3),
        ("a = {b = 1, b = 2}", "ADA002", 1),
        ("a = 1\nb = \n", "ADA001", 2),
        ("a = 1 b = 2", "ADA001", 1),
        ('a = "', "ADA001", 1),
        ("  \n", "ADA009", 1),
    ],
)
def test_text_that_cannot_be_read_gets_one_finding(text, code, line):
    (finding,) = check_config(text, format="toml").diagnostics
    assert (finding.code, finding.span.start_line) == (code, line)


_keys = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=5)
_scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | _keys | st.dates()
_tables = st.recursive(
    st.dictionaries(_keys, _scalars, max_size=3),
    lambda inner: st.dictionaries(
        _keys, _scalars | st.lists(_scalars | inner, max_size=3) | inner, max_size=3
    ),
    max_leaves=8,
)


def _quoted(text):
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _inline(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[ {' , '.join(map(_inline, value))} ]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_quoted(k)} = {_inline(v)}' for k, v in value.items())} }}"
    return str(value)


def _dump(table, path=()):
    lines = [f"{_quoted(k)} = {_inline(v)}" for k, v in table.items() if not isinstance(v, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines.append(f"[{' . '.join(map(_quoted, (*path, key)))}] # [x]")
            lines += _dump(value, (*path, key))
    return lines


@given(_tables)
def test_every_value_located_is_the_text_that_parses_to_it(table):
    text = "\n".join(_dump(table)) + "\n# end"
    document = decode(text)
    assert document.value == table
    paths = [((), table)]
    while paths:
        path, node = paths.pop()
        if isinstance(node, dict):
            paths += [((*path, key), entry) for key, entry in node.items()]
            continue
        start, end = document.locator.locate(path, "value")
        assert tomllib.loads(f"x = {text[start:end]}")["x"] == node
        if isinstance(node, list):
            paths += [((*path, index), entry) for index, entry in enumerate(node)]
        elif isinstance(path[-1], str):
            start, end = document.locator.locate(path, "key")
            assert tomllib.loads(f"{text[start:end]} = 1") == {path[-1]: 1}
