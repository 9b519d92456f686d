"""Write files into a folder, all of them or none."""

from __future__ import annotations

import contextlib
import os
import tempfile
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

    All are written under temporary names first; then they are renamed in the order of `contents`.
    Files named in `remove` are deleted just before.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the old files are untouched.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    staged: list[tuple[str, Path]] = []
    try:
        for name, data in contents.items():
            handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
            staged.append((temporary, folder / name))
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; an adapter is as readable as any other file.
            Path(temporary).chmod(0o666 & ~_umask())
        for name in remove:
            (folder / name).unlink(missing_ok=True)
        while staged:
            temporary, final = staged[0]
            Path(temporary).replace(final)
            staged.pop(0)
    finally:
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def encode_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the bytes of a safetensors file; every tensor is copied out of shared storage."""
    independent = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
    }
    data: bytes = save(independent, metadata={"format": "pt"})
    return data
