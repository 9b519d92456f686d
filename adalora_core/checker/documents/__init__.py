"""Decode files of each format into documents that know the position of every value."""

from __future__ import annotations

import codecs
import importlib
import json
import re
import sys
from typing import TYPE_CHECKING

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import CODE, Document, Format, format_of
from adalora_core.checker.documents.problems import Problem, at_open_bracket
from adalora_core.floor.files import read_start
from adalora_core.floor.rank_pattern import foreign_format

if TYPE_CHECKING:
    from os import PathLike

    from adalora_core.floor.limits import Limits

# Imported with the first document of the format, so that JSON does not pay for YAML.
_MODULES: dict[Format, str] = {
    "json": "json_source",
    "yaml": "yaml_source",
    "toml": "toml_source",
    "python": "python.source",
    "notebook": "python.notebook",
}

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
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
    problem = tensors_in(raw) or excess_of(raw, format, limits)
    if problem is not None:
        return Document("", problems=[problem], raw=raw, fatal=True)
    encoding = "utf-8"
    if format == "python":
        from adalora_core.checker.documents.python.lexical import EncodingError, declared

        try:
            encoding = declared(raw)
        except EncodingError as error:
            problem = Problem(problems.BAD_ENCODING, str(error), offset=0)
            return Document("", problems=[problem], raw=raw, fatal=True)
    text, found, is_text = _to_text(raw, encoding)
    if not is_text:
        return Document(text, problems=found, raw=raw, fatal=True)
    module = importlib.import_module(f"{__name__}.{_MODULES[format]}")
    document: Document = module.decode(text, limits)
    document.format, document.raw, document.encoding = format, raw, encoding
    if document.fatal and format != "notebook":
        document.problems = [at_open_bracket(each, text) for each in document.problems]
    if format not in {"yaml", "python"}:  # which allow a byte order mark
        document.problems[:0] = found
    return document


def tensors_in(raw: bytes) -> Problem | None:
    """Return the problem of a safetensors file: eight bytes of length, and JSON with the names."""
    length = int.from_bytes(raw[:8], "little")
    if raw[8:10] != b'{"' or not length < len(raw):
        return None
    try:
        names = json.loads(raw[8 : 8 + length])
    except (ValueError, RecursionError):
        return None
    whose = foreign_format(names)
    message = f"the file holds tensors{f' of {whose} format' if whose else ''}, not a configuration"
    hint = "name the folder of a saved adapter, which holds an adapter_config.json"
    hint += "; export the file to PEFT's format first" if whose else ""
    return Problem(problems.BAD_ENCODING, message, offset=0, hint=hint)


_BETWEEN_STRINGS = re.compile(r'"[ \t\r\n]*+,[ \t\r\n]*+"')
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})"
    r"|[ \t]*(?:\r\n?|[\n\x85\u2028\u2029])\s*)"
)
"""A letter as JSON, YAML, TOML and Python write one, or the end of a line that they ignore."""


def searchable(raw: bytes, format: Format) -> str:  # noqa: A002 - the option's name
    """Return a text that holds each word that a reader of the format may find in the bytes.

    Words that are written with escapes follow those that are not.
    """
    if format == "python":
        from adalora_core.checker.documents.python.lexical import EncodingError, declared

        try:
            encoding = declared(raw)
        except EncodingError as error:  # where Python accepts it, any text may be meant
            return raw.decode("latin-1") + "\nAdaLoraConfig()" * error.runs
    else:  # some readers take UTF-16: their words must be found before it is refused
        encoding = json.detect_encoding(raw)
    text = raw.decode(encoding, "replace")
    if format == "notebook":  # the strings of a source are one text
        text += _BETWEEN_STRINGS.sub("", text)
    if "\\" in text:
        text += "\n" + _ESCAPE.sub(_unescaped, text)
    if format in CODE and not text.isascii():
        from adalora_core.checker.documents.python.lexical import with_plain_letters

        pairs = text.encode("utf-16", "surrogatepass")  # of a notebook's escapes
        text = with_plain_letters(pairs.decode("utf-16", "replace"))
    return text


def _unescaped(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    return "" if digits is None else chr(min(int(digits, 16), sys.maxunicode))


def _to_text(raw: bytes, encoding: str) -> tuple[str, list[Problem], bool]:
    """Return the text of a file, the problems of its encoding, and whether it is text at all."""
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return "", [_encoding(f"the file is {name}, not UTF-8", 0)], False
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
        message = f"{byte} is not {encoding.upper()} ({error.reason})"
        return text, [_encoding(message, len(text))], False
    nul = text.find("\0")
    if nul >= 0:
        found.append(_encoding("the file holds a NUL character: it is not text", nul))
    return text, found, nul < 0


def _encoding(message: str, offset: int) -> Problem:
    return Problem(problems.BAD_ENCODING, message, offset=offset)


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


def read_bytes(
    path: str | PathLike[str],
    limits: Limits,
    format: Format | None = None,  # noqa: A002 - the option's name
) -> bytes:
    """Read a regular file, at most one byte more than the limit for its format.

    Raises:
        OSError: as `open_regular_file`.
    """
    has_outputs = (format or format_of(path)) == "notebook"
    return read_start(path, limits.bytes_to_read(has_outputs=has_outputs) + 1)
