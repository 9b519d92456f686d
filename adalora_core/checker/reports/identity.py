"""Identify a file and a finding, so that a service recognises both in the next run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.checker.reports.summary import NO_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adalora_core.config.findings import Diagnostic


def name_below(folder: Path, source: str | None) -> str | None:
    """Return a file's name relative to `folder`, with forward slashes; None if it is outside."""
    full = Path(source or NO_NAME).absolute()
    return full.relative_to(folder).as_posix() if full.is_relative_to(folder) else None


def fingerprint(name: str, diagnostic: Diagnostic, seen: dict[str, int]) -> str:
    """Return an identifier of a finding that does not depend on lines; repetitions get a number.

    Args:
        name: the file's name for the service.
        diagnostic: the finding.
        seen: how often each digest occurred in this run; updated here.
    """
    return digest([name, diagnostic.pointer, diagnostic.code, diagnostic.message], seen)


def digest(key: Sequence[str], seen: dict[str, int]) -> str:
    """Return a digest of texts; repetitions in this run get a number."""
    found = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    seen[found] = seen.get(found, 0) + 1
    return f"{found}:{seen[found]}"
