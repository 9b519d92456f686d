"""The output folder: everything is written beside it first and appears in it only when complete."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ADAPTER = "adapter"
HEAT_MAP = "rank_heatmap.png"
REPORT = "report.md"
RESULTS = (ADAPTER, HEAT_MAP, REPORT)
"""Names that a run writes into its output folder; anything else in the folder is left alone."""


@contextlib.contextmanager
def staging_folder(output: Path) -> Iterator[Path]:
    """Yield an empty folder inside `output` for unfinished results; it is removed in every case.

    An `output` that this call had to create is removed again if nothing was published into it.

    Raises:
        OSError: `output` is a file or cannot be written to. Raised before any work is done.
    """
    created = not output.exists()
    if not created and not output.is_dir():
        raise NotADirectoryError(f"{output} is not a folder; give another --output")
    output.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=output))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if created:
            with contextlib.suppress(OSError):  # not empty: the results are in it
                output.rmdir()


def publish(staging: Path, output: Path) -> None:
    """Move the finished results from `staging` into `output`, replacing those of an earlier run.

    Each result is renamed, never copied. If a rename fails, the results of the earlier run are put
    back, so that the folder never mixes two runs.

    Raises:
        OSError: a rename failed; `output` is as it was.
    """
    replaced = staging / ".replaced"
    replaced.mkdir()
    try:
        for name in RESULTS:
            if (output / name).exists():
                (output / name).replace(replaced / name)
            (staging / name).replace(output / name)
    except BaseException:
        for name in RESULTS:
            if not (staging / name).exists():
                (output / name).replace(staging / name)
            if (replaced / name).exists():
                (replaced / name).replace(output / name)
        raise
