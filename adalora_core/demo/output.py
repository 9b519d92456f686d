"""Write the output folder: results are staged and appear only when all are complete."""

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
"""Names that a run writes into its output folder; other files in it are untouched."""


@contextlib.contextmanager
def staging_folder(output: Path) -> Iterator[Path]:
    """Yield an empty folder inside `output` for unfinished results; always remove it.

    Removes an `output` that it created if nothing was published there.

    Raises:
        OSError: `output` is a file or not writable; raised before any work is done.
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
            with contextlib.suppress(OSError):  # not empty: it holds the results
                output.rmdir()


def publish(staging: Path, output: Path) -> None:
    """Move the finished results from `staging` into `output`, replacing those of an earlier run.

    Renames each result. If a rename fails, puts the results of the earlier run back, so that the
    folder never mixes two runs.

    Raises:
        OSError: a rename failed; `output` is unchanged.
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
