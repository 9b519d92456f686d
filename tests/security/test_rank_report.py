"""Names in a rank report are shown as they are: they are no lines, HTML, links or formulas."""

from __future__ import annotations

import re

import matplotlib as mpl
import pytest

from adalora_core import AdaLoraConfig
from adalora_core.commands.rank_report.heatmap import rank_heatmap
from adalora_core.commands.rank_report.report import rank_report

NAMES = [
    "a`<img src=x onerror=alert(1)>`",
    "a | 9 |\n| b",
    "a\n\n# forged",
    "\x1b[2J\u202e",
    "[a](https://example.org)",
    "www.example.org",
    "##[group]",
    r"$\frac$",
    "$x$",
]
CODE = re.compile("`[^`\n]+`")
SECONDS, MEMORY = 5, 1 << 30


@pytest.mark.parametrize("name", NAMES)
def test_names_of_modules_and_folders_are_text(name, tmp_path):
    pattern = {f"layers.{row}.{name}.lora_E": [True] * (row + 1) + [False] * 11 for row in (0, 1)}
    pattern = {key: kept[:12] for key, kept in pattern.items()}
    # adalora: ignore[ADA307] - rows of one triplet
    config = AdaLoraConfig(total_step=1000, init_r=12, target_r=1, rank_pattern=pattern)
    text = rank_report(config, name=name).write(tmp_path)[1].read_text()
    rest = CODE.sub("", text)
    assert not re.search(r"<|example|\x1b|\u202e|forged|##\[", rest)
    assert sum(line.startswith("#") for line in text.splitlines()) == 1
    assert re.findall(r"^\| ` .*", text, re.MULTILINE) == []
    rows = [line for line in text.splitlines() if line.startswith("| `layers.")]
    assert [line.count("|") for line in rows] == [3, 3]


def test_latex_is_not_called():
    with mpl.rc_context({"text.usetex": True}):
        picture = rank_heatmap({r"layers.0.\input{secret}": 3}, init_r=8, title="")
    assert picture.startswith(b"\x89PNG")
