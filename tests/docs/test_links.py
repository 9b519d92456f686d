"""Relative links in the documentation lead somewhere, and so do the paths it names."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
LINK_TO_HEADING = re.compile(r"\]\((?!https?://)([^)#\s]*(?<!\.svg))#([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
NAMED_PATH = re.compile(
    r"`((?:adalora_core|csrc|tests|docs|schemas|benchmarks|tools|examples)/[\w./-]*|\.ci/\w+)`"
)


def anchors_of(page: Path) -> set[str]:
    """The names that a page's headings get, on the site and where repositories are shown."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_headings_and_named_paths_of_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    missing = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    missing += [name for name in NAMED_PATH.findall(text) if not (ROOT / name).exists()]
    assert not missing
    links = LINK_TO_HEADING.findall(text)
    targets = [(page.parent / path if path else page, anchor) for path, anchor in links]
    assert not [anchor for target, anchor in targets if anchor not in anchors_of(target)]


def navigation(item) -> list[str]:
    if isinstance(item, str):
        return [item]
    return [
        page
        for part in (item.values() if isinstance(item, dict) else item)
        for page in navigation(part)
    ]


def test_every_page_is_in_the_navigation_of_the_site():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    patterns = navigation(settings["nav"])
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert not [page for page in pages if not any(fnmatch(page, each) for each in patterns)]
