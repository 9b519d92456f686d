"""Check how much memory the parts of a pickled weights file would take, before it is read."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BYTEARRAY = re.compile(rb"c(?:builtins|__builtin__)\nbytearray\n")
"""A request of a pickle for bytes; `torch.load` grants any number, and no weights need them."""


def check_unpacked_size(path: Path) -> None:
    """Refuse a file that unpacks to more bytes than it has.

    `torch.save` compresses nothing, so its files never do.

    Raises:
        ValueError: parts of the file are compressed or overlap, or a pickle asks for memory.
        zipfile.BadZipFile: the file is damaged.
    """
    if not zipfile.is_zipfile(path):
        pickles = [path.read_bytes()]
    else:
        with zipfile.ZipFile(path) as parts:
            sizes = [part.file_size for part in parts.infolist()]
            if sum(sizes) > path.stat().st_size:
                raise ValueError(
                    f"its parts unpack to {sum(sizes)} bytes, more than the file has: they are "
                    "compressed or overlap"
                )
            pickles = [parts.read(name) for name in parts.namelist() if name.endswith(".pkl")]
    if any(_BYTEARRAY.search(each) for each in pickles):
        raise ValueError("its pickle asks for a bytearray, which no weights need")
