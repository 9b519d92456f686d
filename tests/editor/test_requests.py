"""Descriptions, fixes, proposals and the plan, asked for as an editor asks."""

from __future__ import annotations

import json

import pytest
from served_documents import (
    WRONG,
    applied,
    cell,
    json_text,
    line_of,
    opened_notebook,
    python_text,
)

from adalora_core.checker.check import check_config
from adalora_core.checker.rules import BY_CODE, page
from adalora_core.config.rules.base import SOUND


def column_of(text, part):
    return text.split("\n")[line_of(text, part)].index(part)


def hovered(server, uri, text, part, more=1):
    """Return what is shown over a part of an open document."""
    found = server.at("hover", uri, line_of(text, part), column_of(text, part) + more)
    return None if found is None else found["contents"]["value"]


def actions(server, uri, only=None, line=None, columns=(0, 9)):
    """Return the actions for a line, or for the whole document."""
    first, last = (0, 10_000) if line is None else (line, line)
    start, end = columns
    at = {"start": {"line": first, "character": start}, "end": {"line": last, "character": end}}
    context = {"diagnostics": []} | ({} if only is None else {"only": [only]})
    return server.request(
        "textDocument/codeAction",
        {"textDocument": {"uri": uri}, "range": at, "context": context},
    )


def labels(server, uri, text):
    """Return what is proposed at the mark `|` of a text, and the text with each proposal."""
    line = line_of(text, "|")
    column = text.split("\n")[line].index("|")
    server.open_text(uri, "any", text.replace("|", ""))
    found = server.at("completion", uri, line, column)
    whole = text.replace("|", "")
    return {each["label"]: applied(whole, [each["textEdit"]]) for each in found}


def test_hover_over_a_field_shows_type_default_and_use(server, new_uri):
    text = json_text(SOUND | {"use_rslora": False})
    uri = new_uri()
    server.open_text(uri, "json", text)
    shown = hovered(server, uri, text, '"tfinal"')
    assert "an integer; default `0`" in shown
    assert "a duration, not an end step" in shown
    assert "PEFT 0.21 reads it." in shown
    assert "ADA202" in shown
    ignored = hovered(server, uri, text, '"use_rslora"')
    assert "AdaLoRA ignores it" in ignored
    assert "added in PEFT 0.8.0" in ignored
    assert server.at("hover", uri, 0, 0) is None


@pytest.mark.parametrize("suffix", [".json", ".py"])
def test_hover_over_a_finding_shows_the_cause_the_field_and_the_page(server, new_uri, suffix):
    text = json_text(WRONG) if suffix == ".json" else python_text(WRONG)
    uri = new_uri(suffix)
    (found,) = server.open_text(uri, "any", text)
    number = text.split("\n")[line_of(text, "init_r")].index("8")
    shown = server.at("hover", uri, line_of(text, "init_r"), number)["contents"]["value"]
    cause, field, rest = shown.split("\n\n---\n\n")
    one, other = cause.split("\n\n")
    assert one.startswith("ADA302 ")
    assert other.startswith("What to do: ")
    assert one.removeprefix("ADA302 ") in found["message"]
    assert other.removeprefix("What to do: ") in found["message"]
    assert "Rank of every matrix at the start." in field
    rule = BY_CODE["ADA302"]
    assert rest == page(rule, with_examples=suffix == ".json")
    assert page(rule).startswith(rest)
    assert ("\nRight:\n" in rest) == (suffix == ".json")


def test_hover_quotes_a_hostile_value_as_text(server, new_uri):
    text = json_text(SOUND | {"bias": "![a](https://example.org/a.png)"})
    uri = new_uri()
    server.open_text(uri, "json", text)
    at = column_of(text, '"bias"') + len('"bias": "')
    contents = server.at("hover", uri, line_of(text, '"bias"'), at)["contents"]
    assert "'![a](https://example.org/a.png)'" in contents["value"]
    assert contents["kind"] == "plaintext"


def test_hover_in_a_cell(server, new_uri):
    uri = new_uri(".ipynb")
    first, second = f"{uri}#a", f"{uri}#b"
    text = python_text(SOUND)
    server.notify(
        "notebookDocument/didOpen", opened_notebook(uri, cell(first, "1"), cell(second, text))
    )
    assert "a duration" in hovered(server, second, text, "tfinal")
    assert hovered(server, first, "1", "1") is None


FAULTS = SOUND | {"init_r": 12.0, "tfinal": 900, "tinit": 100, "delta_t": 10}
del FAULTS["deltaT"]


def test_quick_fix_of_each_finding(server, new_uri):
    text = json_text(FAULTS)
    uri = new_uri()
    found = server.open_text(uri, "json", text)
    fixes = actions(server, uri, "quickfix")
    assert {each["kind"] for each in fixes} == {"quickfix"}
    for each in fixes:
        (diagnostic,) = each["diagnostics"]
        assert diagnostic in found
        (edits,) = each["edit"]["changes"].values()
        better = applied(text, edits)
        pairs = zip(text.split("\n"), better.split("\n"), strict=True)
        assert sum(one != other for one, other in pairs) == 1  # other findings stay
        codes = [d.code for d in check_config(better).diagnostics]
        assert diagnostic["code"] not in codes, each["title"]
    by_code = {each["diagnostics"][0]["code"]: each for each in fixes}
    assert by_code["ADA104"]["title"].endswith("(may change what the file means)")
    assert "isPreferred" not in by_code["ADA104"]
    safe = [each for each in fixes if "isPreferred" in each]
    assert safe
    assert not any("may change" in each["title"] for each in safe)


def test_quick_fix_is_offered_on_its_line_only(server, new_uri):
    text = json_text(FAULTS | {"target_modules": ["layers.0.q_porj", "v_proj"]})
    uri = new_uri()
    server.open_text(uri, "json", text)
    line = line_of(text, "delta_t")
    for column in (0, 4, len(text.split("\n")[line])):
        (fix,) = actions(server, uri, "quickfix", line, columns=(column, column))
        assert fix["diagnostics"][0]["code"] == "ADA104"
    (fix,) = actions(server, uri, "quickfix", line_of(text, "porj"))
    (edits,) = fix["edit"]["changes"].values()
    assert '"layers.0.q_proj",' in applied(text, edits)
    assert actions(server, uri, "quickfix", line_of(text, "lora_alpha")) == []


def test_quick_fix_at_the_cursor_comes_first(server, new_uri):
    text = json.dumps(SOUND | {"init_r": "12", "tinit": "200"}) + "\n"
    uri = new_uri()
    server.open_text(uri, "json", text)
    for key in ("init_r", "tinit"):
        at = text.index(f'"{key}"') + len(f'"{key}": "')
        fixes = actions(server, uri, "quickfix", 0, columns=(at, at))
        assert len(fixes) == 2
        assert fixes[0]["diagnostics"][0]["message"].startswith(f"`{key}`")


def test_fix_all_applies_the_safe_fixes(server, new_uri):
    text = json_text(FAULTS)
    uri = new_uri()
    server.open_text(uri, "json", text)
    (whole,) = actions(server, uri, "source.fixAll")
    assert whole["kind"] == "source.fixAll.adalora"
    (edits,) = whole["edit"]["changes"].values()
    better = json.loads(applied(text, edits))
    assert better["init_r"] == 12
    assert isinstance(better["init_r"], int)
    assert better["tfinal"] == 900
    assert "delta_t" in better
    assert actions(server, uri, "source.organizeImports") == []
    assert {each["kind"] for each in actions(server, uri)} == {"quickfix", "source.fixAll.adalora"}


@pytest.mark.parametrize("suffix", [".py", ".yaml", ".toml"])
def test_finding_is_ignored_on_its_line_by_a_comment(server, new_uri, suffix):
    signs = {".yaml": ": ", ".toml": " = "}
    text = "# é\U0001f600\n" + (
        python_text(WRONG)
        if suffix == ".py"
        else "".join(f"{k}{signs[suffix]}{json.dumps(v)}\r\n" for k, v in WRONG.items())
    )
    uri = new_uri(suffix)
    server.open_text(uri, "any", text)
    offered = actions(server, uri, line=line_of(text, "init_r"))
    (ignore,) = (each for each in offered if "ignore" in each["title"])
    assert ignore["title"] == "ADA302: ignore on this line"
    assert "isPreferred" not in ignore
    (edits,) = ignore["edit"]["changes"].values()
    changed = applied(text.replace("\r", " "), edits).replace(" \n", "\n")
    assert edits[0]["newText"] == "  # adalora: ignore[ADA302]"
    server.change(uri, 2, {"text": changed})
    assert server.diagnostics(uri, version=2) == []


def test_finding_is_not_ignored_where_a_comment_would_not_be_one(server, new_uri):
    block = "".join(f"  {k}: {json.dumps(v)}\n" for k, v in WRONG.items() if k != "bias")
    for suffix, text in ((".json", json_text(WRONG)), (".yaml", f"a:\n{block}  bias: |\n   x\n")):
        uri = new_uri(suffix)
        lines = [each["range"]["end"]["line"] for each in server.open_text(uri, "any", text)]
        titles = [each["title"] for each in actions(server, uri, line=max(lines))]
        assert not any("ignore" in title for title in titles), (lines, titles)


def test_fix_in_a_cell(server, new_uri):
    uri = new_uri(".ipynb")
    first, second = f"{uri}#a", f"{uri}#b"
    text = "# é\U0001f600\n" + python_text(FAULTS)
    server.notify(
        "notebookDocument/didOpen", opened_notebook(uri, cell(first, "1"), cell(second, text))
    )
    assert server.diagnostics(second)
    (whole,) = actions(server, second, "source.fixAll")
    ((name, edits),) = whole["edit"]["changes"].items()
    assert name == second
    assert "init_r=12," in applied(text, edits)
    renames = [f for f in actions(server, second, "quickfix") if "deltaT" in f["title"]]
    ((name, edits),) = renames[0]["edit"]["changes"].items()
    assert "deltaT=10" in applied(text, edits)
    assert actions(server, first, "quickfix") == []


@pytest.mark.parametrize(
    ("suffix", "text", "whole"),
    [
        (".json", '{\n  "peft_type": "ADALORA",\n  "tf|"\n}', '  "tfinal": \n}'),
        (".json", '{"peft_type": "ADALORA", |', '"ADALORA", "tfinal": '),
        (".json", '{"peft_type": "ADALORA" |"init_r": 9}', '"tfinal": "init_r"'),
        (".json", '{"peft_type": "ADALORA", "tf|": 5}', '"ADALORA", "tfinal": 5}'),
        (".json", '{"a": [{"peft_type": "ADALORA",\n |\n', '"tfinal": \n'),
        (".yaml", "peft_type: ADALORA\ntf|\n", "\ntfinal: \n"),
        (".yaml", "peft_type: ADALORA\n|\ninit_r: 9\n", "\ntfinal: \ninit_r"),
        (".yaml", "x:\n  - peft_type: ADALORA\n    t|\n", "\n    tfinal: \n"),
        (".yaml", "{peft_type: ADALORA, |}", ", tfinal: }"),
        (".toml", 'peft_type = "ADALORA"\ntf|\n', "\ntfinal = \n"),
        (".toml", '[a]\npeft_type = "ADALORA"\n|\n[b]\nx = 1\n', "\ntfinal = \n[b]"),
        (".py", "from peft import AdaLoraConfig\nAdaLoraConfig(init_r=9, |)", "9, tfinal=)"),
        (".py", "from peft import AdaLoraConfig\nc = AdaLoraConfig(|", "(tfinal="),
        (".py", "from peft import AdaLoraConfig\nc = AdaLoraConfig(t|, init_r=9)\nd = 1\n",
         "(tfinal=, init_r=9)\nd"),
    ],
)  # fmt: skip
def test_keys_are_proposed(server, new_uri, suffix, text, whole):
    found = labels(server, new_uri(suffix), text)
    assert whole in found["tfinal"]
    written = {name for name in ("peft_type", "init_r") if f"{name}" in text.replace("|", "")}
    assert written.isdisjoint(found)
    assert "use_rslora" not in found  # nobody should write it


@pytest.mark.parametrize(
    ("suffix", "text", "expected"),
    [
        (".json", '{"peft_type": "ADALORA", "bias": "|"}', '"bias": "lora_only"}'),
        (".json", '{"peft_type": "ADALORA", "bias": |', '"bias": "lora_only"'),
        (".json", '{"peft_type": "ADALORA", "bias":|, "init_r": 9}', '"bias": "lora_only", "init'),
        (".yaml", "peft_type: ADALORA\nbias: |\n", "\nbias: lora_only\n"),
        (".yaml", "peft_type: ADALORA\nbias: lo|\ninit_r: 9\n", "\nbias: lora_only\ninit"),
        (".toml", 'peft_type = "ADALORA"\nbias = "|"\n', '\nbias = "lora_only"\n'),
        (".py", "from peft import AdaLoraConfig\nAdaLoraConfig(bias=|)\n", '(bias="lora_only")'),
        (".py", "from peft import AdaLoraConfig\nAdaLoraConfig(bias='|', r=1)\n",
         '(bias="lora_only", r'),
    ],
)  # fmt: skip
def test_choices_are_proposed(server, new_uri, suffix, text, expected):
    found = labels(server, new_uri(suffix), text)
    assert set(found) == {"none", "all", "lora_only"}
    assert expected in found["lora_only"]


def test_method_booleans_and_null_are_proposed(server, new_uri):
    found = labels(server, new_uri(), '{"peft_type": "|", "init_r": 9, "target_r": 8}')
    assert set(found) == {"ADALORA"}
    found = labels(server, new_uri(), '{"peft_type": "ADALORA", "inference_mode": |}')
    assert set(found) == {"true", "false"}
    text = "from peft import AdaLoraConfig\nAdaLoraConfig(inference_mode=|)\n"
    assert set(labels(server, new_uri(".py"), text)) == {"True", "False"}
    for module, words in (("peft", set()), ("adalora_core.peft", {"lora"})):
        text = f"from {module} import AdaLoraConfig\nAdaLoraConfig(init_lora_weights=|)\n"
        assert set(labels(server, new_uri(".py"), text)) == {"True", "False", *words}
    found = labels(server, new_uri(), '{"peft_type": "ADALORA", "task_type": |}')
    assert {"CAUSAL_LM", "null"} <= set(found)


def test_keys_of_a_tool_are_proposed_in_its_spelling(server, new_uri):
    text = "tuner_type: adalora\nadalora_init_r: 9\n|\n"
    found = labels(server, new_uri(".yaml"), text)
    assert "adalora_target_r" in found
    assert "lora_target_modules" in found
    assert "adalora_init_r" not in found


def test_keys_are_proposed_in_a_cell(server, new_uri):
    uri = new_uri(".ipynb")
    first, second = f"{uri}#a", f"{uri}#b"
    text = "AdaLoraConfig(init_r=9, "
    server.notify(
        "notebookDocument/didOpen",
        opened_notebook(uri, cell(first, "from peft import AdaLoraConfig"), cell(second, text)),
    )
    found = server.at("completion", second, 0, len(text))
    assert "tfinal" in {each["label"] for each in found}


def test_keys_are_proposed_where_nothing_is_written_yet(server, root):
    texts = {"adapter_config.json": "{|}", "a.yaml": "|", "b.yaml": "# new\nini|\n", "c.toml": "|"}
    for name, text in texts.items():
        found = [*labels(server, (root / "empty" / name).as_uri(), text)]
        assert found[:2] == ["peft_type", "target_r"], name


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '{"name": "x", |}'),
        (".json", '{"peft_type": "IA3", |}'),
        (".json", '{"peft_type": "ADALORA", "target_modules": ["|"]}'),
        (".py", "from peft import LoraConfig\nLoraConfig(|)"),
        (".py", "print(|)"),
    ],
)
def test_nothing_is_proposed_elsewhere(server, new_uri, suffix, text):
    assert labels(server, new_uri(suffix), text) == {}


def test_proposals_explain_themselves(server, new_uri):
    uri = new_uri()
    server.open_text(uri, "json", '{"peft_type": "ADALORA", }')
    found = server.at("completion", uri, 0, 25)
    shown = {each["label"]: each for each in found}["tfinal"]
    assert shown["detail"] == "an integer; default 0"
    assert "a duration" in shown["documentation"]
    first = min(found, key=lambda each: each["sortText"])
    assert first["label"] == "target_r"  # AdaLoRA's own fields come first


def lenses(server, uri):
    found = server.request("textDocument/codeLens", {"textDocument": {"uri": uri}})
    return [(each["range"]["start"]["line"], each["command"]["title"]) for each in found]


def test_plan_is_shown_over_a_complete_configuration(server, new_uri):
    uri = new_uri()
    server.open_text(uri, "json", json_text(SOUND))
    ((line, title),) = lenses(server, uri)
    assert line == 0
    assert title == (
        "warm-up 0 to 200: every matrix has rank 12 | budgeting 201 to 799: 59 allocations, every "
        "10 steps | final 800 to 999: rank 8 on average, selected at step 800"
    )


def test_plan_is_shown_over_each_call_and_cell(server, new_uri):
    uri = new_uri(".py")
    text = python_text(SOUND) + python_text(WRONG) + python_text(SOUND)
    server.open_text(uri, "python", text)
    assert [line for line, _ in lenses(server, uri)] == [2, 2 + 2 * text.count("\n") // 3]
    uri = new_uri(".ipynb")
    first, second = f"{uri}#a", f"{uri}#b"
    server.notify(
        "notebookDocument/didOpen",
        opened_notebook(uri, cell(first, "1"), cell(second, python_text(SOUND))),
    )
    assert lenses(server, first) == []
    assert [line for line, _ in lenses(server, second)] == [2]


@pytest.mark.parametrize(
    "values",
    [
        WRONG,
        {name: value for name, value in SOUND.items() if name != "total_step"},
        SOUND | {"total_step": None, "inference_mode": True},
        SOUND | {"total_step": "many"},
        {"a": 1},
    ],
)
def test_no_plan_is_shown_where_there_is_none(server, new_uri, values):
    uri = new_uri()
    server.open_text(uri, "json", json_text(values))
    assert lenses(server, uri) == []


def test_no_plan_is_shown_where_a_value_is_known_at_run_time_only(server, new_uri):
    uri = new_uri(".py")
    server.open_text(uri, "python", python_text(SOUND).replace("tinit=200", "tinit=warm_up()"))
    assert lenses(server, uri) == []
