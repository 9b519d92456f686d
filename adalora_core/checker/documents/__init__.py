"""Decode files of each format into documents that know where each value is, and edit them."""

from __future__ import annotations

import codecs
import importlib
import json
import re
import sys
from os import PathLike
from typing import Any

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import CODE, Document, Format, Locator, format_of
from adalora_core.checker.documents.problems import Problem, at_open_bracket
from adalora_core.config.findings import Change, Insert, Put, Rename, Replace
from adalora_core.floor.files import read_start
from adalora_core.floor.limits import Limits
from adalora_core.floor.places import Edit, Extent, line_end, line_start
from adalora_core.floor.rank_pattern import foreign_format

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


_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)+")
"""Anchor and tag before a YAML value; aliases may refer to the anchor, so both stay."""

_COMMENT = re.compile(r"(?:^|\s)#")
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def edit(document: Document, change: Change) -> Edit | None:
    """Return the edit that makes a change; None if the text cannot hold it."""
    made, locator = None, document.locator
    if document.script is not None:
        from adalora_core.checker.documents.python.source import edit as edit_code

        made = edit_code(document, change)
    elif isinstance(change, Replace):
        made = change.extent, change.text
    elif isinstance(change, Insert):
        made = None if locator is None else _insertion(document, locator, change)
    elif locator is not None:
        made = _replacement(document, locator, change)
    return None if made is None else Edit(document.span(*made[0]), made[1])


def _replacement(
    document: Document, locator: Locator, change: Put | Rename
) -> tuple[Extent, str] | None:
    start, end = locator.locate(change.path, "value" if isinstance(change, Put) else "key")
    if document.format == "yaml":
        properties = _PROPERTIES.match(document.text, start, end)
        start = properties.end() if properties else start
    old = document.text[start:end]
    if document.format != "json" and old[:1] in "[-" and _COMMENT.search(old):
        return None  # the comment is inside the list and would be lost
    if isinstance(change, Rename):
        return (start, end), _key(change.name, old, document.format)
    if document.format == "yaml" and change.yaml is not None:
        return (start, end), change.yaml
    return (start, end), spell(change.value, old, document.format)


def _insertion(document: Document, locator: Locator, change: Insert) -> tuple[Extent, str] | None:
    """Return the edit that puts a key before the first one of its mapping, in its style."""
    *above, name = change.path
    mapping = document.value
    for step in above:
        mapping = mapping[step]
    first = min((locator.locate((*above, key), "key")[0] for key in mapping), default=None)
    if first is None:
        return None
    text, format_ = document.text, document.format
    sign = " = " if format_ == "toml" else ": "
    pair = f"{_key(str(name), '', format_)}{sign}{spell(change.value, '', format_)}"
    before = text[:first].rstrip()
    if before.endswith("{"):
        blank = text[len(before) : first]
        return (first, first), f"{pair},{blank or ' '}"
    # The dash before the first key of a list's entry is not repeated.
    indent = re.sub(r"\S", " ", text[line_start(text, first) : first])
    return (first, first), f"{pair}{line_end(text)}{indent}"


def spell(value: Any, old: str, format: Format) -> str:  # noqa: A002 - as everywhere
    """Return a value as text, in the kind of quotes that the old text has."""
    if isinstance(value, list):
        return f"[{', '.join(spell(entry, old, format) for entry in value)}]"
    if isinstance(value, str):
        return _string(value, old, format)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return portable_number(text) if format == "yaml" and "e" in text else text


def portable_number(number: str) -> str:
    """Return a number with an exponent in a form that every YAML reader takes as a number.

    Example:
        >>> portable_number("1e-4"), portable_number(".5E3")
        ('1.0e-4', '.5e+3')
    """
    mantissa, exponent = re.split("[eE]", number)
    if "." not in mantissa:
        mantissa += ".0"
    elif mantissa.endswith("."):
        mantissa += "0"
    return f"{mantissa}e{exponent if exponent[0] in '+-' else '+' + exponent}"


def _string(value: str, old: str, format: Format) -> str:  # noqa: A002 - as everywhere
    if format != "json" and old.startswith("'") and value.isprintable():
        if format == "yaml":
            return "'" + value.replace("'", "''") + "'"
        if "'" not in value:
            return f"'{value}'"
    if format == "yaml" and not old.startswith('"') and _is_plain(value):
        return value
    # JSON alone: escape where the old text is ASCII, and where UTF-8 cannot hold a character.
    needs_escapes = any("\ud800" <= character <= "\udfff" for character in value)
    return json.dumps(value, ensure_ascii=format == "json" and (old.isascii() or needs_escapes))


def _is_plain(value: str) -> bool:
    from adalora_core.checker.documents.yaml_source import STRING, ambiguity, resolve

    return bool(
        _PLAIN.fullmatch(value) and resolve(value) == STRING and ambiguity(STRING, value) is None
    )


def _key(name: str, old: str, format: Format) -> str:  # noqa: A002 - as everywhere
    if format == "toml" and old[:1] not in {'"', "'"} and _BARE.fullmatch(name):
        return name
    return _string(name, old, format)
