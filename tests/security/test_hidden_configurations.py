"""No spelling that a reader understands hides a configuration from a search."""

from __future__ import annotations

import json

import pytest

from adalora_core.config.rules.base import SOUND

WRONG = {"peft_type": "ADALORA", "total_step": 0}
ESCAPED = r'{"\u0070eft_type": "\u0041DALORA", "\u0074otal_step": 0}'
CALL = "import peft\nc = peft.AdaLoraConfig(deltaT=0, init_r=4, target_r=2, total_step=9)\n"
LATE = "\n# coding: {}\n"


def _utf16(text):
    return text.encode("utf-16")


FAULTY = {**WRONG, "target_modules": ["q"]}
LORA = {"peft_type": "LORA", "target_modules": ["q"], "r": 0}


def _json(**more):
    return ("adapter_config.json", json.dumps(FAULTY | more).encode())


TREES = {
    **{
        f"marker of {tool}": _json(**more)
        for tool, more in {
            "ms-swift": {"tuner_type": "lora"},
            "TRL": {"use_peft": True, "model_name_or_path": "x"},
            "axolotl": {"adapter": "qlora", "base_model": "x"},
            "a file that a tool wrote": {"global_world_size": 1},
        }.items()
    },
    "LoRA with a tool's marker": _json(**LORA, tuner_type="lora", total_step=None),
    "LoRA with a name of AdaLoRA": _json(**LORA, init_r=8),
    "method in a variable": ("a.yaml", b"m: ADALORA\npeft_type: ${m}\ntinit: 9\n"),
    "method by its name in Python": _json(peft_type="PeftType.ADALORA", tinit=9),
    "JSON": ("a.json", ESCAPED.encode()),
    "YAML": ("a.yaml", rb'"\x70eft_type": "\U00000041DALORA"' + b'\n"\\x74otal_step": 0\n'),
    "YAML over two lines": ("a.yaml", b'"peft_ty\\\n  pe": "ADA\\\n LORA"\n"total_st\\\n ep": 0\n'),
    "TOML": ("a.toml", rb'"\u0070eft_type" = "\U00000041DALORA"' + b'\n"\\u0074otal_step" = 0\n'),
    "Hydra": (
        "conf/a.yaml",
        b'# @package _global_\npeft:\n  "\\x70eft_type": "\\x41DALORA"\n  "\\x74otal_step": 0\n',
    ),
    "JSON in UTF-16": ("a.json", _utf16(json.dumps(WRONG))),
    "JSON in UTF-16 without a mark": ("a.json", json.dumps(WRONG).encode("utf-16-le")),
    "YAML in UTF-16": ("a.yaml", _utf16("peft_type: ADALORA\ntotal_step: 0\n")),
    "late declaration of kanji": (
        "a.py", ("# \x1b$B\r\r# coding: iso2022_jp\r" + CALL.replace("\n", "\r")).encode(),
    ),
    "late declaration of hz": (
        "a.py", ("# ~{\r\r# coding: hz\r" + CALL.replace("\n", "\r")).encode(),
    ),
    "notebook": (
        "a.ipynb",
        json.dumps({"cells": [{"cell_type": "code", "source": CALL}], "nbformat": 4})
        .replace("AdaLora", r"\u0041d\u0061Lora").encode(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_spelling_hides_no_configuration_from_a_search(check, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    place, content = TREES[name]
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    code, out, _ = check(".", "-o", "concise")
    assert code == 1, out
    assert f"{place}:" in out


@pytest.mark.parametrize(
    ("encoding", "comment"),
    [
        ("iso2022_jp", b"\x1b$B4A\x1b(B\x1b$B;z\x1b(B"),
        ("cp932", b"\xfa\x4a \xee\xef"),
        ("big5hkscs", b"\xa1\xc3 \xa2\xcc"),
    ],
)
def test_fix_writes_no_other_bytes_than_those_of_its_spans(check, tmp_path, encoding, comment):
    path = tmp_path / "a.py"
    head = f"# coding: {encoding}\nimport peft\n# ".encode()
    head += comment + b"\n"
    call = "c = peft.AdaLoraConfig(init_r=4.0, target_r=2, total_step=900, tinit=1, tfinal=2)\n"
    path.write_bytes(head + call.encode())
    assert comment.decode(encoding)
    _, out, _ = check(path, "--fix")
    assert path.read_bytes() in (
        head + call.encode(), head + call.replace("4.0", "4").encode()
    )  # fmt: skip
    is_whole = comment.decode(encoding).encode(encoding) == comment
    assert is_whole or "its encoding would write other bytes" in out


def test_escapes_of_other_words_are_no_configuration(check, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(SOUND))
    (tmp_path / "b.json").write_text(r'{"\u0061": "\\u0070eft"}')
    assert "skipped 1 file" in check(".")[1]
