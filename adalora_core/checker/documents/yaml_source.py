"""Decode YAML as PyYAML, and most trainers, compose and read it; note where others differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.nodes import ScalarNode, SequenceNode

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import Document, Locator, Place
from adalora_core.checker.documents.problems import Problem, duplicate_key
from adalora_core.floor.limits import DEFAULT_LIMITS, MOST_DIGITS, Limits, has_too_many_digits
from adalora_core.floor.places import AmbiguousScalar, Path

_PLAIN: Any = yaml.SafeLoader
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COMPOSER: Any = Composer  # whose nodes get attributes
_MOST_HASHED = 1_000
"""Bound on keys that are other numbers than their hashes: these can be chosen to be equal."""
_LONGEST_TAG = 256
_SMALL = 1 << 18
"""The largest text that PyYAML's own scanner reads, which is slow."""
_MAY_DIFFER = re.compile(r"[\t\ufeff%?]|!(?!\S)|[|>][-+\d]*#|:[\[\]{},]")
"""What a text without such signs does not contain: signs that libyaml reads otherwise."""
_HASH = re.compile(r"(?:^|(?<=\s))#[^\r\n]*")
_MANY = "expected a single document in the stream"


class _StopError(Exception):
    """The document cannot be read further."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def decode(text: str, limits: Limits = DEFAULT_LIMITS) -> Document:
    """Decode YAML text; each fault of the text becomes a problem of the document."""
    document = Document(text)
    try:
        _Reader(document, limits).read()
    except _StopError as stop:
        problem = stop.problem
    except RecursionError:
        problem = problems.beyond("the document is nested too deeply for this interpreter")
    except yaml.reader.ReaderError as error:
        message = f"a character that YAML does not allow: {error.reason}"
        # The C reader counts bytes, the Python reader characters; both name the character.
        sign = error.character
        sign = chr(sign) if isinstance(sign, int) else sign[:1] or "\0"
        problem = Problem(problems.BAD_ENCODING, message, offset=max(text.find(sign), 0))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        offset = min(mark.index, len(text)) if mark else 0
        message = error.problem or str(error)
        if message == "second occurrence":
            message = f"{error.context}"
        problem = _syntax(text, offset, message)
        if error.context == _MANY:
            message = "a second document begins here"
            problem = Problem(problems.MANY_DOCUMENTS, message, offset=offset)
        elif "nesting depth" in message:  # libyaml's own limit, met while it looks ahead
            problem = problems.beyond(message, offset)
    else:
        return document
    # Paths lead nowhere in a document that is not read: what is known by its path goes.
    document.problems = [each for each in document.problems if each.offset is not None]
    return document.fail(problem)


def comments(text: str) -> Iterator[tuple[int, int]]:
    """Yield the extents of all comments of a text that `decode` accepted."""
    at = 0
    events: Iterator[Any] = yaml.parse(text, Loader=_scanner_of(text))
    for event in events:
        if type(event) in {yaml.ScalarEvent, yaml.StreamEndEvent}:
            is_last = type(event) is yaml.StreamEndEvent
            end = len(text) if is_last else event.start_mark.index
            yield from (match.span() for match in _HASH.finditer(text, at, end))
            at = event.end_mark.index


def _scanner_of(text: str) -> Any:
    is_odd = len(text) <= _SMALL and _MAY_DIFFER.search(text)
    return yaml.SafeLoader if is_odd else _FAST


_OF_INDENTATION = ("mapping values are not allowed", "did not find expected", "expected <block")


def _is_indented_anew(text: str, offset: int) -> bool:
    """Return whether the line of an offset begins in another column than the one above it."""
    end = text.find("\n", offset)
    lines = text[: end if end >= 0 else None].splitlines()
    content = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return len({len(line) - len(line.lstrip(" ")) for line in content[-2:]}) > 1


def _syntax(text: str, offset: int, fault: str) -> Problem:
    hint = None
    line = text[text.rfind("\n", 0, offset) + 1 : offset + 80]
    if "\t" in fault or "\\t" in fault or "\t" in line[: len(line) - len(line.lstrip())]:
        hint = "indent with spaces: YAML allows no tabs"
    elif "{{" in line or "{%" in line:
        hint = "render the template first, or quote the value"
    elif any(words in fault for words in _OF_INDENTATION) and _is_indented_anew(text, offset):
        hint = "correct the indentation: all keys of one mapping begin in the same column"
    message = f"not valid YAML: {fault}"
    return Problem(problems.SYNTAX_ERROR, message, hint=hint, offset=offset)


class _Bounded(_COMPOSER):  # type: ignore[misc]
    """Compose nodes with their `size` and `height`; an alias is a node at its own place.

    A mapping is flattened when it is complete: `own` are its own pairs, `merged` the mappings that
    it merges.
    """

    scanner: Any = yaml.SafeLoader

    def __init__(self, text: str, limits: Limits) -> None:
        Composer.__init__(self)
        self.scanner.__init__(self, text)
        self.limits, self.depth = limits, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        start = event.start_mark.index
        if len(getattr(event, "tag", None) or "") > _LONGEST_TAG:
            raise _StopError(problems.beyond(f"a tag has more than {_LONGEST_TAG} signs", start))
        if isinstance(event, yaml.CollectionStartEvent) and self.depth >= self.limits.depth:
            raise _StopError(problems.too_deep(self.limits, start))
        self.depth += 1
        node: Any = Composer.compose_node(self, parent, index)
        self.depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if node.end_mark is None:
                message = f"the alias *{event.anchor} is inside the value that it names"
                raise _StopError(problems.beyond(message, start))
            node = copy(node)
            node.start_mark, node.end_mark = event.start_mark, event.end_mark
            if self.depth + _height(node) > self.limits.depth:
                raise _StopError(problems.too_deep(self.limits, start))
        if parent is not None:
            parent.size = _size(parent) + _size(node)
            parent.height = max(_height(parent), _height(node) + 1)
            if parent.size > self.limits.nodes:
                counted = ", aliases counted"
                raise _StopError(problems.too_many_values(self.limits, counted, start))
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = Composer.compose_mapping_node(self, anchor)
        node.own = [pair for pair in node.value if pair[0].tag != MERGE]
        node.merged = []
        for key, value in node.value:
            if key.tag == MERGE:
                node.merged += value.value if isinstance(value, SequenceNode) else [value]
        if node.merged:
            self.flatten_mapping(node)
        return node


class _BoundedByC(_Bounded, _FAST):  # type: ignore[misc]
    scanner = _FAST


class _BoundedByPython(_Bounded, _PLAIN):  # type: ignore[misc]
    pass


def _size(node: Any) -> int:
    return getattr(node, "size", 1)


def _height(node: Any) -> int:
    return getattr(node, "height", 0 if isinstance(node, ScalarNode) else 1)


class _Reader:
    """Makes the values of composed nodes, with a place for each."""

    def __init__(self, document: Document, limits: Limits) -> None:
        self._document, self._text, self._limits = document, document.text, limits
        self._hashed = 0

    def read(self) -> None:
        """Read the one document of the text."""
        if self._text.startswith("\ufeff"):  # which the scanners would pass over
            raise _StopError(_syntax(self._text, 0, "a second byte order mark"))
        document, is_odd = self._document, _scanner_of(self._text) is yaml.SafeLoader
        loader = (_BoundedByPython if is_odd else _BoundedByC)(self._text, self._limits)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        if node is None or not self._text.strip(" \t\r\n-"):
            raise _StopError(problems.EMPTY)
        document.value, place = self._value(node, ())
        document.locator = Locator(self._text, lambda: place)

    def _value(self, node: Any, path: Path) -> tuple[Any, Place]:
        place = Place(node.start_mark.index, node.end_mark.index)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path), place
        is_list = isinstance(node, SequenceNode)
        if node.tag != (SEQUENCE if is_list else MAPPING):
            self._refuse_tag(node, path)
        if not is_list:
            return self._mapping(node, path, place), place
        values = []
        for index, each in enumerate(node.value):
            value, place.inside[index] = self._value(each, (*path, index))
            values.append(value)
        return values, place

    def _mapping(self, node: Any, path: Path, place: Place) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        own = len(node.value) - len(node.own)
        written: dict[Any, tuple[int, int]] = {}
        for number, (key_node, value_node) in enumerate(node.value):
            key = self._key(key_node)
            extent = key_node.start_mark.index, key_node.end_mark.index
            if number >= own:
                if key in written:
                    self._report(duplicate_key(path, key, [written[key], extent]))
                elif not isinstance(key, str):
                    message = f"the key {key!r} is not a string"
                    self._report(Problem(problems.NON_STRING_KEY, message, (*path, key), "key"))
                written[key] = extent
            found[key], place.keys[key] = value_node, extent
        self._find_other_merges(node, path, found, written)
        for key, value_node in found.items():
            found[key], place.inside[key] = self._value(value_node, (*path, key))
        return found

    def _find_other_merges(self, node: Any, path: Path, found: Any, own: Any) -> None:
        """Report keys that releases of PyYAML merge with different values.

        6.0.4 keeps the first of the pairs whose keys are one object in memory, as an alias and its
        anchor are, and all keys of one character.
        """
        other: dict[Any, None] = {}
        for mapping in node.merged:
            values = {self._key(key): value for key, value in mapping.value}
            for key in values.keys() - own.keys():
                if key not in found or not self._is_same(values[key], found[key]):
                    other[key] = None
        for key in other:
            message = f"the key {key!r} is merged with two values: releases of PyYAML differ"
            self._report(Problem(problems.DUPLICATE_KEY, message, (*path, key), "key"))

    def _is_same(self, one: Any, other: Any) -> bool:
        if isinstance(one, ScalarNode) and isinstance(other, ScalarNode):
            return (one.tag, one.value) == (other.tag, other.value)
        return one.value is other.value

    def _key(self, node: Any) -> Any:
        if not isinstance(node, ScalarNode):
            raise _StopError(
                _syntax(self._text, node.start_mark.index, "a key is a mapping or a list")
            )
        key = self._scalar(node, None)
        self._hashed += isinstance(key, (int, float)) and hash(key) != key
        if self._hashed > _MOST_HASHED:
            message = f"more than {_MOST_HASHED} keys are fractions or very large numbers"
            raise _StopError(problems.beyond(message, node.start_mark.index))
        return key

    def _scalar(self, node: Any, path: Path | None) -> Any:
        """Return the value of a scalar; without a path, of a key."""
        tag, text = node.tag, node.value
        if tag == STRING and node.style:  # quoted: always text
            return text
        if path is not None and tag in (MERGE, VALUE):
            self._refuse_tag(node, path)
        elif path is not None and not node.style:
            kind = ambiguity(tag, text)
            if kind is not None and tag == resolve(text):
                self._document.ambiguous_scalars[path] = AmbiguousScalar(kind, path, text)
        if tag in (STRING, MERGE, VALUE):
            return text
        if tag not in _CONSTRUCT:
            self._refuse_tag(node, path)
            return None
        return self._constructed(node)

    def _constructed(self, node: Any) -> Any:
        """Return the value of a scalar with a tag of `_CONSTRUCT`."""
        kind, start = node.tag.removeprefix(_PREFIX), node.start_mark.index
        is_long, value = kind in _NUMBERS and len(node.value) > MOST_DIGITS, None
        try:
            value = None if is_long else _CONSTRUCT[node.tag](ScalarNode(node.tag, node.value))
        except (ValueError, ArithmeticError, LookupError, AttributeError, yaml.YAMLError) as error:
            # PyYAML does not check the text of an explicit tag: an empty !!float, or !!bool x. A
            # float of base 60 and a date with an offset may be out of range.
            fault = f"{node.value[:40]!r} is not a valid {kind} ({str(error) or 'empty'})"
            raise _StopError(_syntax(self._text, start, fault)) from None
        if is_long or (type(value) is int and has_too_many_digits(value)):
            message = f"{_NUMBERS[kind]} has too many digits"
            raise _StopError(problems.beyond(message, start))
        return value

    def _refuse_tag(self, node: Any, path: Path | None) -> None:
        is_known = node.tag.endswith((":set", ":omap", ":pairs"))
        reason = "makes a value that JSON lacks" if is_known else "is refused by yaml.safe_load"
        message, offset = f"the tag {node.tag!r} {reason}", node.start_mark.index
        self._report(Problem(problems.UNKNOWN_TAG, message, path or (), offset=offset))
        if path is not None:
            self._document.ambiguous_scalars[path] = AmbiguousScalar("tag", path, node.tag)

    def _report(self, problem: Problem) -> None:
        if len(self._document.problems) <= self._limits.diagnostics:  # one more than is shown
            self._document.problems.append(problem)


_PREFIX = "tag:yaml.org,2002:"
STRING = _PREFIX + "str"
MERGE = _PREFIX + "merge"
VALUE = _PREFIX + "value"
SEQUENCE, MAPPING = _PREFIX + "seq", _PREFIX + "map"
_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = yaml.SafeLoader.yaml_implicit_resolvers
_CONSTRUCTOR = SafeConstructor()
_CONSTRUCT = {
    _PREFIX + kind: getattr(_CONSTRUCTOR, f"construct_yaml_{kind}")
    for kind in ("null", "bool", "int", "float", "timestamp", "binary")
}
_NUMBERS = {"int": "an integer", "float": "a number"}

# Possessive: a text of digits alone would otherwise take quadratic time.
_EXPONENT = re.compile(r"[-+]?(?:\d[\d_]*+(?:\.[\d_]*+)?|\.\d[\d_]*+)[eE][-+]?\d+")
_OLD_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_NEW_OCTAL = re.compile(r"0o[0-7]+")


def resolve(text: str) -> str:
    """Return the tag that PyYAML's safe loader gives a plain scalar."""
    for tag, pattern in _RESOLVERS.get(text[:1], ()):
        if pattern.match(text):
            return tag
    return STRING


def ambiguity(tag: str, text: str) -> str | None:
    """Return the kind of ambiguity of a plain scalar, or None if all readers agree."""
    if tag == STRING:
        if _EXPONENT.fullmatch(text):
            return "exponent"
        return "octal" if _NEW_OCTAL.fullmatch(text) else None
    kind = tag.removeprefix(_PREFIX)
    if kind == "timestamp":
        return "date"
    if kind == "bool":
        return None if text.lower() in ("true", "false") else "boolean-word"
    if kind in ("int", "float"):
        if ":" in text:
            return "sexagesimal"
        if "_" in text:
            return "underscore"
        return "octal" if kind == "int" and _OLD_OCTAL.fullmatch(text) else None
    return None
