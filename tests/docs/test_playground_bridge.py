"""Ask Python what the playground's page asks it, without a browser."""

from __future__ import annotations

import base64
import json
import sys
import zlib
from pathlib import Path, PurePosixPath

import pytest
from pace import measured

from adalora_core.commands.cli import main

SITE = Path(__file__).parents[2] / "docs" / "site"
FOLDER = SITE / "playground"
LONGEST = 1.5
"""Seconds of an idle processor for two texts, where a search from each blank takes a minute."""
EXAMPLES = sorted((FOLDER / "examples").iterdir())


@pytest.fixture(scope="module", autouse=True)
def _importable():
    sys.path[:0] = [str(FOLDER), str(SITE)]
    yield
    del sys.path[:2]


def answer(text: str, format_: str = "", runtime: str = "peft", **asked) -> dict:
    import bridge

    request = {"text": text, "format": format_, "runtime": runtime, **asked}
    return json.loads(bridge.answer(json.dumps(request)))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_read_in_their_format_and_reported_as_by_the_command(path, capsys):
    found = answer(path.read_text("utf-8"))
    assert found["format"] == ("python" if path.suffix == ".py" else path.suffix[1:])
    main(["check", "--isolated", "-o", "json", str(path)])
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert found["findings"] == report["diagnostics"]


@pytest.mark.parametrize(
    ("text", "format_"),
    [
        ("", ""),
        ("hello world", ""),
        ("the loss does not decrease, why?\n\nThanks", ""),
        ("- peft_type: ADALORA", "yaml"),
        ("config = LoraConfig(r=8)", "python"),
        ("optimizer.step()\nmodel.update_and_allocate(step)", "python"),
        ("KeyError: 'adalora'", "error"),
        ("[1, 2]", "json"),
        ("[adapter]\ninit_r = 8", "toml"),
        ("init_r = 8", "toml"),
        ("# a comment\ninit_r: 8", "yaml"),
        ("# a comment\n\npeft_type: ADALORA\ntarget_modules: [q_proj]\n", "yaml"),
        ("---\npeft_type: ADALORA\ntarget_modules:\n  [q_proj]\n", "yaml"),
        ("import peft\nx = 1", "python"),
        ("config = AdaLoraConfig(init_r=8)", "python"),
        ('{"cells": [], "nbformat": 4}', "notebook"),
    ],
)
def test_format_is_guessed_by_the_content(text, format_):
    assert answer(text)["format"] == format_


def test_an_empty_page_has_no_findings_and_no_hint_names_an_option_of_the_command():
    assert answer(" \n")["findings"] == []
    (found,) = answer("a: 1\n")["findings"]
    assert found["hint"].endswith("; in Python, call AdaLoraConfig")


def test_offsets_count_as_javascript_does():
    text = '{"peft_type": "ADALORA", "revision": "\N{GRINNING FACE}", "total_step": 5, "tfinal": 9}'
    span = next(f["span"] for f in answer(text)["findings"] if f["code"] == "ADA202")
    units = text.encode("utf-16-le")
    start, end = (2 * span[side]["offset"] for side in ("start", "end"))
    assert units[start:end].decode("utf-16-le") == "9"


def test_text_that_declares_another_encoding_has_findings_without_places():
    text = "# coding: latin-1\nAdaLoraConfig(r=16, note='\N{SNOWMAN}')\n"
    found = answer(text)
    assert found["findings"]
    assert found["text"] == text
    assert all(finding["span"] is None for finding in found["findings"])


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', "\ud800", "{" * 5000, "\x00", "a: &a [*a]"])
def test_hostile_text_gets_an_answer(text):
    found = answer(text)
    assert found["findings"] or not found["format"]
    assert answer(text, "yaml")["findings"]


def test_traceback_gets_the_rules_about_its_error():
    text = 'Traceback (most recent call last):\n  File "a.py", line 3\n'
    found = answer(text + "ValueError: PeftType.ADALORA does not support DoRA.")
    assert [each["code"] for each in found["findings"]] == ["ADA401"]
    assert found["findings"][0]["hint"]
    assert answer(text + "ZeroDivisionError: division by zero")["findings"] == []


@pytest.mark.parametrize("blank", [" ", "\n", "\r", " \n", "\t", "\xa0", "\u2028", "# \n", "a\n"])
def test_blanks_and_line_ends_take_no_time(blank):
    with measured() as spent:
        for text in (blank * 100_000, "peft_type: ADALORA\n" + blank * 100_000):
            answer(text)
    assert spent.seconds < LONGEST


def test_one_fix_is_applied_alone():
    text = (FOLDER / "examples" / "traps.yaml").read_text("utf-8")
    codes = [finding["code"] for finding in answer(text)["findings"]]
    fixed = answer(text, fix=codes.index("ADA102"))
    assert [(made["code"], made["pointer"]) for made in fixed["fixed"]] == [
        ("ADA102", "/peft/lora_alpha")
    ]
    assert fixed["text"] == text.replace('"16"', "16")
    assert [finding["code"] for finding in fixed["findings"]] == [c for c in codes if c != "ADA102"]


def test_fix_that_only_another_fix_made_possible_is_named():
    text = '{"peft_type": "ADALORA", "total_steps": 1000, "tfinal": 900, "tinit": 200}'
    assert "ADA202" not in [finding["code"] for finding in answer(text)["findings"]]
    assert answer(text, fix="all")["fixed"] == [
        {
            "code": "ADA104",
            "pointer": "/total_steps",
            "description": "Rename total_steps to total_step",
        },
        {
            "code": "ADA202",
            "pointer": "/total_step",
            "description": "Write tfinal as a length, 100",
        },
    ]


def test_plan_is_the_commands_plan(tmp_path, capsys):
    text = (FOLDER / "examples" / "good.yaml").read_text("utf-8")
    path = tmp_path / "good.yaml"
    path.write_text(text, encoding="utf-8")
    main(["plan", "-o", "json", str(path)])
    expected = json.loads(capsys.readouterr().out)
    found = answer(text)["plan"]
    for key in ("allocations", "scale", "average_rank"):
        assert found[key] == expected[key]
    for mine, theirs in zip(found["phases"], expected["phases"], strict=True):
        assert mine | theirs == mine


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x: 1", "holds a configuration"),
        ("peft_type: ADALORA\ntotal_step: 5\ntfinal: 9", "no error is left"),
        ("AdaLoraConfig(total_step=n, target_modules='all-linear')", "total_step"),
        ("peft_type: ADALORA\ninference_mode: true", "total_step"),
    ],
)
def test_missing_plan_has_a_reason(text, reason):
    runtime = "adalora-core" if "inference" in text else "peft"
    assert reason in answer(text, runtime=runtime)["no_plan"]


@pytest.mark.slow
def test_shapes_of_models_are_those_of_transformers():
    pytest.importorskip("transformers", reason="would compare with the real models")
    import known_models
    import torch
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        BertConfig,
        DebertaV2Config,
        GPT2Config,
        LlamaConfig,
    )

    deberta = DebertaV2Config(
        vocab_size=128100, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        intermediate_size=3072, type_vocab_size=0, relative_attention=True, position_buckets=256,
        position_biased_input=False, share_att_key=True, pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
    )  # fmt: skip
    one_billion = LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
        num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=True,
    )  # fmt: skip
    eight_billion = LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False,
    )  # fmt: skip
    configs = [BertConfig(), deberta, GPT2Config(), one_billion, eight_billion]
    for shape, config in zip(known_models.MODELS, configs, strict=True):
        kind = AutoModelForCausalLM if config.model_type in {"gpt2", "llama"} else AutoModel
        with torch.device("meta"):
            model = kind.from_config(config)
        assert shape.model_type == config.model_type
        assert shape.tensors() == {n: tuple(p.shape) for n, p in model.named_parameters()}


def test_pyodide_with_another_digest_is_refused_and_fetched_anew(tmp_path, monkeypatch, caplog):
    pytest.importorskip("mkdocs", reason="would build the site; install the extra: docs")
    import playground_files
    from mkdocs.structure.files import Files

    monkeypatch.setattr(playground_files, "CACHE", tmp_path)
    monkeypatch.delenv("ADALORA_PLAYGROUND", raising=False)
    archive = tmp_path / f"pyodide-{playground_files.PYODIDE}.tgz"
    archive.write_bytes(b"another file")
    assert not len(playground_files.on_files(Files([]), None))
    # A warning: `mkdocs build --strict` fails.
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "has another digest" in record.message
    assert not archive.exists()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not len(playground_files.on_files(Files([]), None))
    assert "npm" in caplog.records[-1].message


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
def test_links_of_the_rules_pages_show_their_findings():
    pytest.importorskip("mkdocs")
    import hooks

    from adalora_core.checker.rules import RULES

    shown = []
    for rule in RULES:
        fragment = hooks.playground_fragment(PurePosixPath(f"rules/{rule.code}.md"))
        if fragment:
            packed = base64.urlsafe_b64decode(fragment.removeprefix("play=") + "==")
            state = json.loads(zlib.decompress(packed, wbits=-15))
            found = answer(state["text"], state["format"], state.get("runtime", "peft"))
            assert rule.code in {each["code"] for each in found["findings"]}, rule.code
            shown.append(rule.code)
    assert len(shown) > 100
    assert hooks.playground_fragment(PurePosixPath("adr/ADA202.md")) == ""
