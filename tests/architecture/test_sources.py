"""House rules that a reader of the sources relies on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("adalora_core", "csrc", "tests", "benchmarks", "tools", "examples")
SUFFIXES = {".py", ".pyi", ".cpp", ".hpp", ".h", ".cu", ".cuh"}
LONGEST_FILE = 400
HIDING_NAMES = {"util", "utils", "helper", "helpers", "common", "misc"}


def sources() -> list[Path]:
    return [
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in SUFFIXES
    ]


def test_no_source_file_is_longer_than_a_reader_bears() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources()
    }
    assert lengths
    too_long = {path: length for path, length in lengths.items() if length > LONGEST_FILE}
    assert too_long == {}, f"split by topic: at most {LONGEST_FILE} lines"


def test_no_name_hides_its_content() -> None:
    hiding = [path for path in sources() if {path.stem, path.parent.name} & HIDING_NAMES]
    assert hiding == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_for_later(word: str) -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path != Path(__file__) and re.search(rf"\b{word}\b", path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_exception_from_a_lint_rule_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    codes = [
        *lint["ignore"],
        *(code for each in lint["per-file-ignores"].values() for code in each),
    ]
    unexplained = [code for code in codes if not re.search(rf'"{code}".*#\s*\w+', text)]
    assert unexplained == []


CLOCK = re.compile(r"time\.(monotonic|perf_counter|time)\(|timeout=(\d+)")
LEAST_TIMEOUT = 300
TIMED = {
    "contract/test_reader_oracles.py",  # nightly, searches for some time too
    "support/fuzzing.py",  # searches for some time, and counts what it finds
}


def test_no_test_depends_on_the_clock():
    """A busy machine is slow, not wrong: `pace` measures work, and a timeout ends what hangs."""
    tests = ROOT / "tests"
    clocked = []
    for path in sorted(tests.rglob("*.py")):
        name = path.relative_to(tests).as_posix()
        if name.startswith("usage/corpus") or name in TIMED or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            found = CLOCK.search(line)
            if found and not (found[2] and int(found[2]) >= LEAST_TIMEOUT):
                clocked.append(f"{name}:{number}: {line.strip()}")
    assert not clocked
