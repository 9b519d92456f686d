"""YAML is read as PyYAML reads it, with positions and with ambiguous scalars reported."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from adalora_core.checker.check import check_config
from adalora_core.checker.documents.yaml_source import decode


def _found(text):
    return {d.code: d for d in check_config(text, format="yaml").diagnostics}


def _marked(text, diagnostic):
    return text[diagnostic.span.start : diagnostic.span.end]


_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")))
    | st.dates()
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc: -#1", max_size=4), inner),
)


@given(_values, st.sampled_from([None, True, False]))
def test_dumped_value_is_read_as_pyyaml_reads_it(value, flow):
    text = yaml.safe_dump({"top": value}, default_flow_style=flow, allow_unicode=True)
    document = decode(text)
    assert not document.problems
    assert document.value == yaml.safe_load(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1e-4\nb: 12e3\nc: 1.5e+4\nd: 010\ne: 1_000\nf: 1:30\ng: on\nh: 0o10\ni: ~\nj: .inf",
        "a: !!float '8'\nb: !!str 8\nc: ! 8\nd: !!int '0x10'\nf: '1'\ng: \"x\\ny\"",
        "base: &b {x: 1, y: 2}\none:\n  <<: *b\n  x: 3\ntwo:\n  y: 4\n  <<: [*b, {z: 5, x: 9}]",
        "a: &a [1, {b: *c}]\n".replace("*c", "2") + "d: [*a, *a]\n",
        "- - 1\n  - 2\n-\n- x: |\n    text\n",
        "? a\n: 1\n? b\n",
        "{}",
        "3",
    ],
)
def test_form_of_yaml_is_read_as_pyyaml_reads_it(text):
    assert decode(text).value == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "code", "phrase"),
    [
        ("base: &a {<<: {? &k total_step : 0}, *k : 1000}\npeft: {<<: *a}", "ADA002", "total_step"),
        ("a: &a {r: 1}\nb: &b {<<: *a, r: 2}\nc: {<<: *b}", "ADA002", "'r' is merged with two"),
        ("c: {<<: [{rr: 1}, {rr: 2}]}", "ADA002", "'rr' is merged with two values"),
        ("c: {<<: {r: 1}, <<: {r: 2}}", "ADA002", "'r' is merged with two values"),
        ("a: <<", "ADA608", "merge"),
        ("- <<", "ADA608", "merge"),
        ("a: =", "ADA608", "value"),
        ("!!map [1]", "ADA608", "map"),
        ("!!seq {a: 1}", "ADA608", "seq"),
        ("a: &x 1\nb: &x 2", "ADA001", "found duplicate anchor 'x'"),
        ("\ufeff\ufeffa: 1", "ADA001", "a second byte order mark"),
        ("a: x\ty", "ADA001", "found character '\\t'"),
        ("a: !!int%00 5", "ADA608", "int\\x00"),
        (f"a: !{'x' * 300} 5", "ADA005", "a tag has more than 256 signs"),
        ("a: &a {r: 1}\nb: &b {<<: *a, !!null r: 2}\nc: {<<: *b}", "ADA002", "None is merged"),
        ("a: |#\n x", "ADA001", "expected chomping or indentation indicators"),
        (f"a: 0x{'F' * 4000}", "ADA005", "an integer has too many digits"),
        (f"a: {'9' * 4400}", "ADA005", "an integer has too many digits"),
    ],
)
def test_text_that_pyyaml_refuses_or_reads_by_its_release_gets_a_finding(text, code, phrase):
    assert phrase in _found(text)[code].message


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {rr: 1, x: 1}\nb: &b {<<: *a, rr: 2}\nc: {<<: *b, y: 2}",
        "c: {<<: [{rr: 1}, {rr: 1}], r: 3}",
        "a: &a {r: 1}\nc: {<<: *a, r: 2}",
        "a: 'x\ty' #\tc\nb: \"\t\"\nc: |\n x\ty\n",
        "=: 1",
        "a: {!!mer%67e : {x: 2}, !<tag:yaml.org,2002:merge> y: {z: 3}}",
        "%FOO x\n---\na: {b:}",
        "---\n\ufeffa: 1",
        "a: !\nb: ! '8'",
        "a: \ufeffx # \ufeff",
        "a: x?\n? b\n: [c, {d: 1}]",
    ],
)
def test_merges_blanks_and_signs_that_all_read_alike_are_no_fault(text):
    document = decode(text)
    assert not document.problems
    assert document.value == yaml.safe_load(text)


TEXT = """\
# a comment: 1
peft_type: ADALORA
target_modules:
  - q_proj
  - 3
common: &common
  init_r: 4
"beta1" : 2   # too large
init_r: 12
target_r: 8
tfinal: 9
total_step: 100
"""


def test_wrong_values_found_are_marked_without_comment_and_quotes_kept():
    found = _found(TEXT)
    assert _marked(TEXT, found["ADA102"]) == "3"
    assert found["ADA102"].pointer == "/target_modules/1"
    assert (_marked(TEXT, found["ADA103"]), found["ADA103"].span.start_line) == ("2", 8)
    assert _marked(TEXT, found["ADA104"]) == "common"


def test_value_merged_from_an_anchor_is_marked_where_it_is_written():
    text = "base: &b\n  deltaT: 0\npeft:\n  <<: *b\n  peft_type: ADALORA\n  total_step: 10\n"
    report = check_config(text, format="yaml", key="/peft")
    finding = next(d for d in report.diagnostics if d.code == "ADA204")
    assert (_marked(text, finding), finding.span.start_line) == ("0", 2)


def test_alias_as_the_block_is_marked_at_its_site():
    text = "base: &b {peft_type: ADALORA, deltaT: 3}\npeft: *b\n"
    report = check_config(text, format="yaml", key="/peft")
    finding = next(d for d in report.diagnostics if d.code == "ADA201")
    assert (_marked(text, finding), finding.span.start_line) == ("peft", 2)


@pytest.mark.parametrize(
    ("line", "code", "hint"),
    [
        ("beta1: 1e-1", "ADA601", "write 1.0e-1"),
        ("orth_reg_weight: 2.e1", "ADA601", "write 2.0e+1"),
        ("tinit: 010", "ADA602", "decimal"),
        ("tinit: 0o10", "ADA602", "decimal"),
        ("inference_mode: yes", "ADA603", "write true"),
        ("tinit: 1:30", "ADA604", "write 90"),
        ("revision: 2024-01-01", "ADA605", "quote"),
        ("total_step: 1_000", "ADA606", "write 1000"),
        ("3: x", "ADA607", "quote"),
    ],
)
def test_trap_in_a_field_is_named_with_the_spelling_that_all_read_alike(line, code, hint):
    found = _found(f"peft_type: ADALORA\n{line}\n")
    assert hint in found[code].hint
    assert "ADA102" not in found


def test_trap_outside_the_block_or_in_a_text_field_is_left_alone():
    text = "lr: 1e-4\npeft:\n  peft_type: ADALORA\n  revision: 1e5\n  total_step: 10\n"
    report = check_config(text, format="yaml", key="/peft")
    assert not [d for d in report.diagnostics if d.code.startswith("ADA6")]


@pytest.mark.parametrize(
    ("text", "code", "phrase"),
    [
        ("a: 1\n\tb: 2", "ADA001", "no tabs"),
        ("a: {{ name }}", "ADA001", "template"),
        ("a: [1", "ADA001", "not valid YAML"),
        ("a: 2024-13-45", "ADA001", "is not a valid timestamp"),
        ("a: !!float", "ADA001", "is not a valid float"),
        ("a: !!bool maybe", "ADA001", "is not a valid bool"),
        ("a: !!timestamp x", "ADA001", "is not a valid timestamp"),
        ("a: *b", "ADA001", "found undefined alias 'b'"),
        ("<<: 3", "ADA001", "expected a mapping or list of mappings for merging"),
        ("a: 1\n---\nb: 2", "ADA008", "second document"),
        ("# nothing", "ADA009", "empty"),
        ("--- \n", "ADA009", "empty"),
        ("a: \x07", "ADA004", "does not allow"),
    ],
)
def test_text_that_cannot_be_read_gets_one_finding(text, code, phrase):
    (finding,) = check_config(text, format="yaml").diagnostics
    assert finding.code == code
    assert phrase in f"{finding.message} {finding.hint}"


def test_python_tag_is_refused_and_never_run(tmp_path):
    text = f"revision: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n"
    assert "ADA608" in _found(text)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "is_about_indentation"),
    [
        ("a:\n  b: 1\n   c: 2\n", True),
        ("a:\n    b: 1\n  c: 2\n", True),
        ("a:\n  - b: 1\n   c: 2\n", True),
        ("a: 1\nb: c: 2\n", False),
        ("a: [1, 2\nb: 3\n", False),
    ],
)
def test_hint_on_a_fault_of_indentation_speaks_of_indentation(text, is_about_indentation):
    (finding,) = check_config(text, format="yaml").diagnostics
    assert ("indentation" in finding.hint) == is_about_indentation


@pytest.mark.parametrize("key", ["1", "~"])
def test_modules_as_a_mapping_with_other_keys_lose_no_other_finding(key):
    fields = ("target_modules", "exclude_modules", "modules_to_save")
    text = "".join(f"{name}: {{{key}: 1}}\n" for name in fields)
    found = _found(f"peft_type: ADALORA\ntotal_step: 0\n{text}")
    assert {"ADA102", "ADA201", "ADA607"} <= {*found}
