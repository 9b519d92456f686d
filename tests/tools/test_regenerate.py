"""One command writes every generated file, and names those that differ from their source."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from programs import Finished, output_of_python, run_python

ROOT = Path(__file__).parents[2]
QUICK = (
    *("rules", "schemas", "share", "stubs", "runs", "tools", "scripts", "disagreements"),
    *("indexes", "speed", "schedule", "scaling", "evidence", "rank-study", "questions"),
    *("cut-study", "install"),
)
"""The parts that need neither minutes nor PEFT; `.ci/run generated` checks all."""
COPIED = ("tools", "docs", "schemas", "benchmarks", "csrc/bindings", "tests/support")


def regenerate(*arguments: str, root: Path = ROOT) -> Finished:
    return run_python(root / "tools" / "regenerate.py", *arguments)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the generated files and of what makes them."""
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "adalora_core").mkdir()
    for name in ("_cpu.pyi", "_cuda.pyi"):
        shutil.copy(ROOT / "adalora_core" / name, tmp_path / "adalora_core")
    return tmp_path


def report(part: str, *files: str) -> str:
    return "".join(
        f"{name} is out of date; run: python tools/regenerate.py {part}\n" for name in files
    )


def test_committed_files_are_what_their_source_gives() -> None:
    assert output_of_python(ROOT / "tools" / "regenerate.py", "--check", *QUICK) == ""


DAMAGES = (
    ("rules", "docs/rules/README.md", "no-budgeting-phase"),
    ("schemas", "schemas/adalora-config.schema.json", '"$schema"'),
    ("stubs", "adalora_core/_cpu.pyi", "    /,\n"),
    ("indexes", "docs/adr/README.md", "0005, "),
    ("speed", "README.md", "| 8 x 16 tokens | "),
    ("schedule", "docs/budget-schedule.svg", "budgeting"),
    ("scaling", "benchmarks/results/scaling.md", "| 7B | 64 | DDP |"),
    ("evidence", "benchmarks/studies/tables.md", "160 of 160 runs are done."),
)


def test_damaged_files_are_named_and_then_mended(copy: Path) -> None:
    before = {name: (copy / name).read_text(encoding="utf-8") for _, name, _ in DAMAGES}
    damaged = {}
    for _, name, text in DAMAGES:
        assert text in before[name]
        (copy / name).write_text(before[name].replace(text, "", 1), encoding="utf-8")
        damaged[name] = (copy / name).read_bytes()
    parts = [part for part, _, _ in DAMAGES]
    done = regenerate("--check", *parts, root=copy)
    reports = "".join(report(part, name) for part, name, _ in DAMAGES)
    assert (done.returncode, done.stdout) == (1, reports), done.stderr
    assert {name: (copy / name).read_bytes() for name in before} == damaged
    done = regenerate(*parts, root=copy)
    wrote = "".join(f"wrote {name}\n" for name in before)
    assert (done.returncode, done.stdout) == (0, wrote), done.stderr
    assert {name: (copy / name).read_text(encoding="utf-8") for name in before} == before
    assert not list(copy.rglob(".adalora-*"))


def test_missing_file_is_written(copy: Path) -> None:
    missing = copy / "docs" / "rules" / "README.md"
    missing.unlink()
    done = regenerate("--check", "rules", root=copy)
    assert (done.returncode, done.stdout) == (1, report("rules", "docs/rules/README.md"))
    assert regenerate("rules", root=copy).returncode == 0
    assert missing.is_file()


def test_rule_without_place_hint_and_code_of_its_own_is_refused_and_no_table_changes(
    copy: Path,
) -> None:
    with (copy / "tools" / "rule_classes.py").open("a", encoding="utf-8") as script:
        script.write(
            "\n\nclass Later(Rule):\n"
            "    code, name, severity = 'ADA202', 'later', 'error'\n"
            "    summary, why, bad = 'a fault', 'It fails.', {}\n"
        )
    page = copy / "docs" / "rules" / "README.md"
    page.write_text("kept", encoding="utf-8")
    done = regenerate("rules", root=copy)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1:] == [
        "rule_classes.Later is not a rule yet: import its module in rules/__init__.py",
        "rule_classes.Later.hint is missing",
        "rule_classes.Later.bad is missing",
        "rule_classes.Later.code is ADA202, as that of schedule.NoBudgetingPhase: take another",
    ]
    assert page.read_text(encoding="utf-8") == "kept"


def test_part_that_does_not_exist_is_a_usage_error_naming_those_of_the_table() -> None:
    done = regenerate("rule")
    assert done.returncode == 2
    assert "unknown parts: rule; there are rules, schemas" in done.stderr
