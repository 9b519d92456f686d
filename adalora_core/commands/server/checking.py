"""Check snapshots of documents with the settings that `adalora check` would take for them.

The command is taken to run in the folder that the editor has open, or else in that of the file.
Everything here runs in the worker process, which keeps the documents that it checked last.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adalora_core.checker.pipeline.selection import fits
from adalora_core.commands.cli.check import options_in
from adalora_core.commands.cli.check_job import inspector_of
from adalora_core.commands.cli.output import in_one_line
from adalora_core.commands.cli.settings import SearchExclusions, Settings, project_settings
from adalora_core.commands.server.findings import diagnostics
from adalora_core.commands.server.snapshots import CheckedSnapshot, Position, Snapshot
from adalora_core.commands.session import OF_A_CHECK
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import is_inside
from adalora_core.floor.worker import OUT_OF_MEMORY, Channel, limit_this_process

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from adalora_core.checker.pipeline.inspection import Inspector

_LOG = logging.getLogger(__name__)
MOST_KEPT = 32
"""The number of documents that a worker keeps."""


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
    """Checks snapshots with the settings of their projects, which are read for each check."""

    def __init__(self) -> None:
        self.folders: tuple[Path, ...] = ()
        """The folders that the editor has open."""
        self.with_related = False
        """Whether the client shows further places of a finding."""
        self._checked: dict[str, tuple[int, CheckedSnapshot]] = {}

    def check(self, snapshot: Snapshot, number: int = 0) -> CheckedSnapshot:
        """Check a document, and keep the result under a number.

        A fault of the checker is a problem of the result.
        """
        try:
            checked = self._check(snapshot)
            shown = diagnostics(checked, with_related=self.with_related)
            checked = replace(checked, diagnostics=shown)
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
        self._checked[snapshot.uri] = number, checked
        if len(self._checked) > MOST_KEPT:
            self._checked.pop(next(iter(self._checked)))
        return checked

    def about(
        self, find: Callable[..., Any], snapshot: Snapshot, number: int, given: Any, options: Any
    ) -> Any:
        """Return what `find` finds in a document, which an earlier worker may have checked."""
        known, checked = self._checked.get(snapshot.uri, (0, None))
        if checked is None or known != number:
            checked = self.check(snapshot, number)
        return find(checked, *given, **options)

    def completions(self, snapshot: Snapshot, uri: str, place: Position) -> Any:
        """Return the proposals for a place of a snapshot."""
        from adalora_core.commands.server.completing import completions

        project = self._project_of(snapshot.path)
        if snapshot.path is not None and project.leaves_out(snapshot.path):
            return []
        return completions(snapshot, project.inspector, uri, place)

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
        checker.folders, checker.with_related, method, given = pickle.loads(frame)  # noqa: S301
        limit_this_process(OF_A_CHECK)
        try:
            answer = getattr(checker, method)(*given)
            if method == "check":
                answer = answer.problem, answer.diagnostics
            channel.send(pickle.dumps(answer))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
