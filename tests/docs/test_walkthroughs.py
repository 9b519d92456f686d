"""The pages whose examples continue each other, and what each block of them prints."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="would run the pages that train")
from walkthroughs import WALKTHROUGHS, run_page


@pytest.mark.slow
@pytest.mark.usefixtures("uninstalled")
@pytest.mark.parametrize("page", WALKTHROUGHS, ids=lambda page: page.stem)
def test_page_prints_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = list(run_page(page))
    assert len(shown) > 1
    for block in shown:
        assert block.printed == block.promised, f"{page.name}:{block.line}"


def test_page_that_promises_something_else_is_found_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Path("page.md")
    page.write_text("```python\nx = 2\n```\n\n```python\nprint(x)\n```\n\n```text\n3\n```\n")
    assert [(block.promised, block.printed) for block in run_page(page)] == [
        ("", ""),
        ("3\n", "2\n"),
    ]
