"""Each promise of SECURITY.md names the tests that hold it, and these exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
SECTIONS = ("Who checks the files of strangers", "Who loads the adapters of strangers")
NOT_PROMISED = "They do not cover:"
NAMED = re.compile(r"^  `([\w/]+\.py)::(test_\w+)`$", re.MULTILINE)


def _promises() -> list[str]:
    parts = re.split(r"^## (.*)\n", TEXT, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    texts = [sections[name].partition(NOT_PROMISED)[0] for name in SECTIONS]
    return [each for text in texts for each in re.split(r"^- ", text, flags=re.MULTILINE)[1:]]


def test_every_promise_names_a_test():
    promises = _promises()
    assert len(promises) >= 16
    assert [each for each in promises if not NAMED.search(each)] == []


def test_every_named_test_exists():
    named = NAMED.findall(TEXT)
    assert len(named) == TEXT.count("::test_")
    texts = {name: (ROOT / "tests" / name).read_text("utf-8") for name, _ in named}
    assert [each for each in named if f"def {each[1]}(" not in texts[each[0]]] == []
