"""Let a launched process end without finalizing the interpreter; Python imports this at its start.

As `process_groups.leave`, for scripts that are run as users have them (docs/scaling.md, "Aborted at
the end"). A process that failed ends as ever, so that its exit code stays.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

_failures: list[object] = []


def _note_failure(*error: Any) -> None:
    _failures.append(error)
    sys.__excepthook__(*error)


def _leave() -> None:
    if "torch.distributed" in sys.modules and not _failures:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if "LOCAL_RANK" in os.environ:
    sys.excepthook = _note_failure
    atexit.register(_leave)  # the first one, so it is called after all others
