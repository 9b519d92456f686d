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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from lsprotocol import types

from adalora_core.checker.documents.problems import BOUND_EXCEEDED
from adalora_core.checker.pipeline.selection import fits
from adalora_core.commands.cli.check import options_in
from adalora_core.commands.cli.check_job import inspector_of
from adalora_core.commands.cli.console import in_one_line
from adalora_core.commands.cli.settings import SearchExclusions, Settings, project_settings
from adalora_core.commands.server.findings import SOURCE, diagnostics
from adalora_core.commands.server.snapshots import START, CheckedSnapshot, Snapshot
from adalora_core.commands.session import OF_A_CHECK
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import is_inside
from adalora_core.floor.worker import OUT_OF_MEMORY, Channel, Worker, limit_this_process

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from adalora_core.checker.pipeline.inspection import Inspector

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")
PROGRAM = "from adalora_core.commands.server.checking import work; work(reading, writing)"
MOST_KEPT = 32
"""The number of documents that a worker keeps."""
QUIET = 0.02
"""Seconds without an edit after which a document is checked; of a large one, as long as its last
check took."""
LONGEST_QUIET = 1.0


@dataclass(frozen=True, slots=True)
class Project:
    """The settings for the documents of a folder; `problem` is the reason why they are not used."""

    top: Path | None
    options: Namespace
    inspector: Inspector
    problem: str | None = None

    def leaves_out(self, path: Path) -> bool:
        """Return whether a search of the folder passes over a file."""
        if any(fits(str(path), pattern) for pattern in self.options.exclude):
            return True
        assert self.top is not None  # noqa: S101 - a document with a path has a folder
        *folders, name = path.relative_to(self.top).parts
        if ".git" in folders or not is_inside(path, self.top):
            return True
        exclusions = SearchExclusions(all_files=self.options.all_files)
        parent = str(self.top)
        for folder in folders:
            if not exclusions.kept(parent, [folder], "folder"):
                return True
            parent = os.path.join(parent, folder)  # noqa: PTH118 - as the search does
        return not exclusions.kept(parent, [name], "file")


class Checker:
    """Checks snapshots in a worker, with the settings of their projects, read for each check."""

    def __init__(self) -> None:
        self.folders: tuple[Path, ...] = ()
        """The folders that the editor has open."""
        self._checked: dict[str, CheckedSnapshot] = {}

    def check(self, snapshot: Snapshot) -> CheckedSnapshot:
        """Check a document, and keep the result.

        A fault of the checker is a problem of the result.
        """
        try:
            checked = self._check(snapshot)
            checked = replace(checked, diagnostics=diagnostics(checked))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the server lives on
            _LOG.exception("a check failed")
            checked = CheckedSnapshot(
                snapshot,
                problem=f"{visible(snapshot.name)} is not checked, by a fault of adalora-core: "
                f"{visible(repr(error))}; please report it with the file, the log of the "
                "language server and the output of `adalora env`",
            )
        self._checked.pop(snapshot.uri, None)
        self._checked[snapshot.uri] = checked
        if len(self._checked) > MOST_KEPT:
            self._checked.pop(next(iter(self._checked)))
        return checked

    def about(self, find: Callable[..., Any], snapshot: Snapshot, *given: Any) -> Any:
        """Return what `find` finds in a document, which an earlier worker may have checked."""
        checked = self._checked.get(snapshot.uri)
        if checked is None or checked.snapshot != snapshot:
            checked = self.check(snapshot)
        return find(checked, *given)

    def completions(self, snapshot: Snapshot, uri: str, position: types.Position) -> Any:
        """Return the proposals for a place of a snapshot."""
        from adalora_core.commands.server.completing import completions

        project = self._project_of(snapshot.path)
        if snapshot.path is not None and project.leaves_out(snapshot.path):
            return []
        return completions(snapshot, project.inspector, uri, position)

    def _check(self, snapshot: Snapshot) -> CheckedSnapshot:
        project = self._project_of(snapshot.path)
        if snapshot.path is not None and project.leaves_out(snapshot.path):
            return CheckedSnapshot(snapshot, problem=project.problem)
        found = project.inspector.inspect(snapshot.raw, snapshot.name, was_named=False)
        return CheckedSnapshot(snapshot, project.inspector, found, project.problem)

    def _project_of(self, path: Path | None) -> Project:
        """Return the project of a file; of a document without one, that of the first folder."""
        if path is None:
            return _read(next(iter(self.folders), None))
        above = [folder for folder in self.folders if path.is_relative_to(folder)]
        return _read(max(above, key=lambda folder: len(folder.parts), default=path.parent))


def _read(top: Path | None) -> Project:
    try:
        settings = Settings() if top is None else project_settings(top)
        options = options_in(settings)
        return Project(top, options, inspector_of(options), settings.problem)
    except (OSError, ValueError) as error:
        options = options_in(Settings())
        shown = visible(in_one_line(error))
        problem = f"{shown}; the settings of the project are not used"
        return Project(top, options, inspector_of(options), problem)


def work(reading: int, writing: int) -> None:
    """Answer the requests of a server until there are no more."""
    # A stray print must not reach the client, and its messages are the server's.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    channel, checker = Channel(reading, writing), Checker()
    while (frame := channel.receive()) is not None:
        checker.folders, method, given = pickle.loads(frame)  # noqa: S301
        limit_this_process(OF_A_CHECK)
        try:
            answer = getattr(checker, method)(*given)
            if method == "check":
                answer = answer.problem, answer.diagnostics
            channel.send(pickle.dumps(answer))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)


class RemoteChecker:
    """The checker of a worker, as the server calls it; one request at a time."""

    def __init__(self) -> None:
        self._worker = Worker(PROGRAM, OF_A_CHECK)
        self.folders: tuple[Path, ...] = ()
        """The folders that the editor has open."""

    def check(self, snapshot: Snapshot) -> CheckedSnapshot:
        """Check a document; where that exceeds a bound, this is the finding."""
        found, reason = self._ask("check", snapshot)
        if not reason:
            return CheckedSnapshot(snapshot, problem=found[0], diagnostics=found[1])
        one = types.Diagnostic(
            types.Range(START, START),
            f"the check of the file {reason}",
            severity=types.DiagnosticSeverity.Error,
            code=BOUND_EXCEEDED,
            source=SOURCE,
        )
        shown = {part.uri: [one] for part in snapshot.parts[:1]}
        return CheckedSnapshot(snapshot, diagnostics=shown, is_beyond=True)

    def about(self, find: Callable[..., Any], checked: CheckedSnapshot, *given: Any) -> Any:
        """Return what `find` finds in a checked document; None: it exceeds a bound."""
        return None if checked.is_beyond else self._ask("about", find, checked.snapshot, *given)[0]

    def completions(self, *given: Any) -> list[types.CompletionItem]:
        """Return the proposals for a place of a snapshot."""
        return self._ask("completions", *given)[0] or []

    def _ask(self, method: str, *given: Any) -> tuple[Any, str]:
        """Return the answer of the worker; if that has ended, None and the reason."""
        content = None
        with suppress(BrokenPipeError):
            self._worker.send(pickle.dumps((self.folders, method, given)))
            content = self._worker.answer()
        if content is not None:
            return pickle.loads(content), ""  # noqa: S301 - of our own process
        self._worker.end()
        reason = self._worker.reason or "ends the process that reads it"
        self._worker = Worker(PROGRAM, OF_A_CHECK)
        return None, reason


class Schedule:
    """The checks of all open documents, one at a time, and each of the newest state only.

    `take` returns a document as it is now, None if it is not open. `check` runs in another thread.
    `publish` takes the result, unless the document has changed since.
    """

    def __init__(
        self,
        take: Callable[[str], Snapshot | None],
        check: Callable[[Snapshot], CheckedSnapshot],
        publish: Callable[[CheckedSnapshot], None],
    ) -> None:
        self._take, self._check, self._publish = take, check, publish
        # The newest state, and its check, which begins at once where it is wanted.
        self._changes: dict[str, tuple[asyncio.Event, asyncio.Task[CheckedSnapshot | None]]] = {}
        self._taken: dict[str, float] = {}
        self._thread = ThreadPoolExecutor(1, "adalora-check")
        self._turn = asyncio.Lock()

    def changed(self, uri: str) -> None:
        """Note that a document was opened or edited."""
        self.closed(uri)
        is_wanted = asyncio.Event()
        self._changes[uri] = is_wanted, asyncio.create_task(self._work(uri, is_wanted))

    def closed(self, uri: str) -> None:
        """Forget a state of a document; a check of it that still runs is not published."""
        if (old := self._changes.pop(uri, None)) is not None:
            old[0].set()

    async def newest(self, uri: str) -> CheckedSnapshot | None:
        """Return the result for the newest state of a document, and check that first if needed."""
        while (newest := self._changes.get(uri)) is not None:
            newest[0].set()
            result = await asyncio.shield(newest[1])
            if self._changes.get(uri) is newest:
                return result
        return None

    async def beside(self, work: Callable[[], _Result]) -> _Result:
        """Run work in the thread of the checks."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _work(self, uri: str, is_wanted: asyncio.Event) -> CheckedSnapshot | None:
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
        return newest is not None and newest[0] is is_wanted
