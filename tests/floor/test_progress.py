"""Long work shows a bar on a terminal alone, and takes it away."""

from __future__ import annotations

import io
import sys
import time

import pytest

from adalora_core.floor.progress import with_progress, without_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(seconds: float) -> None:
    for _ in with_progress(range(3), "file"):
        time.sleep(seconds)
        with without_bar():
            sys.stderr.write("a notice\n")


def test_bar_is_shown_on_a_terminal_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm", reason="would have drawn the bar")
    monkeypatch.setattr(sys, "stderr", Terminal())
    work(0.6)
    shown = sys.stderr.getvalue()
    assert "/3 [" in shown
    assert " files" in shown
    assert shown.count("a notice\n") == 3
    # Whatever stood in a line before a notice is wiped.
    assert all(line.endswith("\ra notice") or line == "a notice"
               for line in shown.split("\n")[:-1])  # fmt: skip
    assert not shown.split("\n")[-1].split("\r")[-1].strip()


@pytest.mark.parametrize("where", ["file", "closed", "without tqdm"])
def test_nothing_is_shown_elsewhere(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO() if where == "file" else Terminal()
    monkeypatch.setattr(sys, "stderr", None if where == "closed" else stream)
    if where == "without tqdm":
        monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(with_progress(range(3), "file")) == [0, 1, 2]
    assert not stream.getvalue()
