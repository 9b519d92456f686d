"""Read a file or bytes as text, within the limits, with the problems of the encoding."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import Document
from adalora_core.checker.documents.formats import format_of
from adalora_core.checker.documents.problems import Problem
from adalora_core.floor.regular_files import read_start

if TYPE_CHECKING:
    import os

    from adalora_core.checker.documents.formats import Format
    from adalora_core.floor.limits import Limits

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_bytes(
    path: str | os.PathLike[str],
    limits: Limits,
    format: Format | None = None,  # noqa: A002 - the option's name
) -> bytes:
    """Read a regular file, at most one byte more than the limit for its format.

    Raises:
        OSError: as `open_regular_file`.
    """
    has_outputs = (format or format_of(path)) == "notebook"
    return read_start(path, limits.bytes_to_read(has_outputs=has_outputs) + 1)


def to_text(raw: bytes, encoding: str = "utf-8") -> Document:
    """Decode bytes into a document without a value; fatal if they are not text."""
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return Document("").fail(_encoding(f"the file is {name}, not UTF-8", 0))
    found = []
    if raw.startswith(codecs.BOM_UTF8):
        raw = raw.removeprefix(codecs.BOM_UTF8)
        message = "the file starts with a byte order mark, which Python's json refuses"
        found.append(_encoding(message, 0))
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        # Keep the text before the fault, so that its position has a line.
        text = raw[: error.start].decode(encoding, "replace")
        byte = f"byte {raw[error.start]:#04x} at offset {error.start}"
        name = encoding.upper()
        return Document(text).fail(_encoding(f"{byte} is not {name} ({error.reason})", len(text)))
    nul = text.find("\0")
    if nul >= 0:
        message = "the file holds a NUL character: it is not text"
        return Document(text).fail(*found, _encoding(message, nul))
    return Document(text, problems=found)


def _encoding(message: str, offset: int) -> Problem:
    return Problem(problems.BAD_ENCODING, message, offset=offset)
