"""The page of the playground, as its reader sees it in a browser."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "docs" / "site" / "playground" / "examples"
LONG = 300_000
"""Milliseconds that Python may take to start on a busy machine."""
VALUE = "document.querySelector('#pg-text').value"


class Playground:
    """One opened page, with what it asked for and what went wrong."""

    def __init__(self, page, address: str) -> None:
        self.page = page
        self.address = f"{address}playground/"
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(LONG)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _hear(self, message) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} {message.location}")

    def open(self, fragment: str = "") -> Playground:
        self.page.goto(self.address + fragment)
        self.page.wait_for_selector("#pg-loading", state="hidden")
        return self.settled()

    def settled(self) -> Playground:
        """Wait until the findings belong to the text."""
        self.page.wait_for_selector("#pg-findings[aria-busy=false]", state="attached")
        return self

    def type(self, text: str) -> Playground:
        self.page.fill("#pg-text", text)
        return self.settled()

    def choose(self, name: str) -> Playground:
        self.page.select_option("#pg-example", name)
        text = (EXAMPLES / name).read_text("utf-8")
        self.page.wait_for_function(f"text => {VALUE} === text", arg=text)
        return self.settled()

    def press(self, name: str) -> Playground:
        self.page.get_by_role("button", name=name).click()
        return self.settled()

    @property
    def codes(self) -> list[str]:
        links = self.page.locator("#pg-findings a").all_inner_texts()
        return [link.split()[0] for link in links]

    def marked(self, severity: str) -> list[str]:
        return self.page.locator(f".pg-marks .pg-{severity}").all_text_contents()

    @property
    def text(self) -> str:
        return self.page.input_value("#pg-text")

    @property
    def status(self) -> str:
        return self.page.inner_text("#pg-status")


COLOURS = """selector => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (colour) => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); };
  const seen = () => [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  const text = document.querySelector(selector);
  const under = [];
  for (let each = text; each; each = each.parentElement) under.unshift(each);
  for (const each of under) paint(getComputedStyle(each).backgroundColor);
  const ground = seen();
  paint(getComputedStyle(text).color);
  return [seen(), ground];
}"""
"""The colours of a text and of what lies under it, where they are transparent as they are seen."""


def contrast(page, selector: str) -> float:
    """The ratio between the colours of a text and of its background, as WCAG defines it."""

    def luminance(colour: list[int]) -> float:
        parts = [number / 255 for number in colour]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted(map(luminance, page.evaluate(COLOURS, selector)), reverse=True)
    return (high + 0.05) / (low + 0.05)
