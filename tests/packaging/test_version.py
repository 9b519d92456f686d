"""The version stands in pyproject.toml; everything else that shows one shows that one."""

from __future__ import annotations

import datetime as dt
import importlib.util
import re
import tomllib
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from packaging.version import Version

import adalora_core
from adalora_core.checker.rules import RULES
from adalora_core.commands.cli import main

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
# The headings of https://keepachangelog.com/en/1.1.0/.
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


UNRELEASED = "[Unreleased]"


def entries() -> list[tuple[str, str]]:
    """The version and the date of each released entry of the changelog."""
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    if headings[0] == UNRELEASED:
        headings = headings[1:]
    found = [re.fullmatch(r"\[(.+)\] - (.+)", heading) for heading in headings]
    assert all(found), headings
    return [(match[1], match[2]) for match in found]


def test_metadata_package_and_command_say_the_version(capsys):
    assert version("adalora-core") == adalora_core.__version__ == VERSION
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"adalora-core {VERSION}\n"


def test_page_of_the_index_names_files_by_address():
    text = str(metadata("adalora-core").get_payload() or metadata("adalora-core")["Description"])
    named = re.findall(r"""\]\(([^)#]+)|src(?:set)?="([^"]+)""", text)
    ours = r"https://(?:raw\.githubusercontent|github)\.com/\w+/adalora-core/(?:blob/)?v(.+?)/(.+)"
    files = [match for each in named if (match := re.fullmatch(ours, "".join(each)))]
    assert {match[1] for match in files} == {VERSION}
    assert {Path(match[2]).suffix for match in files} == {".md", ".png", ".svg"}
    assert all((ROOT / match[2]).is_file() for match in files)
    others = {"".join(each) for each in named} - {match[0] for match in files}
    assert others == {"https://github.com/huggingface/peft"}


def test_compiled_core_says_the_version():
    if importlib.util.find_spec("adalora_core._cpu") is None:
        pytest.skip("would compare the version of the compiled core; there is none")
    from adalora_core import _cpu

    assert _cpu.__version__ == VERSION


def test_the_newest_release_in_the_changelog_is_at_most_this_version():
    assert f"## {UNRELEASED}\n" in CHANGELOG or entries()[0][0] == VERSION
    assert all(Version(name) <= Version(VERSION) for name, _ in entries())


def test_changelog_goes_from_the_newest_to_the_oldest_with_dates():
    versions = [Version(name) for name, _ in entries()]
    assert versions == sorted(set(versions), reverse=True)
    assert all(dt.date.fromisoformat(date) for _, date in entries())


def test_changelog_sorts_changes_by_their_kind():
    kinds = re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)
    assert kinds
    assert set(kinds) <= KINDS
    before_first_kind = CHANGELOG.partition("### ")[0]
    assert not re.findall(r"^- ", before_first_kind, re.MULTILINE)


def test_no_rule_is_newer_than_this_version():
    assert all(Version(rule.since) <= Version(VERSION) for rule in RULES)


def test_releases_that_examples_pin_are_this_version():
    pinned = re.compile(r"(?:rev: |adalora-core(?:@|==))v?(\d+\.\d+[\w.]*)")
    files = [
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "examples").rglob("*.y*ml"),
        ROOT / "README.md",
    ]
    named = [found for file in files for found in pinned.findall(file.read_text(encoding="utf-8"))]
    assert named
    assert set(named) == {VERSION}
