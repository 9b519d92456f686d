"""Hold a checked document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsprotocol import types

    from adalora_core.checker.pipeline.inspection import Inspector
    from adalora_core.checker.reports import Examined
    from adalora_core.commands.server.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class CheckedSnapshot:
    """A checked snapshot.

    Args:
        snapshot: the document.
        inspector: the settings that it was checked with; None: a search leaves the file out.
        found: what is in it; None: nothing about AdaLoRA.
        problem: why the settings of the project are not used, or why the text is not checked.
        diagnostics: the findings on each text, for the client.
    """

    snapshot: Snapshot
    inspector: Inspector | None = None
    found: Examined | None = None
    problem: str | None = None
    diagnostics: dict[str, list[types.Diagnostic]] = field(default_factory=dict)
