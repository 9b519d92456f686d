"""The pages that people see first, light and dark, wide and narrow: read, and reached by keys."""

from __future__ import annotations

from itertools import product

import pytest

pytestmark = pytest.mark.browser

PAGES = ("", "rules/ADA304/", "plan/")
WIDTHS = (1366, 390)
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
FAINT = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const painted = (...colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const brightness = (rgb) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((each) => linear(each / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const found = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = { opacityProperty: true, visibilityProperty: true };
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim(), box = texts.currentNode.parentElement;
    if (!text || !box.checkVisibility(seen)) continue;
    const layers = [];
    let opacity = 1;
    for (let each = box; each; each = each.parentElement) {
      layers.unshift(getComputedStyle(each).backgroundColor);
      opacity *= getComputedStyle(each).opacity;
    }
    const back = painted("white", ...layers);
    const opaque = painted(`rgb(${back})`, getComputedStyle(box).color);
    const ink = opaque.map((part, n) => back[n] + opacity * (part - back[n]));
    const [dark, light] = [brightness(back), brightness(ink)].sort((a, b) => a - b);
    if (light / dark < 4.5) found.add(`${(light / dark).toFixed(2)} ${box.className}: ${text}`);
  }
  return [...found];
}"""
FOCUSED = """() => {
  const focused = document.activeElement;
  const shown = focused.matches(".md-option") ? focused.nextElementSibling : focused;
  const style = getComputedStyle(shown);
  const isMarked = parseFloat(style.outlineWidth) > 1 && style.outlineStyle === "solid";
  return [focused.id || focused.textContent.trim() || focused.title, isMarked];
}"""


@pytest.fixture(params=product(WIDTHS, ("light", "dark")), ids=str)
def page(request, browser):
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    yield context.new_page()
    context.close()


def test_pages_can_be_read_and_report_nothing_to_the_console(page, served_site):
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    for name in PAGES:
        page.goto(f"{served_site[0]}{name}", wait_until="networkidle")
        assert page.evaluate(FAINT) == [], name
        assert not page.evaluate(TOO_WIDE), name
    assert said == []


def test_keys_reach_everything_in_the_bar_and_show_where_they_are(browser, served_site):
    page = browser.new_page(viewport={"width": 1366, "height": 900})
    page.goto(f"{served_site[0]}plan/")
    reached = {}
    for _ in range(13):
        page.keyboard.press("Tab")
        name, is_marked = page.evaluate(FOCUSED)
        reached[name] = is_marked
    tabs = [
        "Start here",
        "Check",
        "Train",
        "Plan and look",
        "Playground",
        "Reference",
        "Internals",
    ]
    for name in ["Skip to content", "adalora-core", "__palette_0", *tabs, "Plan a run"]:
        assert reached[name], (name, reached)
    page.keyboard.press("/")
    page.keyboard.type("gguf")
    page.wait_for_selector(
        ".md-search-result__item a[href*='serving/']"
    )  # the first letters find others
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/serving/**")
    page.close()
