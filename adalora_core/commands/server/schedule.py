"""Decide when which document is checked: typing never waits, and no check waits behind old ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from adalora_core.commands.server.snapshots import Snapshot
    from adalora_core.commands.server.worker import Answer

_Result = TypeVar("_Result")

QUIET = 0.02
"""Seconds without an edit after which a document is checked; of a large one, as long as its last
check took."""
LONGEST_QUIET = 1.0


@dataclass
class _State:
    """A document: how often it changed, and what is known of which change."""

    changes: int = 0
    checked: int = 0
    changed_at: float = 0.0
    quiet: float = field(default_factory=lambda: QUIET)
    result: Answer | None = None
    is_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Schedule:
    """The checks of all open documents, one at a time, and each of the newest state only.

    `take` returns a document as it is now, None if it is not open. `check` runs in another thread.
    `publish` takes the result, unless the document has changed since.
    """

    def __init__(
        self,
        take: Callable[[str], Snapshot | None],
        check: Callable[[Snapshot], Answer],
        publish: Callable[[Answer], None],
    ) -> None:
        self._take, self._check, self._publish = take, check, publish
        self._states: dict[str, _State] = {}
        self._thread = ThreadPoolExecutor(1, "adalora-check")
        self._turn = asyncio.Lock()

    def changed(self, uri: str) -> None:
        """Note that a document was opened or edited."""
        state = self._states.setdefault(uri, _State())
        state.changes += 1
        state.changed_at = asyncio.get_running_loop().time()
        if state.task is None:
            state.task = asyncio.create_task(self._work(uri, state))

    def closed(self, uri: str) -> None:
        """Forget a document; a check of it that still runs is not published."""
        self._states.pop(uri, None)

    async def newest(self, uri: str) -> Answer | None:
        """Return the result for the newest state of a document, and check that first if needed."""
        state = self._states.get(uri)
        if state is None:
            return None
        if state.task is not None:
            state.is_wanted.set()
            await asyncio.shield(state.task)
        return state.result

    async def beside(self, work: Callable[[], _Result]) -> _Result:
        """Run work in the thread of the checks."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _work(self, uri: str, state: _State) -> None:
        loop = asyncio.get_running_loop()
        try:
            while state.checked != state.changes:
                left = state.changed_at + state.quiet - loop.time()
                if left > 0 and not state.is_wanted.is_set():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(state.is_wanted.wait(), left)
                    continue
                await self._check_once(uri, state)
        finally:
            state.task = None

    async def _check_once(self, uri: str, state: _State) -> None:
        # Other documents wait here, and not with a text that will be old by their turn.
        async with self._turn:
            state.is_wanted.clear()
            number, snapshot = state.changes, self._take(uri)
            if snapshot is None or self._states.get(uri) is not state:
                state.checked = number
                return
            began = asyncio.get_running_loop().time()
            result = await self.beside(lambda: self._check(snapshot))
            taken = asyncio.get_running_loop().time() - began
        state.quiet = min(max(QUIET, taken), LONGEST_QUIET)
        if number == state.changes and self._states.get(uri) is state:
            state.checked, state.result = number, result
            self._publish(result)
