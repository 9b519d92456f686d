"""README.md is short, its doors work as they are, and its figures are those of the repository."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from statistics import fmean

import pytest
from programs import output_of_python
from usage_corpus import compare
from walkthroughs import blocks_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = list(blocks_of(ROOT / "README.md"))


def block(language: str) -> str:
    (found,) = (each.content for each in BLOCKS if each.language == language)
    return found


def test_page_has_at_most_110_lines_and_its_doors_12():
    assert len(TEXT.splitlines()) <= 110
    for door in ("diff", "python"):
        assert len([line for line in block(door).splitlines() if line.strip()]) <= 12
    assert "update_and_allocate" in block("python")  # test_examples.py runs it


def test_page_promises_exactly_two_commands(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    from install_forms import SOURCE

    assert [each.content.strip() for each in BLOCKS if each.language == "bash"] == [
        f'pip install "{SOURCE}[demo]" && adalora demo',
        'pip install ".[test]" && pytest',
    ]


def test_import_shown_for_code_that_uses_peft_gives_its_names_bridged():
    peft = pytest.importorskip("peft", reason="would change an import")
    taken, given = (line[1:] for line in block("diff").splitlines())
    names: dict[str, object] = {}
    try:
        exec(f"{taken}\nbefore = get_peft_model\n{given}", names)  # noqa: S102 - the page is the program
        assert names["AdaLoraConfig"] is peft.AdaLoraConfig
        assert names["before"] is names["get_peft_model"] is peft.get_peft_model
    finally:
        from adalora_core.bridge import uninstall

        uninstall()


def luminance(color: str) -> float:
    """Return the relative luminance of WCAG 2."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_picture_shows_what_the_command_prints_and_can_be_read(mode, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    from finding_picture import COLORS, SCRIPT, pictures, printed

    path = ROOT / "docs" / f"finding-{mode}.svg"
    assert f"docs/finding-{mode}.svg" in TEXT
    drawn = path.read_text(encoding="utf-8")
    assert drawn == pictures()[path]
    said = re.sub(r"\x1b\[[0-9;]*m", "", printed(SCRIPT)).partition("\n\n")[0].splitlines()
    assert "ADA907" in said[0]
    words = "".join(unescape(re.sub(r"<[^>]*>", "", drawn)).split())
    assert all("".join(line.split()) in words for line in said)
    back = luminance(COLORS[mode]["back"])
    for name, color in COLORS[mode].items():
        dim, bright = sorted((back, luminance(color)))
        assert name in {"back", "edge"} or (bright + 0.05) / (dim + 0.05) >= 4.5, name


def test_ranks_in_the_text_are_those_in_the_picture():
    config = json.loads((ROOT / "docs" / "rank-map.json").read_text(encoding="utf-8"))
    ranks = {name: sum(kept) for name, kept in config["rank_pattern"].items()}
    dense = fmean(r for n, r in ranks.items() if re.search(r"\d\.(intermediate|output)", n))
    attention = fmean(r for n, r in ranks.items() if re.search("query|key", n))
    assert f"rank {config['init_r']}, and the average was to be {config['target_r']}" in TEXT
    assert f"keep {dense:.1f}, queries and keys {attention:.1f}, and two matrices keep none" in TEXT
    assert list(ranks.values()).count(0) == 2
    output_of_python(ROOT / "tools" / "regenerate.py", "--check", "ranks")


def test_found_faults_are_counted_right():
    result = compare(ROOT / "tests" / "usage" / "corpus_later")
    found, faults = len(result.found), len(result.found) + len(result.missed)
    assert f"In {result.files} scripts and notebooks" in TEXT
    assert f"finds {found} of {faults} faults without a false alarm" in " ".join(TEXT.split())
    assert not result.alarms


def test_rows_beside_peft_are_those_of_the_whole_comparison():
    def answers(text: str) -> dict[str, list[str]]:
        rows = re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
        return {row[0]: [cell.partition(":")[0] for cell in row[1:]] for row in rows}

    shown = answers(TEXT.partition("## Beside PEFT")[2].partition("## ")[0])
    whole = answers((ROOT / "docs" / "peft-comparison.md").read_text(encoding="utf-8"))
    rows = {feature: cells for feature, cells in shown.items() if set(cells) <= {"yes", "no"}}
    assert len(rows) == 6
    assert rows == {feature: whole[feature] for feature in rows}
