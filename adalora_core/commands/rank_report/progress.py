"""Read how far the run of a saved adapter came, from the training state beside it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from adalora_core.floor.regular_files import open_regular_file

if TYPE_CHECKING:
    from pathlib import Path

_STATES = "adalora_state.*.safetensors"
_LONGEST_HEADER = 32 << 20


def steps_made(folder: Path) -> int | None:
    """Return how many steps an unfinished run in `folder` has made; None without a training state.

    Only the header of the state is read, and only for the title of a report, so a state that cannot
    be read counts as none. After an interrupted save there may be two: the first one counts.
    """
    for path in sorted(folder.glob(_STATES)):
        try:
            with os.fdopen(open_regular_file(path), "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, _LONGEST_HEADER)))
            step = json.loads(header["__metadata__"]["adalora_state"])["step"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(step, int):
            return step + 1
    return None
