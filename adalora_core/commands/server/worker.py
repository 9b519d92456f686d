"""Let a worker process check documents, one at a time, and decide when which one is checked.

Typing never waits, and no check waits behind old ones. The worker has limits of the system: a
document that exceeds a bound has one finding, and the next request gets a new worker.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from lsprotocol import types

from adalora_core.checker.documents.problems import BOUND_EXCEEDED
from adalora_core.commands.session import OF_A_CHECK
from adalora_core.floor.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from adalora_core.commands.server.snapshots import Snapshot

PROGRAM = "from adalora_core.commands.server.checking import work; work(reading, writing)"
_Result = TypeVar("_Result")

QUIET = 0.02
"""Seconds without an edit after which a document is checked; of a large one, as long as its last
check took."""
LONGEST_QUIET = 1.0


class BeyondBoundError(Exception):
    """A request exceeds a bound; the message completes a sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The findings of a check for the client, on each text of a document.

    `problem` is the reason why the project's settings are not used, or the text is not checked.
    """

    snapshot: Snapshot
    number: int = 0
    problem: str | None = None
    diagnostics: dict[str, list[types.Diagnostic]] = field(default_factory=dict)


class RemoteChecker:
    """The checker of a worker, as the server calls it; one request at a time."""

    def __init__(self) -> None:
        self._worker = Worker(PROGRAM, OF_A_CHECK)
        self._number = 0
        self.folders: tuple[Path, ...] = ()
        """The folders that the editor has open."""
        self.with_related = False
        """Whether the editor shows further places of a finding."""

    def check(self, snapshot: Snapshot) -> Answer:
        """Check a document; where that exceeds a bound, this is the finding."""
        self._number += 1
        try:
            problem, found = self._ask("check", snapshot, self._number)
        except BeyondBoundError as error:
            start = types.Position(0, 0)
            one = types.Diagnostic(
                types.Range(start, start),
                f"the check of the file {error}",
                severity=types.DiagnosticSeverity.Error,
                code=BOUND_EXCEEDED,
                source="adalora",
            )
            return Answer(snapshot, 0, None, {part.uri: [one] for part in snapshot.parts[:1]})
        return Answer(snapshot, self._number, problem, found)

    def about(self, find: Callable[..., Any], answer: Answer, *given: Any, **options: Any) -> Any:
        """Return what `find` finds in a checked document; None: it exceeds a bound."""
        if not answer.number:
            return None
        try:
            return self._ask("about", find, answer.snapshot, answer.number, given, options)
        except BeyondBoundError:
            return None

    def completions(self, *given: Any) -> list[types.CompletionItem]:
        """Return the proposals for a place of a snapshot."""
        try:
            found: list[types.CompletionItem] = self._ask("completions", *given)
        except BeyondBoundError:
            return []
        return found

    def _ask(self, method: str, *given: Any) -> Any:
        try:
            request = self.folders, self.with_related, method, given
            self._worker.send(pickle.dumps(request))
            content = self._worker.answer()
        except BrokenPipeError:
            content = None
        if content is not None:
            return pickle.loads(content)  # noqa: S301 - of our own process
        self._worker.end()
        reason = self._worker.reason or "ends the process that reads it"
        self._worker = Worker(PROGRAM, OF_A_CHECK)
        raise BeyondBoundError(reason)


@dataclass(frozen=True, slots=True)
class _Change:
    """The newest state of a document, and its check, which begins at once where it is wanted."""

    is_wanted: asyncio.Event
    check: asyncio.Task[Answer | None]


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
        self._changes: dict[str, _Change] = {}
        self._taken: dict[str, float] = {}
        self._thread = ThreadPoolExecutor(1, "adalora-check")
        self._turn = asyncio.Lock()

    def changed(self, uri: str) -> None:
        """Note that a document was opened or edited."""
        self.closed(uri)
        is_wanted = asyncio.Event()
        self._changes[uri] = _Change(is_wanted, asyncio.create_task(self._work(uri, is_wanted)))

    def closed(self, uri: str) -> None:
        """Forget a state of a document; a check of it that still runs is not published."""
        if (old := self._changes.pop(uri, None)) is not None:
            old.is_wanted.set()

    async def newest(self, uri: str) -> Answer | None:
        """Return the result for the newest state of a document, and check that first if needed."""
        while (newest := self._changes.get(uri)) is not None:
            newest.is_wanted.set()
            result = await asyncio.shield(newest.check)
            if self._changes.get(uri) is newest:
                return result
        return None

    async def beside(self, work: Callable[[], _Result]) -> _Result:
        """Run work in the thread of the checks."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _work(self, uri: str, is_wanted: asyncio.Event) -> Answer | None:
        loop = asyncio.get_running_loop()
        quiet = min(max(QUIET, self._taken.get(uri, 0)), LONGEST_QUIET)
        with suppress(TimeoutError):
            await asyncio.wait_for(is_wanted.wait(), quiet)
        # Other documents wait here, and not with a text that will be old by their turn.
        async with self._turn:
            snapshot = self._take(uri) if self._is_newest(uri, is_wanted) else None
            if snapshot is None:
                return None
            began = loop.time()
            result = await self.beside(lambda: self._check(snapshot))
            self._taken[uri] = loop.time() - began
        if self._is_newest(uri, is_wanted):
            self._publish(result)
        return result

    def _is_newest(self, uri: str, is_wanted: asyncio.Event) -> bool:
        newest = self._changes.get(uri)
        return newest is not None and newest.is_wanted is is_wanted
