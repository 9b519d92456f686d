"""The playground in a real browser: its panes, its colours, long texts, and what it downloads."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from pathlib import Path

import pytest
from contract_corpus import CORPUS, write_entry
from playground_page import EXAMPLES, VALUE, contrast

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
MOST_BYTES = 5_500_000
"""What a first visit may download for Python, compressed."""
MOST_REQUESTS = 6
LONG_TEXT = "".join(f"k{number}: [1, 2, 3, {{a: b}}]\n" for number in range(30_000))
"""About as many values as a text may have."""
PUT = """text => {
  const area = document.querySelector("#pg-text");
  area.value = text;
  area.dispatchEvent(new Event("input"));
}"""
"""What a reader pastes; `fill` takes minutes for a long text."""
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
ASK = """async ([address, texts]) => {
  const worker = new Worker(address, { type: "module" });
  const next = () => new Promise((resolve) => {
    worker.onmessage = ({ data }) => "progress" in data || resolve(data);
  });
  const answers = [await next()];
  for (const text of texts) {
    worker.postMessage({ text, format: "", runtime: "peft" });
    answers.push(await next());
  }
  worker.terminate();
  return answers;
}"""


def test_findings_lie_beside_the_text_and_the_plan_below_it_folded_on_a_phone(playground):
    page = playground.open().choose("training.py").page
    is_wide = page.viewport_size["width"] > 1000
    text, findings, plan = (
        page.locator(name).bounding_box() for name in ("#pg-editor", "#findings", "#plan")
    )
    assert (findings["x"] > text["x"] + text["width"]) == is_wide
    assert (findings["y"] < text["y"] + text["height"]) == is_wide
    assert plan["y"] > max(text["y"] + text["height"], findings["y"])
    for name in ("plan", "models"):
        assert page.locator(f"#pg-{name}").is_visible() == is_wide, name
    page.locator("summary", has_text="Plan").focus()
    page.keyboard.press("Enter")
    assert page.locator("#pg-plan").is_visible() != is_wide
    width, available = page.evaluate(WIDTHS)
    assert width == available
    # The theme asks a published site for its versions.
    assert not [each for each in playground.complaints if "versions.json" not in each]
    assert not playground.errors


def test_colours_cover_the_text_and_can_be_read(opened):
    page = opened.page
    for path in sorted(EXAMPLES.iterdir()):
        opened.choose(path.name)
        assert page.locator(".pg-marks").text_content() == f"{opened.text}\n"
        assert page.locator(".pg-marks .pg-key").count() > 3, path.name
    assert page.evaluate("getComputedStyle(document.querySelector('#pg-text')).color").endswith(
        " 0)"
    )
    opened.type("# a\nfrom peft import x\nAdaLoraConfig(r=8, bias='none', name=None)\n")
    for scheme, other in (("default", "__palette_1"), ("slate", "__palette_0")):
        page.wait_for_function("name => document.body.dataset.mdColorScheme === name", arg=scheme)
        marks = [f".pg-marks .pg-{kind}" for kind in ("comment", "key", "number", "string", "word")]
        for name in (
            *marks,
            ".pg-lines",
            ".pg-label",
            ".pg-choices label",
            ".pg-place",
            ".pg-status",
        ):
            assert contrast(page, name) > 4.5, (scheme, name)
        page.locator(f"label[for={other}]:visible").click()


def test_finding_at_the_caret_stands_out(opened):
    page = opened.choose("traps.yaml").page
    page.locator("#pg-findings li", has_text="ADA102").locator(".pg-place").click()
    page.keyboard.press("ArrowLeft")
    assert page.locator(".pg-here strong + a").all_inner_texts() == ["ADA102 wrong-type"]


def test_long_text_is_checked_beside_the_page_and_can_be_stopped(opened):
    page = opened.page
    page.evaluate(PUT, LONG_TEXT)
    page.locator("#pg-stop").wait_for(state="visible")
    assert opened.status == "Checking a long text."
    page.press("#pg-text", "Control+Home")
    page.keyboard.type("y")  # at once, while Python is busy
    assert page.evaluate(f"{VALUE}.startsWith('yk0')")
    assert page.locator(".pg-marks").text_content() == ""  # the letters themselves are seen
    page.locator("#pg-stop").press("Enter")
    assert opened.status.startswith("Stopped.")
    assert page.locator("#pg-stop").is_hidden()
    assert not opened.page.inner_text("#pg-findings")  # they would be those of another text
    assert page.evaluate("document.activeElement.id") == "pg-status"
    page.wait_for_selector("#pg-loading", state="hidden")
    page.wait_for_timeout(1500)  # until a check would have been long again
    assert opened.status.startswith("Stopped.")
    opened.choose("traps.yaml")
    assert "ADA102" in opened.codes


def test_first_visit_downloads_little(opened, built_site):
    runtime = built_site / "site" / "playground" / "runtime"
    asked = {url.rpartition("/runtime/")[2] for url in opened.requests if "/runtime/" in url}
    assert len(asked) <= MOST_REQUESTS
    assert asked == {path.name for path in runtime.iterdir()}
    sent = sum(len(gzip.compress((runtime / name).read_bytes())) for name in asked)
    assert sent < MOST_BYTES
    library = zlib.decompress((runtime / "library.z").read_bytes())
    names = zipfile.ZipFile(io.BytesIO(library)).namelist()
    inside = {name.partition("/")[0] for name in names}
    assert {"adalora_core", "yaml", "bridge.pyc"} <= inside
    assert not inside & {
        "pydantic",
        "pydantic_core",
        "jsonschema",
        "torch",
        "multiprocessing",
        "xml",
    }
    assert all(name.endswith((".pyc", "LICENSE")) for name in names)


def test_small_library_answers_for_every_file_of_the_corpora(opened, tmp_path, monkeypatch):
    for folder in (EXAMPLES.parent, EXAMPLES.parents[1]):
        monkeypatch.syspath_prepend(folder)
    import bridge

    files = [write_entry(entry, tmp_path) for entry in CORPUS]
    files += sorted((ROOT / "tests" / "usage").glob("corpus*/*.*"))
    texts = [path.read_bytes().decode() for path in files]
    texts += [f"# coding: {name}\nAdaLoraConfig(r=8)\n" for name in ("cp1251", "euc-jp", "gone")]
    address = f"{opened.address}../site/playground/worker.js"
    ready, *answers = opened.page.evaluate(ASK, [address, texts])
    assert ready == {"ready": True}
    problems = [each["problem"] for each in answers if "problem" in each]
    assert not problems
    for text, found in zip(texts, answers, strict=True):
        asked = {"text": text, "format": "", "runtime": "peft"}
        expected = json.loads(bridge.answer(json.dumps(asked)))
        assert found["answer"]["findings"] == expected["findings"], text[:200]
