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
CORPORA = ("corpus_strangers", "corpus_later", "corpus_lora")


def block(language: str) -> str:
    (found,) = (each.content for each in BLOCKS if each.language == language)
    return found


def test_page_is_short():
    lines = [each for each in re.sub("<!--.*?-->", "", TEXT).splitlines() if each[:1] != "|"]
    assert len(lines) <= 90
    assert max(map(len, lines)) <= 120
    assert len(TEXT.split()) <= 800
    assert len([line for line in block("python").splitlines() if line.strip()]) <= 14


def test_commands_to_copy_are_whole(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    from install_forms import SOURCE

    for command in ("adalora check train.py", "adalora demo", "mkdocs serve", "pytest"):
        assert re.search(rf"`[^`]*(pip install|uvx) [^`]*{command}`", TEXT), command
    assert f'`pip install "{SOURCE}[demo]" && adalora demo`' in TEXT


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
    assert f"rank {config['init_r']}, and the target was {config['target_r']}" in TEXT
    assert f"keep {dense:.1f}, queries and keys {attention:.1f}, and two matrices keep none" in TEXT
    assert list(ranks.values()).count(0) == 2
    output_of_python(ROOT / "tools" / "regenerate.py", "--check", "ranks")


def test_found_faults_are_counted_right():
    page = (ROOT / "docs" / "checking.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| .* \| (\d+) \| (\d+) of (\d+) \| (\d+) \| `(.*)` \|$", page, re.MULTILINE
    )
    assert {folder for *_, folder in rows} == {f"tests/usage/{each}" for each in CORPORA}
    for files, found, faults, alarms, folder in rows:
        result = compare(ROOT / folder)
        count = len(result.found) + len(result.missed)
        shown = (int(files), int(found), int(faults), int(alarms))
        assert shown == (result.files, len(result.found), count, len(result.alarms)), folder
    files, found, alarms = re.findall(
        r"^\| [\d-]{10}[^|]*\| (\d+) \| (\d+ of \d+) \| (\d+ of \d+) right", page, re.MULTILINE
    )[0]  # the newest, not the best
    false, right = alarms.split(" of ")
    shown = f"wrote {files} files: it found {found} faults, and gave a false alarm in "
    shown += f"{false} of {right} right files"
    assert shown in " ".join(TEXT.split())
