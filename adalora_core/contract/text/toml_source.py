"""Decode TOML with the standard parser; scan the text when a position is asked for."""

from __future__ import annotations

import re
import tomllib
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.contract.text import problems
from adalora_core.contract.text.document import Document
from adalora_core.contract.text.limits import DEFAULT_LIMITS, Limits, has_too_many_digits
from adalora_core.contract.text.problems import Problem
from adalora_core.contract.text.toml_places import LONG_STRING, SHORT_STRING, places
from adalora_core.contract.text.tree import TreeLocator

if TYPE_CHECKING:
    from adalora_core.contract.text.places import Extent, Path

_KEY = re.compile(rf"{SHORT_STRING}|[A-Za-z0-9_-]++", re.VERBOSE)
_KEYS = re.compile(
    rf"{LONG_STRING}|\#[^\n]*+|(?P<dotted>(?:{_KEY.pattern})"
    rf"(?:[ \t]*+\.[ \t]*+(?:{_KEY.pattern}))*+)",
    re.VERBOSE,
)
"""Finds the keys of a text, and its other words."""

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_REPEATED = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Duplicate inline table key")


def decode(text: str, limits: Limits = DEFAULT_LIMITS) -> Document:
    """Decode TOML text; each fault of the text becomes a problem of the document."""
    document = Document(text)
    if not text.strip():
        return document.fail(Problem(problems.EMPTY_INPUT, "the document is empty", offset=0))
    excess = _excess_of_text(text, limits)
    if excess is not None:
        return document.fail(_limit(excess))
    try:
        document.value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return document.fail(_explained(document, str(error)))
    except RecursionError:
        return document.fail(_limit(_too_deep(limits)))
    except ValueError:
        # CPython refuses to convert integers of more than 4300 digits.
        number = re.search(r"(?<!\d)\d{4300,}", text.replace("_", ""))
        message = "an integer has too many digits" if number else "a value is out of Python's range"
        return document.fail(_limit(message))
    excess = _excess_of_values(document.value, limits)
    if excess is not None:
        return document.fail(_limit(excess))
    document.locator = _LazyLocator(text)
    return document


def _limit(message: str) -> Problem:
    return Problem(problems.LIMIT_EXCEEDED, message, offset=0)


def _explained(document: Document, problem: str) -> Problem:
    match = _PLACE.search(problem)
    offset = len(document.text)
    if match is not None:
        problem = problem[: match.start()]
        if match[1] is not None:
            offset = document.offset_of(int(match[1]), int(match[2]))
    is_repeated = problem.startswith(_REPEATED)
    code = problems.DUPLICATE_KEY if is_repeated else problems.SYNTAX_ERROR
    message = f"not valid TOML: {problem[:1].lower()}{problem[1:]}"
    return Problem(code, message, offset=min(offset, len(document.text)))


def _too_deep(limits: Limits) -> str:
    return f"the document is nested deeper than {limits.depth} levels"


def _excess_of_text(text: str, limits: Limits) -> str | None:
    """Return how the text exceeds a limit, or None; the standard parser has no limits.

    The counts are upper bounds that are cheap to get; most documents need no closer look. Each dot
    of a key makes a table, and the parser's time grows with the square of a key's dots.
    """
    values = sum(map(text.count, "=,[{"))
    dots = text.count(".")
    if values + dots >= limits.nodes or (
        dots > limits.depth and max(line.count(".") for line in text.split("\n")) > limits.depth
    ):
        for match in _KEYS.finditer(text):
            dotted = match["dotted"] or ""
            if "." not in dotted:
                continue
            parts = sum(1 for _ in _KEY.finditer(dotted))
            if parts > limits.depth:
                return _too_deep(limits)
            values += max(0, parts - 2)  # one dot may be that of a number
    if values >= limits.nodes:
        return f"the document has more than {limits.nodes} values, tables of dotted keys counted"
    return None


def _excess_of_values(value: Any, limits: Limits) -> str | None:
    """Return how the values exceed a limit, or None."""
    level = [value]
    for _ in range(limits.depth + 1):
        inner: list[Any] = []
        for node in level:
            entries = node.values() if isinstance(node, dict) else node
            inner += [entry for entry in entries if isinstance(entry, (dict, list))]
            # Python limits the digits of decimal integers only.
            if any(type(entry) is int and has_too_many_digits(entry) for entry in entries):
                return "an integer has too many digits"
        if not inner:
            return None
        level = inner
    return _too_deep(limits)


class _LazyLocator:
    """Finds keys and values; scans the text when the first position is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text

    def locate(self, path: Path, at: Literal["key", "value"]) -> Extent | None:
        return self._tree.locate(path, at)

    @cached_property
    def _tree(self) -> TreeLocator:
        return TreeLocator(self._text, places(self._text))
