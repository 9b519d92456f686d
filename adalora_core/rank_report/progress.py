"""Read how far the run of a saved adapter came, from the training state beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

STATE_NAME = "adalora_state.json"


def steps_made(folder: Path) -> int | None:
    """Return how many steps an unfinished run in `folder` has made; None without a training state.

    The state is only read for the title of a report, so one that cannot be read counts as none.
    """
    try:
        step = json.loads((folder / STATE_NAME).read_bytes())["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step + 1 if isinstance(step, int) else None
