"""By what a service recognises a file and a finding from one run to the next."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.contract.reports.summary import NO_NAME

if TYPE_CHECKING:
    from adalora_core.contract.findings import Diagnostic


def name_below(folder: Path, source: str | None) -> str | None:
    """Return a file's name relative to `folder`, with forward slashes; None if it lies outside."""
    full = Path(source or NO_NAME).absolute()
    return full.relative_to(folder).as_posix() if full.is_relative_to(folder) else None


def fingerprint(name: str, diagnostic: Diagnostic, seen: dict[str, int]) -> str:
    """Name a finding so that it stays the same when lines move; a repetition gets a number.

    Args:
        name: that of the file, as the service knows it.
        diagnostic: the finding.
        seen: how often each came before in this run; counted up here.
    """
    key = json.dumps([name, diagnostic.pointer, diagnostic.code, diagnostic.message])
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    seen[digest] = seen.get(digest, 0) + 1
    return f"{digest}:{seen[digest]}"
