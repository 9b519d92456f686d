"""One command writes every generated file, and names those that differ from their source."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from programs import Finished, output_of_python, run_python

ROOT = Path(__file__).parents[2]
QUICK = (
    *("rules", "schemas", "share", "stubs", "runs", "tools", "scripts", "disagreements"),
    *("speed", "schedule", "scaling", "evidence"),
)
"""The parts that need neither minutes nor PEFT; `.ci/run generated` checks all."""
COPIED = ("tools", "docs", "schemas", "benchmarks", "csrc/bindings")
ADR = "docs/adr/0004-which-goals-of-speed-the-core-reaches.md"


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


@pytest.mark.parametrize("part", QUICK)
def test_committed_files_are_what_their_source_gives(part: str) -> None:
    output_of_python(ROOT / "tools" / "regenerate.py", "--check", part)


@pytest.mark.parametrize(
    ("part", "name", "text"),
    [
        ("rules", "docs/rules/ADA202.md", "**Why:**"),
        ("schemas", "schemas/adalora-report.schema.json", '"$schema"'),
        ("stubs", "adalora_core/_cpu.pyi", "    /,\n"),
        ("speed", "README.md", "| training step of MiniLM |"),
        ("schedule", "docs/budget-schedule.svg", "budgeting"),
        ("scaling", "docs/scaling.md", "| 7B | 64 | DDP |"),
        ("evidence", "docs/evidence.md", " runs are done."),
    ],
)
def test_damaged_file_is_named_and_then_mended(part: str, name: str, text: str, copy: Path) -> None:
    path = copy / name
    before = path.read_text(encoding="utf-8")
    assert text in before
    path.write_text(before.replace(text, "", 1), encoding="utf-8")
    damaged = path.read_bytes()
    done = regenerate("--check", part, root=copy)
    assert (done.returncode, done.stdout) == (1, report(part, name)), done.stderr
    assert path.read_bytes() == damaged
    done = regenerate(part, root=copy)
    assert (done.returncode, done.stdout) == (0, f"wrote {name}\n"), done.stderr
    assert path.read_text(encoding="utf-8") == before
    assert not list(path.parent.glob(".adalora-*"))


def test_missing_file_is_written_and_one_without_a_source_removed(copy: Path) -> None:
    missing = copy / "docs" / "rules" / "ADA202.md"
    left_over = missing.with_stem("ADA999")
    missing.rename(left_over)
    done = regenerate("--check", "rules", root=copy)
    assert done.returncode == 1
    assert set(done.stdout.splitlines(keepends=True)) == {
        report("rules", "docs/rules/ADA202.md"),
        report("rules", "docs/rules/ADA999.md"),
    }
    assert regenerate("rules", root=copy).returncode == 0
    assert missing.is_file()
    assert not left_over.exists()


def test_changed_figure_is_noticed_in_every_page_and_in_the_picture(copy: Path) -> None:
    figures = copy / "benchmarks" / "results" / "core.json"
    held = json.loads(figures.read_text(encoding="utf-8"))
    held["results"]["training_step"][0]["ratio"] = 0.5
    figures.write_text(json.dumps(held), encoding="utf-8")
    done = regenerate("--check", "speed", root=copy)
    assert done.returncode == 1
    shown = ("benchmarks/results/core.md", "README.md", ADR, "benchmarks/results/core.png")
    assert done.stdout == report("speed", *shown)


def test_picture_is_drawn_again_when_what_draws_it_changes(copy: Path) -> None:
    pytest.importorskip("matplotlib", reason="would have drawn docs/scaling.png again")
    script = copy / "tools" / "scaling_model.py"
    script.write_text(script.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert regenerate("--check", "scaling", root=copy).stdout == report(
        "scaling", "docs/scaling.png"
    )
    done = regenerate("scaling", root=copy)
    assert done.stdout == "wrote docs/scaling.png\n", done.stderr
    assert regenerate("--check", "scaling", root=copy).returncode == 0


def test_function_that_a_binding_adds_is_in_the_stub_with_its_parameters(copy: Path) -> None:
    binding = copy / "csrc" / "bindings" / "bind_importance.cpp"
    binding.write_text(
        "bool forget(py::handle parameters, py::handle decay) {\n"
        'define<&forget>(module, "forget_importance", "Forget.");\n',
        encoding="utf-8",
    )
    assert regenerate("stubs", root=copy).returncode == 0
    text = (copy / "adalora_core" / "_cpu.pyi").read_text(encoding="utf-8")
    assert "def forget_importance(parameters: Tensor, decay: Tensor, /) -> bool: ...\n" in text
    assert "update_importance" not in text


def test_part_that_does_not_exist_is_a_usage_error() -> None:
    done = regenerate("rule")
    assert done.returncode == 2
    assert "unknown parts: rule; there are rules, schemas" in done.stderr
