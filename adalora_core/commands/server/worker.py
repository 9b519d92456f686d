"""Check documents and answer questions about them in a worker process with limits of the system.

The worker keeps what it found in each document last. A document that exceeds a bound has one
finding; the next request gets a new worker.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from adalora_core.checker.documents.problems import BOUND_EXCEEDED
from adalora_core.commands.session import OF_A_CHECK
from adalora_core.floor.worker import OUT_OF_MEMORY, Channel, Worker, limit_this_process

if TYPE_CHECKING:
    from pathlib import Path

    from adalora_core.commands.server.checking import Checker
    from adalora_core.commands.server.snapshots import CheckedSnapshot, Snapshot

PROGRAM = "from adalora_core.commands.server.worker import work; work(reading, writing)"
MOST_KEPT = 32
"""The number of documents that a worker keeps."""


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
        self._number = self._lost = 0
        self._folders: tuple[Path, ...] = ()
        self._with_related = False
        self._changes = 0

    def open_folders(self, folders: tuple[Path, ...], *, with_related: bool) -> None:
        """Set the folders that the editor has open, and whether it shows related places."""
        self._folders, self._with_related = folders, with_related
        self.forget()

    def forget(self) -> None:
        """Read the settings of every project again for the next check."""
        self._changes += 1

    def check(self, snapshot: Snapshot) -> Answer:
        """Check a document; where that exceeds a bound, this is the finding."""
        self._number += 1
        try:
            problem, found = self._ask("check", self._number, snapshot)
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
        if 0 < answer.number <= self._lost:
            answer = self.check(answer.snapshot)
        if not answer.number:
            return None
        try:
            return self._ask("about", find, answer.snapshot.uri, answer.number, given, options)
        except BeyondBoundError:
            return None

    def completions(self, *given: Any) -> list[types.CompletionItem]:
        """Return the proposals for a place of a snapshot."""
        try:
            found: list[types.CompletionItem] = self._ask("completions", *given)
        except BeyondBoundError:
            return []
        return found

    def reads(self, path: Path) -> bool:
        """Return whether a file may change what is checked, and how."""
        return bool(self._ask("reads", path))

    def _ask(self, method: str, *given: Any) -> Any:
        settings = self._changes, self._folders, self._with_related
        try:
            self._worker.send(pickle.dumps((settings, method, given)))
            content = self._worker.answer()
        except BrokenPipeError:
            content = None
        if content is not None:
            return pickle.loads(content)  # noqa: S301 - of our own process
        self._worker.end()
        reason = self._worker.reason or "ends the process that reads it"
        self._worker, self._lost = Worker(PROGRAM, OF_A_CHECK), self._number
        raise BeyondBoundError(reason)


class _Kept:
    """What the worker knows: a checker, and the documents that were checked last."""

    def __init__(self) -> None:
        from adalora_core.commands.server.checking import Checker

        self.checker: Checker = Checker()
        self._documents: dict[str, tuple[int, CheckedSnapshot]] = {}

    def check(self, number: int, snapshot: Snapshot) -> object:
        checked = self.checker.check(snapshot)
        self._documents.pop(snapshot.uri, None)
        self._documents[snapshot.uri] = number, checked
        if len(self._documents) > MOST_KEPT:
            self._documents.pop(next(iter(self._documents)))
        return checked.problem, checked.diagnostics

    def about(
        self, find: Callable[..., Any], uri: str, number: int, given: Any, options: Any
    ) -> object:
        known, checked = self._documents.get(uri, (0, None))
        return find(checked, *given, **options) if known == number else None

    def completions(self, snapshot: Snapshot, uri: str, place: Any) -> object:
        from adalora_core.commands.server.completing import completions

        inspector = self.checker.inspector_of(snapshot)
        return [] if inspector is None else completions(snapshot, inspector, uri, place)

    def reads(self, path: Path) -> object:
        return self.checker.reads(path)


def work(reading: int, writing: int) -> None:
    """Answer the requests of a server until there are no more."""
    # A stray print must not reach the client, and its messages are the server's.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    channel, kept, known = Channel(reading, writing), _Kept(), None
    while (frame := channel.receive()) is not None:
        settings, method, given = pickle.loads(frame)  # noqa: S301 - of the server
        limit_this_process(OF_A_CHECK)
        if settings != known:
            known = settings
            _, folders, kept.checker.with_related = settings
            kept.checker.open_folders(folders)
        try:
            channel.send(pickle.dumps(getattr(kept, method)(*given)))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
