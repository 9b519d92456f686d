"""Write files into a folder, all of them or none."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch


def write_files(
    folder: str | os.PathLike[str], contents: Mapping[str, bytes], *, remove: Iterable[str] = ()
) -> None:
    """Write several files into `folder` so that an interruption leaves the old ones or the new.

    All files are written under temporary names first, then renamed in the order of `contents`.

    Args:
        folder: created if missing.
        contents: `{name: bytes}`.
        remove: names of files to delete just before the renames.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the old files are untouched.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    staged: dict[Path, Path] = {}
    try:
        for name, data in contents.items():
            temporary = folder / f".{name}.{uuid.uuid4().hex}.tmp"
            staged[temporary] = folder / name
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for name in remove:
            (folder / name).unlink(missing_ok=True)
        for temporary, final in staged.items():
            temporary.replace(final)
    finally:
        for temporary in staged:
            with contextlib.suppress(OSError):
                temporary.unlink()


def encode_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the bytes of a safetensors file; every tensor is copied out of shared storage."""
    independent = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
    }
    data: bytes = save(independent, metadata={"format": "pt"})
    return data
