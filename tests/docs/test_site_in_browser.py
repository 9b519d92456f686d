"""The site in a real browser: what fits, what a search finds, what is loaded."""

from __future__ import annotations

from pathlib import PurePath
from urllib.parse import urlsplit

import pytest

from adalora_core.checker.rules import RULES
from adalora_core.config.fields.table import ADALORA_FIELDS, ALL_FIELDS

pytestmark = pytest.mark.browser

DESKTOP, PHONE = 1280, 390
LONG = 300_000
"""Milliseconds to wait on a busy machine."""
TOO_WIDE = """() => {
  const isWide = (each) => each.scrollWidth > each.clientWidth;
  const found = [...document.querySelectorAll('.doc-signature code')].filter(isWide);
  if (isWide(document.documentElement)) found.push(document.querySelector('h1'));
  return found.map((each) => each.textContent);
}"""


@pytest.fixture(scope="module", params=[DESKTOP, PHONE])
def page(request, browser):
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    yield opened
    opened.close()


def test_pages_and_signatures_fit_and_ask_no_other_host(page, served_site, built_site):
    address, _ = served_site
    hosts = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    wide = []
    names = [path.parent.relative_to(built_site) for path in built_site.rglob("index.html")]
    if page.viewport_size["width"] == DESKTOP:  # where what fits on a phone has room
        names = [name for name in names if name.parent.name not in {"rules", "fields"}]
    for name in map(PurePath.as_posix, sorted(names)):
        page.goto(f"{address}{name}/", wait_until="domcontentloaded")
        wide += [(name, text) for text in page.evaluate(TOO_WIDE)]
    assert not wide
    assert hosts == {urlsplit(address).netloc}


@pytest.mark.parametrize(("name", "count"), [("rules", len(RULES)), ("fields", len(ALL_FIELDS))])
def test_long_tables_scroll_down_alone(page, served_site, name, count):
    page.goto(f"{served_site[0]}{name}/")
    assert page.locator("tbody tr").count() == count
    is_wide = "all => all.some((each) => each.scrollWidth > each.clientWidth)"
    assert not page.locator(".md-typeset__scrollwrap").evaluate_all(is_wide)


def search(page, address: str, words: str) -> list[str]:
    """The places that a search finds, the best first."""
    page.goto(address)
    if not page.locator(".md-search__input").is_visible():
        page.locator("label[for=__search]:visible").first.click()
    # The search reads its field when a key is released, not when the field is filled.
    page.locator(".md-search__input").press_sequentially(words)
    page.wait_for_selector(".md-search-result__item", timeout=LONG)
    links = page.locator(".md-search-result__link")
    found = links.evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    return [link.split("?")[0].removeprefix(address) for link in found]


@pytest.mark.parametrize("field", sorted(ADALORA_FIELDS))
def test_search_finds_the_page_of_a_field_first(browser, served_site, field):
    page = browser.new_page()
    found = search(page, served_site[0], field)
    assert found[0].endswith(f"fields/{field}/"), found[:3]
    assert not [
        link for link in found if link.startswith(("rules/", "fields/#")) and "ADA" not in link
    ]
    page.close()


def test_search_finds_the_page_of_a_rule_first(browser, served_site):
    page = browser.new_page()
    for words in ("ADA202", "no-budgeting-phase"):
        found = search(page, served_site[0], words)
        assert found[0].endswith("rules/ADA202/"), found[:3]
    page.close()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("does nothing", "saved-lora/"), ("which rank", "plan/"), ("resize", "shrink/")],
)
def test_search_leads_from_peoples_words_to_the_page(browser, served_site, words, wanted):
    page = browser.new_page()
    found = search(page, served_site[0], words)
    assert any(link.lstrip("/").startswith(wanted) for link in found[:6]), found[:8]
    page.close()
