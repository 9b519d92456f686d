"""Check snapshots of documents, and find what else a client may ask about them.

Everything here runs in one thread beside the loop that talks to the client.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from adalora_core.commands.server.checked import CheckedSnapshot
from adalora_core.commands.server.findings import diagnostics
from adalora_core.commands.server.projects import Projects
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from pathlib import Path

    from adalora_core.checker.pipeline.inspection import Inspector
    from adalora_core.commands.server.snapshots import Snapshot

_LOG = logging.getLogger(__name__)


class Checker:
    """Checks snapshots, each with the settings of its project."""

    def __init__(self) -> None:
        self.projects = Projects()
        self.with_related = False
        """Whether the client shows further places of a finding."""

    def open_folders(self, folders: tuple[Path, ...]) -> None:
        """Set the folders that the editor has open."""
        self.projects.folders = folders
        self.projects.forget()

    def check(self, snapshot: Snapshot) -> CheckedSnapshot:
        """Check a document; a fault of the checker is a problem of the result."""
        try:
            checked = self._check(snapshot)
            shown = diagnostics(checked, with_related=self.with_related)
            return replace(checked, diagnostics=shown)
        except Exception as error:  # noqa: BLE001 - the server lives on
            _LOG.exception("a check failed")
            return CheckedSnapshot(
                snapshot,
                problem=f"{visible(snapshot.name)} is not checked, by a fault of adalora-core: "
                f"{visible(repr(error))}; please report it with the file, the log of the "
                "language server and the output of `adalora env`",
            )

    def inspector_of(self, snapshot: Snapshot) -> Inspector | None:
        """Return what checks a document; None: a search leaves the file out."""
        project = self.projects.of(snapshot.path)
        is_left_out = snapshot.path is not None and self.projects.leaves_out(snapshot.path, project)
        return None if is_left_out else project.inspector

    def _check(self, snapshot: Snapshot) -> CheckedSnapshot:
        project = self.projects.of(snapshot.path)
        inspector = self.inspector_of(snapshot)
        if inspector is None:
            return CheckedSnapshot(snapshot, problem=project.problem)
        found = inspector.inspect(snapshot.raw, snapshot.name, was_named=False)
        return CheckedSnapshot(snapshot, inspector, found, project.problem)
