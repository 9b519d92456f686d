"""The documentation site: it builds without a warning, and every link in it leads somewhere."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from programs import Finished, output_of_python, run_python

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src")}


class Page(HTMLParser):
    """The addresses that a page links to or loads, and the names that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for attribute, value in attrs:
            if attribute in {"id", "name"} and value:
                self.names.add(value)
            elif (tag, attribute) == ("a", "href"):
                self.links.append(value or "")
            elif (tag, attribute) in LOADED:
                self.loaded.append(value or "")


def strict_build(folder: Path, source: Path = ROOT) -> Finished:
    return run_python(
        *("-m", "mkdocs", "build", "--strict", "--site-dir", folder),
        *("--config-file", source / "mkdocs.yml"),
        variables={
            "NO_MKDOCS_2_WARNING": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "ADALORA_PLAYGROUND": "OFF",  # tests/docs/test_playground.py has it
        },
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    if importlib.util.find_spec("material") is None:
        pytest.skip("would build the documentation site; install the extra: docs")
    folder = tmp_path_factory.mktemp("site")
    done = strict_build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_site_has_a_page_that_search_finds_for_every_rule_command_and_public_name(site):
    import adalora_core
    from adalora_core.checker.rules import RULES
    from adalora_core.commands.cli import COMMANDS

    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {(each["location"], each["title"]) for each in index["docs"]}
    assert found >= {(f"rules/{rule.code}/", f"{rule.code} {rule.name}") for rule in RULES}
    commands = (site / "commands" / "index.html").read_text(encoding="utf-8")
    assert all(f'id="adalora-{name}"' in commands for name in COMMANDS)
    reference = (site / "api" / "index.html").read_text(encoding="utf-8")
    missing = [
        name
        for name in adalora_core.__all__
        if not re.search(rf'id="adalora_core\.(floor\.errors\.)?{name}"', reference)
    ]
    assert not missing


def test_page_of_a_field_says_who_reads_it_its_range_and_an_example_that_holds(site, tmp_path):
    def text_of(field: str) -> str:
        page = (site / "fields" / field / "index.html").read_text(encoding="utf-8")
        return html.unescape(re.sub(r"<[^>]+>", "", page))

    assert "a number, above 0 and below 1" in text_of("beta1")
    assert "an integer, at least 1" in text_of("deltaT")
    assert "AdaLoRA does not read it." in text_of("r")
    assert "The runtime adalora-core alone reads it." in text_of("importance_criterion")
    (example,) = re.findall("An example: .*", text_of("tfinal"))
    values = dict(re.findall(r"(total_step|tinit|tfinal) (\d+)", example))
    assert len(values) == 3
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"peft_type": "ADALORA"} | {k: int(v) for k, v in values.items()}))
    plan = json.loads(output_of_python("-m", "adalora_core", "plan", "-o", "json", config))
    told = [(int(first), int(last)) for first, last in re.findall(r"steps (\d+) to (\d+)", example)]
    assert told == [(phase["first"], phase["last"]) for phase in plan["phases"]]


def test_page_of_the_fields_names_every_one_with_its_summary(site):
    from adalora_core.config.fields.table import ALL_FIELDS

    text = html.unescape((site / "fields" / "index.html").read_text(encoding="utf-8"))
    assert all(f"<code>{name}</code>" in text for name in ALL_FIELDS)
    assert all((site / "fields" / name / "index.html").is_file() for name in ALL_FIELDS)
    summaries = [field.summary for field in ALL_FIELDS.values()]
    plain = [summary for summary in summaries if not set(summary) & set("`*_[<")]
    assert len(plain) > 20
    assert all(summary in text for summary in plain)


def test_every_page_says_its_version_and_names_a_card_for_those_who_share_it(site):
    for name in ("index.html", "rules/ADA202/index.html"):
        text = (site / name).read_text("utf-8")
        assert f"adalora-core {version('adalora-core')}" in text
        (card,) = re.findall('"og:image" content="([^"]+)"', text)
        assert (site / name).parent.joinpath(card).is_file()


def test_codes_of_rules_are_links_but_in_code_headings_and_their_own_page(site):
    def links_of(page: str) -> list[str]:
        text = (site / page / "index.html").read_text(encoding="utf-8")
        return re.findall(r'<a href="([./]*(?:rules/)?ADA\d+/)">ADA', text.partition("<article")[2])

    assert "../rules/ADA803/" in links_of("glossary")
    assert "ADA202/" in links_of("rules")
    assert links_of("start-here") == []  # ADA202 is in blocks and in a command
    assert links_of("rules/ADA202") == []


def test_links_of_the_site_lead_to_pages_and_headings_that_exist(site, pages):
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links start at the root of a server
            continue
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path.parent / unquote(parts.path) if parts.path else path
            if target.is_dir():
                target /= "index.html"
            target = target.resolve()
            names = pages[target].names if target in pages else {"only-light", "only-dark"}
            if target.parent.name == "playground" and parts.fragment.startswith("play="):
                continue  # a text, which tests/docs/test_playground_bridge.py reads
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in names):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 70
    assert not broken


def test_pages_load_nothing_from_another_host(pages):
    loaded = {address for page in pages.values() for address in page.loaded}
    assert loaded
    assert not [address for address in loaded if urlsplit(address).netloc]


def test_style_sheets_load_nothing_from_another_host(site):
    sheets = list(site.rglob("*.css"))
    assert sheets
    asked = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//")
    assert not [sheet for sheet in sheets if asked.search(sheet.read_text(encoding="utf-8"))]


def test_build_fails_for_broken_links_and_names_each(site, tmp_path):  # noqa: ARG001 - skips with it
    for name in (
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "adalora_core",
        "benchmarks",
        "examples",
    ):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs" / "glossary.md").open("a", encoding="utf-8") as page:
        page.write("\n[page](gone.md) [heading](contract/read.md#gone) [file](../gone.py)\n")
    done = strict_build(tmp_path / "site", tmp_path)
    assert done.returncode == 1
    for link in ("gone.md", "contract/read.md#gone", "../gone.py"):
        assert f"'{link}'" in done.stderr
