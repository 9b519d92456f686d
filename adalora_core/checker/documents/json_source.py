"""Decode JSON with the standard decoder; scan the text when a position is asked for."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from itertools import islice, starmap
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import Document, Locator, Place
from adalora_core.checker.documents.problems import Problem, duplicate_key, impossible_characters
from adalora_core.config.findings import Remedy, Replace
from adalora_core.floor.limits import DEFAULT_LIMITS, Limits
from adalora_core.floor.places import Extent, Path

_BLANK = re.compile(r"[ \t\n\r]*")
_STRING = r'"(?:[^"\\]++|\\.)*+"?'
_BRACKETS = re.compile(rf"{_STRING}|[\[\]{{}}]", re.DOTALL)
_SIGNS = re.compile(rf"{_STRING}|[,:\[\]{{}}]", re.DOTALL)
_COMMENTS = re.compile(
    rf"{_STRING}|(?<!\s)\s*+(?:(?://|\#)[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?)", re.DOTALL
)
_LAST_COMMAS = re.compile(rf"{_STRING}|,(?=\s*+[\]}}])", re.DOTALL)
_NAME_OF_A_FILE = re.compile(r"[^\r\n{}\[\]\"]{1,200}\.(?:json|ya?ml|toml|py|ipynb)")
_SUSPICIOUS = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
"""Escapes that can make a string invalid: halves of a surrogate pair, and NUL."""


_PLAIN = json.JSONDecoder()


def decode(text: str, limits: Limits = DEFAULT_LIMITS) -> Document:
    """Decode JSON text; each fault of the text becomes a problem of the document."""
    document = Document(text)
    if not text.strip(" \t\n\r"):
        return document.fail(problems.EMPTY)
    excess = _excess(text, limits)
    if excess is not None:
        return document.fail(excess)
    repeated = False

    def of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        values = dict(pairs)
        repeated = repeated or len(values) != len(pairs)
        return values

    try:
        document.value = json.JSONDecoder(object_pairs_hook=of_pairs).decode(text)
    except json.JSONDecodeError as error:
        offset, message, hint = _explained(error)
        remedy = _remedy(text)
        problem = Problem(problems.SYNTAX_ERROR, message, hint=hint, offset=offset, remedy=remedy)
        return document.fail(problem)
    except RecursionError:
        message = "the document is nested too deeply for this interpreter"
        return document.fail(problems.beyond(message))
    except ValueError:
        return document.fail(problems.long_integer(text))
    scanner = _Scanner(text)
    document.locator = Locator(text, scanner.document)
    if _SUSPICIOUS.search(text):
        document.problems += islice(impossible_characters(document.value), limits.diagnostics + 1)
    if repeated:
        scanner.document()
        document.problems += starmap(duplicate_key, scanner.repeated[: limits.diagnostics + 1])
    return document


def _excess(text: str, limits: Limits) -> Problem | None:
    """Return how the text exceeds a limit, or None; what strings hold is not counted.

    The first counts are upper bounds that are cheap to get; most documents need no closer look.
    """
    brackets = text.count("[") + text.count("{")
    is_large = text.count(",") + text.count(":") + brackets >= limits.nodes
    if brackets <= limits.depth and not is_large:
        return None
    level = signs = strings = 0
    for token in (_SIGNS if is_large else _BRACKETS).finditer(text):
        sign = text[token.start()]
        level += (sign in "[{") - (sign in "]}")
        if level > limits.depth:
            return problems.too_deep(limits, token.start())
        strings += sign == '"'
        signs += sign in ",:[{"
    is_more = signs >= limits.nodes or strings > limits.nodes
    return problems.too_many_values(limits) if is_large and is_more else None


def _length_alike(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _remedy(text: str) -> Remedy | None:
    """Return the removal of comments and of commas before brackets, if the rest is valid JSON."""

    def kept(match: re.Match[str]) -> str:
        return match[0] if match[0].startswith('"') else ""

    plain = _COMMENTS.sub(kept, text)
    new = _LAST_COMMAS.sub(kept, plain)
    try:
        _PLAIN.decode(new)
    except (ValueError, RecursionError):
        return None
    start = _length_alike(text, new)
    same = _length_alike(text[start:][::-1], new[start:][::-1])
    change = Replace((start, len(text) - same), new[start : len(new) - same])
    is_safe = plain == text  # a comment may hold what nobody else knows
    return Remedy("Remove the comma" if is_safe else "Remove the comments", change, is_safe)


def _explained(error: json.JSONDecodeError) -> tuple[int, str, str | None]:
    """Return the position, the message and the hint for a decoding error."""
    text, at = error.doc, error.pos
    message = f"not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}"
    comma = _trailing_comma(error)
    if comma is not None:
        return comma, "not valid JSON: a comma before the closing bracket", "remove the comma"
    if _NAME_OF_A_FILE.fullmatch(text.strip()):
        path = f"a str is content; to check a file, pass pathlib.Path({text.strip()!r})"
        return at, "not valid JSON: the text is the name of a file", path
    if text.startswith(("/", "#"), at):
        return at, "not valid JSON: JSON has no comments", "remove the comment, or use YAML"
    if text.startswith("'", at):
        return at, message, "write JSON strings in double quotes"
    for word, json_word in (("True", "true"), ("False", "false"), ("None", "null")):
        if text.startswith(word, at):
            return at, f"not valid JSON: {word} is Python's spelling", f"write {json_word}"
    before = text[:at].rstrip()
    if text.startswith('"', at) and error.msg.startswith("Expecting ','"):
        return len(before), "not valid JSON: a comma is missing", f"write {before[-1:]},"
    hint = None
    if error.msg.startswith("Extra data"):
        message, hint = "not valid JSON: there is text after the document", "remove that text"
    elif not text[at:].strip():
        message, hint = "not valid JSON: the text ends too early", problems.CUT_OFF
    return at, message, hint


def _trailing_comma(error: json.JSONDecodeError) -> int | None:
    """Return the position of a comma before a closing bracket, if that is the fault."""
    if error.msg.startswith("Illegal trailing comma"):  # since Python 3.13, at the comma
        return error.pos
    before = error.doc[: error.pos].rstrip()
    closes = error.doc.startswith(("]", "}"), error.pos)
    return len(before) - 1 if closes and before.endswith(",") else None


class _Scanner:
    """Finds the positions of keys and values in valid JSON text, and the keys that are repeated."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.repeated: list[tuple[Path, str, list[Extent]]] = []

    def document(self) -> Place:
        """Return the place of the one value of the text."""
        return self._place(self._after_blank(0), ())

    def _place(self, at: int, path: Path) -> Place:
        text, place = self._text, Place(at, at)
        if text[at] not in "{[":
            _, place.end = _PLAIN.raw_decode(text, at)
            return place
        written: defaultdict[str, list[Extent]] = defaultdict(list)
        is_object = text[at] == "{"
        at = self._after_blank(at + 1)
        while text[at] not in "]}":
            name: str | int = len(place.inside)
            if is_object:
                key, end = scanstring(text, at + 1, True)
                written[key].append((at, end))
                name, place.keys[key] = key, (at, end)
                at = self._after_blank(self._after_blank(end) + 1)
            place.inside[name] = self._place(at, (*path, name))
            at = self._after_blank(place.inside[name].end)
            if text[at] == ",":
                at = self._after_blank(at + 1)
        place.end = at + 1
        self.repeated += [(path, name, all_) for name, all_ in written.items() if len(all_) > 1]
        return place

    def _after_blank(self, at: int) -> int:
        match = _BLANK.match(self._text, at)
        return match.end() if match else at
