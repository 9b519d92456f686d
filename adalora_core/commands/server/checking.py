"""Check documents in a worker process, with the settings that `adalora check` would take for them.

Typing never waits, and no check waits behind old ones. The command is taken to run in the folder
that the editor has open, or else in that of the file. The worker has limits of the system: a
document that exceeds a bound has one finding, and the next request gets a new worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from adalora_core.checker.documents.problems import BOUND_EXCEEDED
from adalora_core.checker.pipeline.selection import fits
from adalora_core.commands.cli.check import options_in
from adalora_core.commands.cli.check_job import inspector_of
from adalora_core.commands.cli.console import in_one_line
from adalora_core.commands.cli.settings import SearchExclusions, Settings, project_settings
from adalora_core.commands.server.findings import SOURCE, Published, published
from adalora_core.commands.server.snapshots import START, CheckedSnapshot, Snapshot
from adalora_core.commands.session import OF_A_CHECK
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import is_inside
from adalora_core.floor.worker import OUT_OF_MEMORY, Channel, Worker, limit_this_process

if TYPE_CHECKING:
    from argparse import Namespace

    from adalora_core.checker.pipeline.inspection import Inspector

_LOG = logging.getLogger(__name__)
PROGRAM = "from adalora_core.commands.server.checking import work; work(reading, writing)"
QUIET = 0.02
"""Seconds without an edit after which a document is checked."""


def check(snapshot: Snapshot, folders: Sequence[Path]) -> CheckedSnapshot:
    """Check a document; `folders` are those that the editor has open.

    A fault of the checker is a problem of the result.
    """
    path = snapshot.path
    above = [each for each in folders if path is None or path.is_relative_to(each)]
    if path is None:
        top = next(iter(above), None)
    else:
        top = max(above, key=lambda folder: len(folder.parts), default=path.parent)
    try:
        options, inspector, problem = _project(top)
        if path is not None and top is not None and _leaves_out(top, options, path):
            return CheckedSnapshot(snapshot, problem=problem)
        found = inspector.inspect(snapshot.raw, snapshot.name, was_named=False)
        return CheckedSnapshot(snapshot, inspector, found, problem)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - the server lives on
        _LOG.exception("a check failed")
        problem = (
            f"{visible(snapshot.name)} is not checked, by a fault of adalora-core: "
            f"{visible(repr(error))}; please report it with the file, the log of the "
            "language server and the output of `adalora env`"
        )
        return CheckedSnapshot(snapshot, problem=problem)


def _project(top: Path | None) -> tuple[Namespace, Inspector, str | None]:
    """Return what checks the documents of a folder, and why its settings are not used."""
    try:
        settings = Settings() if top is None else project_settings(top)
        options = options_in(settings)
        return options, inspector_of(options), settings.problem
    except (OSError, ValueError) as error:
        options = options_in(Settings())
        problem = f"{visible(in_one_line(error))}; the settings of the project are not used"
        return options, inspector_of(options), problem


def _leaves_out(top: Path, options: Namespace, path: Path) -> bool:
    """Return whether a search of a folder passes over a file in it."""
    if any(fits(str(path), pattern) for pattern in options.exclude):
        return True
    *folders, name = path.relative_to(top).parts
    if ".git" in folders or not is_inside(path, top):
        return True
    exclusions = SearchExclusions(all_files=options.all_files)
    parent = str(top)
    for folder in folders:
        if not exclusions.kept(parent, [folder], "folder"):
            return True
        parent = os.path.join(parent, folder)  # noqa: PTH118 - as the search does
    return not exclusions.kept(parent, [name], "file")


def work(reading: int, writing: int) -> None:
    """Answer the requests of a server until there are no more.

    The last checked document is kept: most requests are about the one in which somebody types.
    """
    # A stray print must not reach the client, and its messages are the server's.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    channel, last = Channel(reading, writing), -1
    while (frame := channel.receive()) is not None:
        folders, state, snapshot, find, given = pickle.loads(frame)  # noqa: S301
        limit_this_process(OF_A_CHECK)
        try:
            if state != last:
                last, checked = state, check(snapshot, folders)
            channel.send(pickle.dumps(find(checked, *given)))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)


class RemoteChecker:
    """The checker of a worker, as the server calls it; one request at a time."""

    def __init__(self) -> None:
        self._worker = Worker(PROGRAM, OF_A_CHECK)
        self._beyond: dict[int, str] = {}
        self.folders: tuple[Path, ...] = ()
        """The folders that the editor has open."""

    def answer(self, state: int, snapshot: Snapshot, find: Callable[..., Any], *given: Any) -> Any:
        """Return what `find` finds in a document, which an earlier request may have had checked.

        Where the check exceeds a bound, this is the only finding; the state is not tried again.
        """
        if state not in self._beyond:
            content = None
            with suppress(BrokenPipeError):
                self._worker.send(pickle.dumps((self.folders, state, snapshot, find, given)))
                content = self._worker.answer()
            if content is not None:
                return pickle.loads(content)  # noqa: S301 - of our own process
            self._worker.end()
            self._beyond[state] = self._worker.reason or "ends the process that reads it"
            self._worker = Worker(PROGRAM, OF_A_CHECK)
        if find is not published:
            return None
        one = types.Diagnostic(
            types.Range(START, START),
            f"the check of the file {self._beyond[state]}",
            severity=types.DiagnosticSeverity.Error,
            code=BOUND_EXCEEDED,
            source=SOURCE,
        )
        return None, [
            types.PublishDiagnosticsParams(part.uri, [one] * (number == 0), part.version)
            for number, part in enumerate(snapshot.parts)
        ]


class Schedule:
    """The checks of all open documents, one at a time, and each of the newest state only.

    `take` returns a document as it is now, None if it is not open. `answer` runs in another thread,
    with the number of a state. `publish` takes the result, unless the document has changed since.
    """

    def __init__(
        self,
        take: Callable[[str], Snapshot | None],
        answer: Callable[..., Any],
        publish: Callable[[Published], None],
    ) -> None:
        self._take, self._answer, self._publish = take, answer, publish
        self._numbers = count()
        self._open: dict[str, tuple[int, asyncio.Task[None]]] = {}
        self._thread = ThreadPoolExecutor(1, "adalora-check")
        self._turn = asyncio.Lock()

    def changed(self, uri: str) -> None:
        """Note that a document was opened or edited."""
        self.closed(uri)
        self._open[uri] = next(self._numbers), asyncio.create_task(self._check(uri))

    def closed(self, uri: str) -> None:
        """Forget a state of a document; a check of it that still runs is not published."""
        if (old := self._open.pop(uri, None)) is not None:
            old[1].cancel()

    def check_again(self) -> None:
        """Check every open document with the settings as they are now."""
        for uri in [*self._open]:
            self.changed(uri)

    async def ask(self, uri: str, find: Callable[..., Any], *given: Any) -> Any:
        """Return what `find` finds in the newest state of a document; None: it is not open."""
        # Requests wait here, and not with a text that will be old by their turn.
        async with self._turn:
            snapshot = self._take(uri) if uri in self._open else None
            if snapshot is None:
                return None
            work = partial(self._answer, self._open[uri][0], snapshot, find, *given)
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _check(self, uri: str) -> None:
        await asyncio.sleep(QUIET)
        if (found := await self.ask(uri, published)) is not None:
            self._publish(found)
