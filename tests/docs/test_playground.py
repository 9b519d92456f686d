"""The playground in a real browser: what a reader sees, types, presses and sends."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playground_page import EXAMPLES, VALUE, Playground, contrast

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.browser

GRAVITY = ["error", "warning", "info"]
FAULT = '{"peft_type": "ADALORA", "total_step": 100, "tfinal": 200, "bias": "<b>none</b>"}'


def command_codes(path: Path, capsys, *options: str) -> list[str]:
    """The codes that `adalora check` reports for a file, errors first."""
    from adalora_core.commands.cli import main

    main(["check", "--isolated", "-o", "json", *options, str(path)])
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    found = sorted(report["diagnostics"], key=lambda each: GRAVITY.index(each["severity"]))
    return [diagnostic["code"] for diagnostic in found]


def test_examples_report_what_the_command_reports(playground, capsys):
    playground.open()
    names = playground.page.eval_on_selector_all(
        "#pg-example option", "options => options.map((option) => option.value)"
    )
    assert sorted(filter(None, names)) == sorted(path.name for path in EXAMPLES.iterdir())
    for name in filter(None, names):
        playground.choose(name)
        assert playground.codes == command_codes(EXAMPLES / name, capsys), name
        width = playground.page.evaluate("document.documentElement.scrollWidth")
        assert width == playground.page.viewport_size["width"], name
    assert not playground.errors


def test_page_asks_no_other_host(opened):
    opened.choose("good.yaml")
    asked = {urlsplit(url).netloc for url in opened.requests if not url.startswith("blob:")}
    assert asked == {urlsplit(opened.address).netloc}


def test_error_in_the_text_is_underlined_listed_and_linked(opened):
    opened.type(FAULT)
    assert "200" in opened.marked("error")
    link = opened.page.locator("#pg-findings a", has_text="ADA202")
    assert link.get_attribute("href") == "../rules/ADA202/"
    opened.page.locator("#pg-findings li", has_text="ADA202").locator(".pg-place").first.click()
    assert opened.page.evaluate("getSelection().toString()") == "200"


def test_every_line_has_a_number_and_those_with_findings_stand_out(opened):
    opened.choose("traps.yaml")
    numbers = opened.page.locator(".pg-lines").text_content()
    assert numbers.split() == [str(number + 1) for number in range(opened.text.count("\n") + 1)]
    assert opened.page.locator(".pg-lines .pg-error").all_text_contents() == ["5\n", "9\n", "14\n"]


def test_text_is_never_read_as_html(opened):
    opened.type(FAULT)
    assert "<b>none</b>" in opened.page.inner_text("#pg-findings")
    assert not opened.page.query_selector_all(".playground b, #pg-findings b")


def test_places_are_right_behind_characters_of_two_units(opened):
    face = '"revision": "\N{GRINNING FACE}"'
    opened.type(f'{{"peft_type": "ADALORA", {face}, "tfinal": 200, "total_step": 100}}')
    assert opened.marked("error") == ["200"]


def test_damaged_text_gets_the_findings_of_its_syntax(opened):
    opened.type('{"peft_type": "ADALORA",')
    assert opened.codes == ["ADA001"]
    assert opened.page.inner_text("#pg-plan").startswith("The plan appears here when")


def test_fixes_are_applied_one_by_one_safe_and_all_and_can_be_undone(opened):
    opened.choose("traps.yaml").press("Write the number without quotes")
    assert "lora_alpha: 16" in opened.text
    assert "peft_type: adalora" in opened.text
    opened.press("Apply safe fixes")
    assert "peft_type: ADALORA" in opened.text
    assert "target_module:" in opened.text
    opened.press("Apply all fixes")
    assert opened.codes == []
    assert opened.status.startswith("Applied 2 fixes. Nothing to report")
    assert opened.page.is_disabled("#pg-fix-all")
    opened.page.focus("#pg-text")
    opened.page.keyboard.press("Control+z")
    opened.page.wait_for_function(f"{VALUE}.includes('target_module:')")


def test_applied_fixes_are_listed_also_those_no_finding_announced_and_undone_at_once(opened):
    text = '{"peft_type": "ADALORA", "total_steps": 1000, "tfinal": 900, "tinit": 200}'
    assert "ADA202" not in opened.type(text).codes
    opened.press("Apply all fixes")
    assert opened.page.inner_text("#pg-applied-list") == (
        "ADA104 total_steps: Rename total_steps to total_step; "
        "ADA202 total_step: Write tfinal as a length, 100"
    )
    opened.press("Undo")
    assert opened.text == text
    assert opened.page.is_hidden("#pg-applied")
    opened.press("Apply all fixes").page.press("#pg-text", "End")
    opened.page.keyboard.type(" ")
    assert opened.page.is_hidden("#pg-applied")


def test_hint_that_the_button_repeats_is_left_out(opened):
    opened.choose("traps.yaml")
    repeated = opened.page.locator("#pg-findings li", has_text="unknown-key").inner_text()
    assert "Rename target_module to target_modules" in repeated
    assert "Hint" not in repeated
    assert "Hint" in opened.page.locator("#pg-findings li", has_text="ADA414").inner_text()


def test_finding_names_its_field_and_no_finding_is_said(opened):
    opened.choose("training.py")
    heads = opened.page.locator(".pg-head").all_inner_texts()
    assert heads[0] == "warning ADA303 r-ignored line 8, column 5 r"
    assert heads[1].startswith("warning ADA907")
    assert not opened.page.locator(".pg-head").nth(1).locator("code").count()
    opened.choose("good.yaml")
    assert opened.page.inner_text("#pg-findings") == "No findings."


def paste(opened: Playground, text: str) -> Playground:
    opened.page.evaluate(
        "text => { const area = document.createElement('textarea'); area.value = text;"
        " document.body.append(area); area.select(); document.execCommand('copy');"
        " area.remove(); }",
        text,
    )
    opened.page.focus("#pg-text")
    opened.page.keyboard.press("Control+v")
    return opened.settled()


def test_paste_replaces_an_example_until_the_reader_has_changed_it(opened):
    opened.choose("good.yaml")
    assert paste(opened, "init_r: 12\n").text == "init_r: 12\n"
    assert paste(opened, "target_r: 8\n").text == "init_r: 12\ntarget_r: 8\n"
    opened.choose("good.yaml").page.focus("#pg-text")
    opened.page.keyboard.press("Control+Home")
    opened.page.keyboard.press("Shift+End")
    assert paste(opened, "peft_type: LORA").text.startswith("peft_type: LORA\ntask_type")


def test_page_opens_with_both_kinds_of_fixes_and_box_as_high_as_its_text(playground):
    page = playground.open().page
    assert page.is_enabled("#pg-fix-safe")
    fixes = page.locator(".pg-fix").all_inner_texts()
    assert {fix.partition(":")[0] for fix in fixes} == {"Fix", "Fix, changes the meaning"}
    height = "document.querySelector('#pg-editor').offsetHeight"
    most = page.evaluate(height)
    playground.type("init_r: 12")
    least = page.evaluate(height)
    line = page.eval_on_selector(
        "#pg-text", "area => parseFloat(getComputedStyle(area).lineHeight)"
    )
    assert 6 * line < least < 8 * line < most
    playground.type("init_r: 12\n" * 12)
    assert page.eval_on_selector("#pg-text", "area => area.scrollHeight === area.clientHeight")
    playground.type("init_r: 12\n" * 100)
    assert most <= page.evaluate(height) < 25 * line
    status, box = (page.locator(name).bounding_box()["y"] for name in ("#pg-status", "#pg-editor"))
    assert status < box


def test_runtime_decides_about_equal_ranks(opened):
    opened.choose("ranks.toml")
    assert opened.codes == ["ADA302"]
    opened.page.select_option("#pg-runtime", "adalora-core")
    assert opened.settled().codes == []
    opened.page.select_option("#pg-runtime", "peft")
    assert opened.settled().codes == ["ADA302"]


def test_plan_and_parameters_are_those_of_the_package(opened):
    opened.choose("good.yaml")
    opened.page.wait_for_selector("#pg-plan svg polyline")
    label = opened.page.get_attribute("#pg-plan svg", "aria-label")
    assert label == "The average rank falls from 12 to 8.00 in 2000 steps."
    row = opened.page.locator("#pg-models tr", has_text="Llama 3.2 1B").inner_text()
    # 16 layers, rank 12, each triplet a row, a column and a value.
    sizes = ((2048, 2048), (2048, 512), (2048, 512), (2048, 2048))
    start = 16 * 12 * sum(inputs + outputs + 1 for inputs, outputs in sizes)
    assert f"{start:,} (0.21 %)" in row
    other = opened.page.locator("#pg-models tr", has_text="GPT-2").inner_text()
    assert "target_modules matches no linear layer" in other


def test_link_carries_text_and_settings_and_no_request_does(opened, browser, served_site):
    first = opened
    first.page.select_option("#pg-runtime", "adalora-core")
    first.type('{"peft_type": "ADALORA", "init_r": 8, "note": "\N{SNOWMAN} secret"}')
    first.page.click("#pg-link")
    first.page.get_by_text(re.compile("the link", re.IGNORECASE)).first.wait_for()
    fragment = urlsplit(first.page.url).fragment
    assert re.fullmatch(r"play=[\w-]+", fragment)
    second = Playground(browser.new_page(), served_site[0]).open(f"#{fragment}")
    assert second.text == first.text
    assert second.page.input_value("#pg-runtime") == "adalora-core"
    for page in (first, second):
        assert not [
            url for url in page.requests if "secret" in url or "play=" in urlsplit(url).path
        ]
    second.page.close()
    first.page.select_option("#pg-runtime", "peft")


def test_traceback_is_explained_and_nonsense_called_nonsense(opened):
    error = (
        "Traceback (most recent call last):\nValueError: PeftType.ADALORA does not support DoRA."
    )
    assert opened.type(error).codes == ["ADA401"]
    assert opened.status.endswith("(read as the message of an error).")
    opened.type("Traceback (most recent call last):\nZeroDivisionError: division by zero")
    assert opened.page.inner_text("#pg-findings").startswith("No rule is about this error")
    opened.type("why does my loss not decrease?")
    assert opened.page.inner_text("#pg-findings").startswith("This is not a configuration")
    assert opened.type("config = LoraConfig(r=0)").codes


def test_errors_come_before_remarks_and_their_buttons_fix_them(opened):
    text = (
        '{"peft_type": "ADALORA", "lora_alpha": "16", "bias": "x", "tfinal": 9, "total_step": 30}'
    )
    opened.type(text)
    shown = opened.page.locator("#pg-findings > li strong").all_inner_texts()
    assert shown == sorted(shown, key=["error", "warning", "remark"].index)
    assert len(set(shown)) > 1
    opened.press("Write the number without quotes")
    assert opened.text == text.replace('"16"', "16")


def test_each_id_is_there_once(opened):
    repeated = """() => {
      const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
      return ids.filter((each, index) => ids.indexOf(each) < index);
    }"""
    assert opened.page.evaluate(repeated) == []


def test_cut_link_says_so_and_shows_nothing_of_ours(playground):
    playground.open("#play=q1YqSS0uUbJSUkosTkkEAA")
    assert playground.status.startswith("The link is damaged or cut, and its text is lost")
    assert (playground.text, playground.codes) == ("", [])


def test_damaged_link_is_reported_and_the_page_works(opened):
    for fragment in ("play=%%%", "play=AAAA", "play="):
        opened.page.evaluate("hash => { location.hash = hash }", fragment)
        opened.page.get_by_text("The link is damaged").wait_for()
        opened.type(FAULT)
        assert "damaged" not in opened.status
        opened.choose("good.yaml")


def test_slow_first_load_shows_progress_and_keeps_what_is_typed(playground, served_site):
    _, faults = served_site
    sizes = faults.waiting["sizes.json"] = threading.Event()
    faults.waiting["library.z"] = threading.Event()
    try:
        page = playground.page
        with page.expect_event("requestfinished", lambda each: each.url.endswith(".wasm")):
            page.goto(playground.address)
        sizes.set()  # last: what came before them is counted too
        page.wait_for_function("document.querySelector('#pg-progress').value > 0.3")
        assert page.inner_text("#pg-loading-text").startswith("Loading Python")
        assert page.get_by_label("Loading Python").is_visible()
        assert float(page.get_attribute("#pg-progress", "value") or 1) < 1
        page.fill("#pg-text", FAULT)
        assert page.input_value("#pg-text") == FAULT
    finally:
        for name in ("sizes.json", "library.z"):
            faults.waiting.pop(name).set()
    page.wait_for_selector("#pg-loading", state="hidden")
    assert "ADA202" in playground.settled().codes


def test_failed_load_is_explained_and_can_be_repeated(browser, served_site):
    address, faults = served_site
    playground = Playground(browser.new_page(), address)
    faults.missing.add("library.z")
    try:
        playground.page.goto(playground.address)
        playground.page.wait_for_selector("#pg-retry", state="visible")
    finally:
        faults.missing.clear()
    assert "library.z: 503" in playground.page.inner_text("#pg-loading-text")
    playground.page.click("#pg-retry")
    playground.page.wait_for_selector("#pg-loading", state="hidden")
    playground.settled().page.close()


def test_keyboard_alone_reaches_and_works_everything(opened):
    page = opened.choose("ranks.toml").page
    page.focus("#pg-example")
    reached = []
    while not (reached and reached[-1].startswith("Fix")) and len(reached) < 20:
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
        page.keyboard.press("Tab")
    assert reached[:6] == [
        *("pg-example", "pg-format", "pg-runtime", "pg-text"),
        *("pg-fix-all", "pg-link"),  # there is no safe fix
    ]
    assert reached[-3:-1] == ["ADA302 equal-ranks", "line 5, column 10"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert opened.settled().codes == []
    assert page.evaluate("document.activeElement.id") == "pg-status"
    unnamed = "select, textarea, button, progress"
    names = page.eval_on_selector_all(
        f":is(.playground, #pg-findings) :is({unnamed})",
        "all => all.map((each) => each.labels?.length || each.textContent.trim().length)",
    )
    assert all(names)


def test_dark_mode_follows_the_site_and_stays_readable(opened):
    page = opened.choose("traps.yaml").page
    backgrounds = set()
    for scheme, other in (("default", "__palette_1"), ("slate", "__palette_0")):
        page.wait_for_function("name => document.body.dataset.mdColorScheme === name", arg=scheme)
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for severity in ("error", "warning", "info"):
            assert contrast(page, f".pg-finding.pg-{severity} strong") > 4.5, (scheme, severity)
        assert contrast(page, ".pg-marks") > 4.5
        assert contrast(page, "#pg-fix-all") > 4.5, scheme
        page.locator(f"label[for={other}]:visible").click()
    assert len(backgrounds) == 2
    assert not opened.errors
