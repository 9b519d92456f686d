"""A document is checked after a pause, or when somebody asks; the tests wait for no pause."""

from __future__ import annotations

import asyncio

import pytest
from served_documents import WRONG, json_text

from adalora_core.commands.server import checking
from adalora_core.commands.server.snapshots import CheckedSnapshot, Part, Snapshot, Text

URI = "untitled:a"


class Bench:
    """A schedule whose checks and results are counted."""

    def __init__(self):
        self.texts, self.checked, self.published = {URI: json_text(WRONG)}, [], []
        self.schedule = checking.Schedule(self.take, self.check, self.published.append)

    def take(self, uri):
        text = self.texts.get(uri)
        part = Part(uri, 1, Text.of(text or "", "utf-16"))
        return None if text is None else Snapshot(uri, None, "json", (part,))

    def check(self, snapshot):
        self.checked.append(str(snapshot.parts[0].text))
        return CheckedSnapshot(snapshot)

    def edit(self, text):
        self.texts[URI] = text
        self.schedule.changed(URI)


async def _settled():
    """Let everything run that does not wait for a pause."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_edits_are_not_checked_before_a_pause_but_when_somebody_asks(monkeypatch):
    monkeypatch.setattr(checking, "QUIET", 3600.0)

    async def type_and_ask():
        bench = Bench()
        for number in range(50):
            bench.edit(str(number))
            await _settled()
        assert bench.checked == []
        found = await bench.schedule.newest(URI)
        assert bench.checked == ["49"]
        assert found is bench.published[0]
        assert await bench.schedule.newest(URI) is found  # known already
        assert bench.checked == ["49"]

    asyncio.run(type_and_ask())


@pytest.mark.parametrize("is_reopened", [False, True])
def test_closed_document_is_not_checked_and_a_reopened_one_is_checked_anew(is_reopened):
    async def close():
        bench = Bench()
        bench.edit("old")
        bench.schedule.closed(URI)
        bench.texts.clear()
        if is_reopened:
            bench.edit("new")
        await bench.schedule.newest(URI)
        while len(asyncio.all_tasks()) > 1:
            await _settled()
        assert bench.checked == (["new"] if is_reopened else [])
        assert len(bench.published) == is_reopened

    asyncio.run(close())
