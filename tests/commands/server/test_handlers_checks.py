"""A document is checked after a pause, or when somebody asks; the tests wait for no pause."""

from __future__ import annotations

import asyncio

import pytest

from adalora_core.commands.server import handlers
from adalora_core.commands.server.checking import published

URI = "untitled:a"


class Bench(handlers.Checks):
    """Checks that are counted, and made by nobody."""

    def __init__(self):
        self.texts, self.checked, self.shown = {URI: ""}, [], []
        super().__init__(self.texts.get, self.shown.append)
        self._worker.kill("not needed")
        self._worker.end()

    def answer(self, state, snapshot, find):
        self.checked.append((state, snapshot, find))
        return snapshot

    def edit(self, text):
        self.texts[URI] = text
        self.changed(URI)


async def _settled():
    """Let everything run that does not wait for a pause."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_edits_are_not_checked_before_a_pause_but_when_somebody_asks(monkeypatch):
    monkeypatch.setattr(handlers, "QUIET", 3600.0)

    async def type_and_ask():
        bench = Bench()
        for number in range(50):
            bench.edit(str(number))
            await _settled()
        assert bench.checked == []
        assert await bench.ask(URI, len) == "49"
        assert await bench.ask(URI, max) == "49"
        assert bench.checked == [(49, "49", len), (49, "49", max)]  # the state is the same

    asyncio.run(type_and_ask())


def test_documents_are_checked_again_in_another_state():
    async def check_twice():
        bench = Bench()
        bench.edit("text")
        while len(bench.shown) < 1:
            await _settled()
        bench.check_again()
        while len(bench.shown) < 2:
            await _settled()
        assert bench.checked == [(0, "text", published), (1, "text", published)]

    asyncio.run(check_twice())


@pytest.mark.parametrize("is_reopened", [False, True])
def test_closed_document_is_not_checked_and_a_reopened_one_is_checked_anew(is_reopened):
    async def close():
        bench = Bench()
        bench.edit("old")
        bench.closed(URI)
        if is_reopened:
            bench.edit("new")
        assert await bench.ask(URI, len) == ("new" if is_reopened else None)
        while len(asyncio.all_tasks()) > 1:
            await _settled()
        assert bench.shown == (["new"] if is_reopened else [])

    asyncio.run(close())
