"""Decode files of each format into documents that know the position of every value."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import Document
from adalora_core.checker.documents.formats import format_of
from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.documents.reading import read_bytes, to_text

if TYPE_CHECKING:
    from os import PathLike

    from adalora_core.checker.documents.formats import Format
    from adalora_core.floor.limits import Limits

# Imported with the first document of the format, so that JSON does not pay for YAML.
_MODULES: dict[Format, str] = {
    "json": "json_source",
    "yaml": "yaml_source",
    "toml": "toml_source",
    "python": "python.source",
    "notebook": "python.notebook",
}

_LARGE_NOTEBOOK = "clear the outputs of the notebook, or raise the limit with --limit file-bytes"


def excess_of(raw: bytes, format: Format, limits: Limits) -> Problem | None:  # noqa: A002 - same
    """Return the problem of a file that is too large; outputs in a notebook do not count."""
    if len(raw) <= limits.file_bytes:
        return None
    if format == "notebook" and len(raw) <= limits.bytes_to_read(has_outputs=True):
        from adalora_core.checker.documents.python.notebook import outputs_in

        outputs = outputs_in(raw.decode("latin-1"))  # which keeps the number of bytes
        if len(raw) - sum(end - start for start, end in outputs) <= limits.file_bytes:
            return None
    message = f"the document has more than {limits.file_bytes} bytes"
    hint = _LARGE_NOTEBOOK if format == "notebook" else None
    return Problem(problems.LIMIT_EXCEEDED, message, offset=0, hint=hint)


def decode(raw: bytes, format: Format, limits: Limits) -> Document:  # noqa: A002 - the option's name
    """Decode the bytes of a file; each fault of the text becomes a problem of the document."""
    excess = excess_of(raw, format, limits)
    if excess is not None:
        return Document("", problems=[excess], raw=raw, fatal=True)
    encoding = "utf-8"
    if format == "python":
        from adalora_core.checker.documents.python.encodings import EncodingError, declared

        try:
            encoding = declared(raw)
        except EncodingError as error:
            problem = Problem(problems.BAD_ENCODING, str(error), offset=0)
            return Document("", problems=[problem], raw=raw, fatal=True)
    encoded = to_text(raw, encoding)
    encoded.raw = raw
    if encoded.fatal:
        return encoded
    module = importlib.import_module(f"{__name__}.{_MODULES[format]}")
    document: Document = module.decode(encoded.text, limits)
    document.format, document.raw, document.encoding = format, raw, encoding
    if format not in {"yaml", "python"}:  # which allow a byte order mark
        document.problems[:0] = encoded.problems
    return document


def read(
    path: str | PathLike[str],
    limits: Limits,
    format: Format | None = None,  # noqa: A002 - the option's name
) -> Document:
    """Read and decode a file, in the given format or else in that of its suffix.

    Raises:
        OSError: the file is missing, unreadable or not a regular file.
    """
    format = format or format_of(path)  # noqa: A001 - the option's name
    return decode(read_bytes(path, limits, format), format, limits)
