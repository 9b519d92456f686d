"""Fixing a text as the command does, and configurations written with faults that can be fixed."""

from __future__ import annotations

import ast
import json
import tomllib
from typing import Any

import yaml
from contract_configs import configurations
from hypothesis import strategies as st

from adalora_core.checker.pipeline import CheckOptions
from adalora_core.checker.pipeline.inspection import Inspector
from adalora_core.checker.pipeline.suppression import Selection
from adalora_core.checker.reports import Examined


def _calls(code: str) -> dict[str, Any]:
    """Return the arguments of the calls in code, as the checker's document holds them."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            pairs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
            pairs.pop("peft_type", None)
            found.append({k: _listed(v) for k, v in pairs.items()})
    return {"AdaLoraConfig": found}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, (tuple, set)) else value


def _cells(text: str) -> dict[str, Any]:
    cells = json.loads(text)["cells"]
    return _calls("".join("".join(c["source"]) for c in cells if c["cell_type"] == "code"))


PARSERS = {
    "json": json.loads,
    "yaml": yaml.safe_load,
    "toml": tomllib.loads,
    "python": _calls,
    "notebook": _cells,
}
KEYS = {"json": "/peft", "yaml": "/peft", "toml": "/peft", "python": None, "notebook": None}
"""Where the files of `written` hold the configuration; None: the search finds it."""

_SPELLED = {
    "yaml": {
        "init_r": ["014", "0o14", "1_2", "12.0", "'12'", '"12"'],
        "target_r": ["8.0", "'8'", "!!int 8"],
        "beta1": ["8e-1", "'0.5'", "5E-1", ".5e0"],
        "orth_reg_weight": ["1e3", "1_0.5", "1:30"],
        "tinit": ["3:20", "1_00", "1e2"],
        "fan_in_fan_out": ["yes", "off", "0", "1", "'true'"],
        "bias": ["no", "off", "NONE", "lora_onli"],
        "revision": ["2024-01-01", "&anchor 2024-02-03"],
        "target_modules": ["q_proj, v_proj", "'q_proj,v_proj'", "q_proj", "all_linear"],
        "peft_type": ["adalora", "'AdaLoRA'", '"adalora"'],
    },
    "json": {
        "init_r": ["12.0", '"12"', "1.2e1"],
        "beta1": ['"0.5"', '"5e-1"'],
        "fan_in_fan_out": ["0", "1", '"false"', '"True"'],
        "task_type": ['"causal_lm"', '"CAUSAL"'],
        "target_modules": [
            '"q_proj v_proj"',
            '["a", ".*\\\\.v_proj$"]',
            '"q_\\u00fc, x"',
            '"q_proj"',
        ],
        "peft_type": ['"adalora"'],
    },
    "toml": {
        "init_r": ["12.0", "'12'", '"12"', "1.2e1"],
        "beta1": ["'0.5'", '"""0.5"""'],
        "fan_in_fan_out": ["0", "1", "'false'"],
        "target_modules": ["'q_proj,v_proj'", '"q_proj v_proj"'],
        "peft_type": ["'adalora'", '"adalora"'],
    },
    "python": {
        "init_r": ["12.0", "'12'", '"12"', "(12.0)", "1_2", "0xC"],
        "beta1": ["'0.5'", '"""0.5"""', "5E-1"],
        "fan_in_fan_out": ["0", "1", "'false'"],
        "task_type": ["'causal_lm'", '"CAUSAL"'],
        "target_modules": [
            "'q_proj,v_proj'", 'r"q_proj v_proj"', "('q_proj', 'v_proj')", '["a", ".*\\\\.v"]',
            '"q_\u00fc, x"', '"q_" "proj"', "{'q_proj'}", "{'q_proj': None}",
        ],
        "peft_type": ["'adalora'"],
    },
}  # fmt: skip
_SPELLED["notebook"] = _SPELLED["python"]
_MISSPELT = {"delta_t": "10", "rank": "32", "r": "64", "t_init": "5", "lora_r": "24", "alpha": "9"}


def inspect(content: bytes | str, format_: str, **settings: Any) -> Examined:
    """Return what the command would say of a file of this content."""
    found = _inspector(format_, settings).inspect(_raw(content), "file", was_named=True)
    assert found is not None
    return found


def fix(content: bytes | str, format_: str, *, unsafe: bool = True, **settings: Any) -> Examined:
    """Return what the command would make of a file of this content."""
    found = inspect(content, format_, **settings)
    return _inspector(format_, settings).fix(found, "file", was_named=True, unsafe=unsafe)


def _inspector(format_: str, settings: dict[str, Any]) -> Inspector:
    return Inspector(CheckOptions(), Selection.of(), **{"format": format_, **settings})


def _raw(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


@st.composite
def written(draw: st.DrawFn, format_: str) -> bytes:
    """Draw a file of some tool with an AdaLoRA section, with comments, CRLF and marks as may be."""
    values = draw(configurations())
    spell = repr if format_ in {"python", "notebook"} else json.dumps
    texts = {key: spell(value) for key, value in values.items()}
    if format_ == "toml":
        texts = {key: text for key, text in texts.items() if "null" not in text and "{" not in text}
    for key, spellings in _SPELLED[format_].items():
        if draw(st.booleans()):
            texts[key] = draw(st.sampled_from(spellings))
    for key in draw(st.sets(st.sampled_from(sorted(_MISSPELT)), max_size=2)):
        texts[key] = _MISSPELT[key]
    texts = dict(draw(st.permutations(sorted(texts.items()))))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = _FILES[format_](texts, newline)
    if draw(st.booleans()):
        text = text.removesuffix(newline)
    return (b"\xef\xbb\xbf" if draw(st.booleans()) else b"") + text.encode()


def _json(texts: dict[str, str], newline: str) -> str:
    rows = f",{newline}".join(f'  "{key}" :\t{text}' for key, text in texts.items())
    return f'{{"name": "\u00fc 12.0",{newline} "peft": {{{newline}{rows}{newline} }} }}{newline}'


def _yaml(texts: dict[str, str], newline: str) -> str:
    rows = [f"  {key}:  {text}  # {i} adalora" for i, (key, text) in enumerate(texts.items())]
    lines = ["# head: 12.0", "name: '\u00fc 12.0'", "peft:  # section", *rows, "after: [1, 2.0]"]
    return newline.join([*lines, ""])


def _toml(texts: dict[str, str], newline: str) -> str:
    rows = [f"{key} =  {text}  # {i} adalora" for i, (key, text) in enumerate(texts.items())]
    lines = [
        "# head: 12.0",
        "name = '\u00fc 12.0'",
        "[peft]  # section",
        *rows,
        "[after]",
        "x = 2.0",
    ]
    return newline.join([*lines, ""])


def _code(texts: dict[str, str], newline: str) -> str:
    rows = [f"    {key} =  {text},  # {i} adalora" for i, (key, text) in enumerate(texts.items())]
    lines = ["# head: 12.0, \u00fc", "from peft import AdaLoraConfig", "x = AdaLoraConfig(", *rows]
    return newline.join([*lines, ")", "after = [1, 2.0]", ""])


def _notebook(texts: dict[str, str], newline: str) -> str:
    source = _code(texts, "\n").splitlines(keepends=True)
    cells = [
        {"cell_type": "markdown", "source": "# AdaLoraConfig(init_r=12.0)"},
        {"cell_type": "code", "source": source, "outputs": [{"text": ["init_r=12.0"]}]},
    ]
    text = json.dumps({"cells": cells, "nbformat": 4}, indent=1, ensure_ascii=len(texts) % 2 == 0)
    return text.replace("\n", newline) + newline


_FILES = {"json": _json, "yaml": _yaml, "toml": _toml, "python": _code, "notebook": _notebook}
