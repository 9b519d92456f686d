"""Add to the pages under docs/: patterns in the navigation, and files of the repository.

A page may link to any file of the repository. A file outside docs/ becomes a part of the site:
Markdown as a page, a source as a page that shows it, anything else unchanged. The page of the
commands shows their `--help`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import field_pages
import rule_pages
from mkdocs.structure.files import File, Files, InclusionLevel

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = "docs"
# Pages of the navigation that are not under docs/.
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
FAMILIES = "rules/ADA*.md"
"""Stands for the rules in the sections of their families."""
LISTS = {"rules/README.md": "rules", "fields.md": "fields"}
SHOWN = {".py": "python", ".cpp": "cpp", ".hpp": "cpp", ".cu": "cuda", ".toml": "toml"}
BOOST = {
    "build.md": 4,
    "contract/select.md": 2,
    "plan.md": 3.2,
    "release.md": 0.3,
    "runs-that-go-wrong.md": 2,
    "saved-lora.md": 3,
    "training.md": 3,
    "when-not.md": 2.7,
}
"""How much more a search finds pages that answer than pages that have the same word in their title:
tests/docs/test_site_in_browser.py has the questions. Decisions and sources come last."""
# What the command paints in a terminal, as a page shows it; the first line of a rule; a cell.
SEVERITY = re.compile(r'(<span class="go">)((error|warning|info)(?:\[ADA\d+\]|:))')
CARETS = re.compile(r'(<span class="go"> *\| +)(\^+)')
RULE = re.compile(r"<p>Severity: (error|warning|info)\.")
GRADE = re.compile("<td>(error|warning|info)</td>")
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)")
# Blocks and spans of code, headings, links and tags; or the code of a rule.
CODE = re.compile(
    r"(?ms)^ *(```+).*?^ *\1|(`+).*?\2|^#[^\n]*|\[[^\]]*\]\([^)]*\)|<[^>]*>|\b(?P<code>ADA\d{3})\b"
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace the patterns in the navigation by the pages that match; show the version.

    A site that `mike` does not build has no list of versions that a browser could ask for.
    """
    if "MIKE_DOCS_VERSION" not in os.environ:
        config.extra.pop("version", None)
    config.nav = _expanded(config.nav)
    config.copyright = f"adalora-core {version('adalora-core')}, Apache-2.0"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and every file of the repository that a page links to."""
    files.append(File.generated(config, "commands.md", content=_commands_page()))
    files.append(File.generated(config, "fields.md", content=field_pages.table()))
    for uri, content in rule_pages.pages().items():
        files.append(File.generated(config, uri, content=content))
    for uri, content in field_pages.pages().items():
        page = File.generated(config, uri, content=content)
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    waiting = [f"{DOCS}/{file.src_uri}" for file in files.documentation_pages()]
    waiting += OUTSIDE
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or not (ROOT / path).is_file():
            continue
        seen.add(path)
        if not path.startswith(f"{DOCS}/"):
            files.append(_added(path, config))
        if path.endswith(".md"):
            text = (ROOT / path).read_text(encoding="utf-8")
            waiting += [_target(path, link) for _, link in LINK.findall(text)]
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Link files of the repository as pages of the site, and codes of rules to theirs."""
    here = page.file.src_uri
    path = here if _is_added(page.file) else f"{DOCS}/{here}"

    is_source = _is_added(page.file) and page.file.inclusion.is_not_in_nav()
    last = 0.5 if is_source or here.startswith("adr/") else 1
    page.meta.setdefault("search", {"boost": BOOST.get(here, last)})

    def relinked(match: re.Match[str]) -> str:
        target = _target(path, match[2])
        if not (ROOT / target).is_file():
            return match[0]
        return match[1] + os.path.relpath(_site_uri(target), PurePosixPath(here).parent)

    def linked(match: re.Match[str]) -> str:
        uri = f"rules/{match['code']}.md"
        if uri == here or uri not in files.src_uris:
            return match[0]
        return f"[{match[0]}]({os.path.relpath(uri, PurePosixPath(here).parent)})"

    return CODE.sub(linked, LINK.sub(relinked, markdown))


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Mark tables whose rows have pages of their own: no search result, a list on a phone.

    A finding gets its colours, and the page of a rule a link to its example in the playground.
    """
    if page.file.src_uri in LISTS:
        name = LISTS[page.file.src_uri]
        html = GRADE.sub(r'<td class="finding-\1">\1</td>', html)
        return html.replace("<table>", f'<table data-search-exclude data-list="{name}">')
    html = CARETS.sub(r'\1<span class="finding-caret">\2</span>', html)
    html = SEVERITY.sub(r'\1<span class="finding-\3">\2</span>', html)
    html = RULE.sub(r'<p class="severity"><b class="finding-\1">\1</b>', html)
    fragment = playground_fragment(PurePosixPath(page.file.src_uri))
    address, right = f"../../playground/#{fragment}", '<h2 id="right">'
    link = f'<p><a href="{address}">Open the example in the playground</a></p>'
    return html.replace(right, f"{link}\n{right}", 1) if fragment else html


def playground_fragment(page: PurePosixPath) -> str:
    """Return the fragment with which the playground shows the example of a rule; "": no rule's.

    The playground has no run, no worker, no file names, no options but the runtime, and takes any
    text for one that may hold a configuration.
    """
    from adalora_core.checker.rules import BY_CODE, example_text

    rule = BY_CODE.get(page.stem) if page.parent.name == "rules" else None
    hidden = {"run", "worker", "file", "command", "tool", "ADA007", "ADA009"}
    if rule is None or {rule.needs, rule.code} & hidden:
        return ""
    if rule.example_options.keys() - {"runtime"}:
        return ""
    state = {"text": example_text(rule.bad), "format": rule.language, **rule.example_options}
    packed = zlib.compress(json.dumps(state).encode(), wbits=-15)
    return f"play={base64.urlsafe_b64encode(packed).decode().rstrip('=')}"


def _expanded(item: Any) -> Any:
    if isinstance(item, list):
        return [each for part in item for each in _matching(part)]
    if isinstance(item, dict):
        return {title: _expanded(part) for title, part in item.items()}
    return item


def _matching(item: Any) -> list[Any]:
    if not (isinstance(item, str) and "*" in item):
        return [_expanded(item)]
    if item == FAMILIES:
        groups = rule_pages.families().items()
        return [{title: [f"rules/{each.code}.md" for each in rules]} for title, rules in groups]
    pages = [path.relative_to(ROOT / DOCS).as_posix() for path in (ROOT / DOCS).rglob("*.md")]
    return sorted(page for page in pages if fnmatch(page, item))


def _target(path: str, link: str) -> str:
    """Return the file that `link` in the file `path` means, relative to the root."""
    return os.path.normpath(PurePosixPath(path).parent / link)


def _site_uri(path: str) -> str:
    """Return the address of a file of the repository in the site."""
    if path.startswith(f"{DOCS}/"):
        return path.removeprefix(f"{DOCS}/")
    return f"{path}.md" if Path(path).suffix in SHOWN else path


def _is_added(file: File) -> bool:
    return file.generated_by is not None


def _added(path: str, config: MkDocsConfig) -> File:
    source = ROOT / path
    uri = _site_uri(path)
    if source.suffix in SHOWN:
        text = source.read_text(encoding="utf-8")
        content = f"# {source.name}\n\n````{SHOWN[source.suffix]}\n{text}````\n"
        file = File.generated(config, uri, content=content)
    else:
        file = File.generated(config, uri, abs_src_path=str(source))
    if path not in OUTSIDE:
        file.inclusion = InclusionLevel.NOT_IN_NAV
    return file


def _commands_page() -> str:
    from adalora_core.commands.cli import COMMANDS

    intro = "# Commands\n\nThe output of each command with `--help`. No command uses a network."
    sections = [f"## adalora {name}\n\n```text\n{_help_of(name)}```" for name in COMMANDS]
    return "\n\n".join([intro, *sections]) + "\n"


def _help_of(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "adalora_core", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT.parent,  # in the root, Python would import the sources instead of the package
        env=os.environ | {"COLUMNS": "90", "NO_COLOR": "1"},
    )
    return done.stdout
