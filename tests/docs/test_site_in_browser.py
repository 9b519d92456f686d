"""The site in a real browser: what fits, what a search finds, what is loaded."""

from __future__ import annotations

import re
from pathlib import PurePath
from urllib.parse import urlsplit

import pytest

from adalora_core.checker.rules import RULES, explained
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


def test_home_leads_to_the_playground_and_has_a_command_with_the_clone(page, served_site):
    address, _ = served_site
    page.goto(address)
    button = page.get_by_role("link", name="Try it in the browser")
    assert button.bounding_box()["y"] + button.bounding_box()["height"] < 900
    assert "git clone" in page.locator(".highlight code").first.inner_text()
    assert page.locator(".highlight button.md-code__button, .highlight .md-clipboard").count()
    if page.viewport_size["width"] == DESKTOP:
        assert page.locator(".md-tabs").get_by_role("link", name="Start here").is_visible()
    button.click()
    page.wait_for_url(f"{address}playground/**")


@pytest.mark.parametrize(("name", "count"), [("rules", len(RULES)), ("fields", len(ALL_FIELDS))])
def test_long_tables_scroll_down_alone(page, served_site, name, count):
    page.goto(f"{served_site[0]}{name}/")
    assert page.locator("tbody tr").count() == count
    is_wide = "all => all.some((each) => each.scrollWidth > each.clientWidth)"
    assert not page.locator(".md-typeset__scrollwrap").evaluate_all(is_wide)


@pytest.fixture(scope="module")
def search(browser, served_site):
    """Asks the search of the site; returns the pages that it finds, the best first."""
    address, _ = served_site
    page = browser.new_page()
    page.goto(address)
    page.locator(".md-search__input").click()

    def asked(words: str) -> list[str]:
        page.locator(".md-search__input").fill("")
        page.keyboard.press("Backspace")
        page.wait_for_selector(".md-search-result__item", state="detached", timeout=LONG)
        # The search reads its field when a key is released, not when the field is filled.
        page.locator(".md-search__input").fill(words)
        page.keyboard.press("End")
        page.wait_for_selector(".md-search-result__item", timeout=LONG)
        links = page.locator(".md-search-result__link")
        found = links.evaluate_all("links => links.map((link) => link.getAttribute('href'))")
        return [re.split("[?#]", link.removeprefix(address))[0] for link in found]

    yield asked
    page.close()


@pytest.mark.parametrize("field", sorted(ADALORA_FIELDS))
def test_search_finds_the_page_of_a_field_first(search, field):
    found = search(field)
    assert found[0] == f"fields/{field}/", found[:3]
    assert not {"rules/", "fields/"} & set(found)  # tables whose rows have pages of their own


@pytest.mark.parametrize("words", ["ADA202", "no-budgeting-phase"])
def test_search_finds_the_page_of_a_rule_first(search, words):
    assert search(words)[0] == "rules/ADA202/"


# What people ask who use PEFT: titles and comments of issues of huggingface/peft (1206, 1539, 1801,
# 515, 479), QingruZhang/AdaLoRA (19) and tloen/alpaca-lora (226), and words of the servers.
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("Target modules not found", "rules/ADA513/"),
        ("rank 0", "runs-that-go-wrong/"),
        ("GPU", "build/"),
        ("multi-GPU", "scaling/"),
        ("DeepSpeed", "scaling/"),
        ("does nothing", "saved-lora/"),
        ("Inference with peft and base model are the same", "saved-lora/"),
        ("which rank", "plan/"),
        ("rank remains constant", "runs-that-go-wrong/"),
        ("loss decreases slower than LoRA", "runs-that-go-wrong/"),
        ("is AdaLoRA better than LoRA", "when-not/"),
        ("vLLM", "serving/"),
        ("llama.cpp", "serving/"),
        ("trainer", "training/"),
        ("callback", "training/"),
        ("resume checkpoint", "training/"),
        ("better than lora", "when-not/"),
        ("vscode", "editors/"),
        ("gguf", "serving/"),
        ("noqa", "contract/select/"),
    ],
)
def test_search_leads_from_peoples_words_to_the_page_that_helps(search, words, wanted):
    found = search(words)
    assert found[0] == wanted, found[:5]


# As pasted in issues of huggingface/peft (1721, 855, 3373) and hiyouga/LlamaFactory (209), and as
# PEFT and torch word them.
@pytest.mark.parametrize(
    "error",
    [
        "ValueError: Target modules ['q_proj', 'v_proj'] not found in the base model. Please check",
        "TypeError: unsupported operand type(s) for *: 'Parameter' and 'NoneType'",
        "in mask_using_rank_pattern AttributeError: 'NoneType' object has no attribute 'keys'",
        "AttributeError: 'BertModel' object has no attribute 'update_and_allocate'",
        "KeyError: 'adalora'",
        "ValueError: AdaLoRA does not work when `total_step` is None, supply a value > 0.",
        "Unexpected type of rank_idx <class 'int'>",
        "AdaLoraModel supports only 1 trainable adapter. When using multiple adapters, set",
        "The supplied schedule values don't allow for a budgeting phase. Decrease `tfinal`",
        "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",
    ],
)
def test_search_leads_from_a_pasted_error_to_a_rule_about_it(search, error):
    rules = [f"rules/{rule.code}/" for rule in explained(error)]
    found = search(error)
    assert found[0] in rules, (found[:5], rules)
