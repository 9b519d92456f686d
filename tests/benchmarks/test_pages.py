"""The pages about speed say what the measured figures say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "benchmarks" / "pages.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_pages_are_those_of_the_committed_figures() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


def test_a_changed_figure_is_noticed_in_every_page(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(ROOT / "docs" / "adr", tmp_path / "docs" / "adr")
    figures = tmp_path / "benchmarks" / "results" / "core.json"
    held = json.loads(figures.read_text(encoding="utf-8"))
    held["results"]["training_step"][0]["ratio"] = 0.5
    figures.write_text(json.dumps(held), encoding="utf-8")
    done = check(tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "pages: core.md, README.md, 0004-which-goals-of-speed-the-core-reaches.md differ from "
        "core.json; run benchmarks/pages.py\n"
    )
