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
from adalora_core.contract.text.toml_places import places
from adalora_core.contract.text.tree import TreeLocator

if TYPE_CHECKING:
    from adalora_core.contract.text.places import Extent, Path

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_REPEATED = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Duplicate inline table key")


def decode(text: str, limits: Limits = DEFAULT_LIMITS) -> Document:
    """Decode TOML text; each fault of the text becomes a problem of the document."""
    document = Document(text)
    if not text.strip():
        return _fail(document, Problem(problems.EMPTY_INPUT, "the document is empty", offset=0))
    if text.count("=") + text.count(",") >= limits.nodes:
        return _fail(document, _limit(f"the document has more than {limits.nodes} values"))
    try:
        document.value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _fail(document, _explained(document, str(error)))
    except RecursionError:
        return _fail(document, _limit(f"the document is nested deeper than {limits.depth} levels"))
    except ValueError:
        # CPython refuses to convert integers of more than 4300 digits.
        number = re.search(r"\d{4300,}", text.replace("_", ""))
        message = "an integer has too many digits" if number else "a value is out of Python's range"
        return _fail(document, _limit(message))
    excess = _excess(document.value, limits.depth)
    if excess is not None:
        return _fail(document, _limit(excess))
    document.locator = _LazyLocator(text)
    return document


def _fail(document: Document, problem: Problem) -> Document:
    document.problems.append(problem)
    document.fatal = True
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


def _excess(value: Any, depth: int) -> str | None:
    """Return how the values exceed a limit, or None."""
    level = [value]
    for _ in range(depth + 1):
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
    return f"the document is nested deeper than {depth} levels"


class _LazyLocator:
    """Finds keys and values; scans the text when the first position is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text

    def locate(self, path: Path, at: Literal["key", "value"]) -> Extent | None:
        return self._tree.locate(path, at)

    @cached_property
    def _tree(self) -> TreeLocator:
        return TreeLocator(self._text, places(self._text))
