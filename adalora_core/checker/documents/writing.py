"""Turn changes of a document into edits of its text, in the style of that text."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from adalora_core.config.changes import Change, Insert, Put, Rename, Replace
from adalora_core.floor.places import Edit, Extent, line_end, line_start

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document, Format, Locator

_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)+")
"""Anchor and tag before a YAML value; aliases may refer to the anchor, so both stay."""

_COMMENT = re.compile(r"(?:^|\s)#")
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def edit(document: Document, change: Change) -> Edit | None:
    """Return the edit that makes a change; None if the text cannot hold it."""
    if isinstance(change, Replace) and document.script is None:
        return Edit(document.span(*change.extent), change.text)
    made = None if document.locator is None else _edit(document, document.locator, change)
    return None if made is None else Edit(document.span(*made[0]), made[1])


def _edit(document: Document, locator: Locator, change: Change) -> tuple[Extent, str] | None:
    if document.script is not None:
        from adalora_core.checker.documents.python.source import edit as edit_code

        return edit_code(document, change)
    if isinstance(change, Insert):
        return _insertion(document, locator, change)
    return None if isinstance(change, Replace) else _replacement(document, locator, change)


def _replacement(
    document: Document, locator: Locator, change: Put | Rename
) -> tuple[Extent, str] | None:
    extent = locator.locate(change.path, "value" if isinstance(change, Put) else "key")
    if extent is None:
        return None
    start, end = extent
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
    extents = [locator.locate((*above, key), "key") for key in mapping]
    first = min((extent[0] for extent in extents if extent is not None), default=None)
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
