"""Decode YAML as PyYAML's safe loader does, from its events, with positions, without recursion."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from adalora_core.checker.documents import problems
from adalora_core.checker.documents import yaml_scalars as scalars
from adalora_core.checker.documents.document import Document, Place, TreeLocator
from adalora_core.checker.documents.problems import Problem, duplicate_key
from adalora_core.floor.limits import DEFAULT_LIMITS, Limits
from adalora_core.floor.places import AmbiguousScalar, Path

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MOST_EQUAL_HASHES = 1_000
"""Bound on the keys of one hash: numbers can be chosen so that a dict takes quadratic time."""
_TAGS = {
    yaml.MappingStartEvent: (None, "!", "tag:yaml.org,2002:map"),
    yaml.SequenceStartEvent: (None, "!", "tag:yaml.org,2002:seq"),
}


_HASH = re.compile(r"(?:^|(?<=\s))#[^\r\n]*")


@dataclass(eq=False)
class _StopError(Exception):
    """The document cannot be read further."""

    problem: Problem


@dataclass(slots=True)
class _Frame:
    """A container that is being read."""

    value: Any
    place: Place
    anchor: str | None = None
    key: Any = None
    key_extent: tuple[int, int] | None = None
    key_text: str = ""
    is_in_flow: bool = False
    hashes: set[int] = field(default_factory=set)
    merged: list[list[tuple[Any, Place]]] = field(default_factory=list)
    pairs: list[tuple[str, Any, Any]] = field(default_factory=list)


_AWAITS_KEY = object()


def decode(text: str, limits: Limits = DEFAULT_LIMITS) -> Document:
    """Decode YAML text; each fault of the text becomes a problem of the document."""
    reader = _Reader(text, limits)
    try:
        reader.read()
    except _StopError as stop:
        _abort(reader.document, stop.problem)
    except yaml.reader.ReaderError as error:
        message = f"a character that YAML does not allow: {error.reason}"
        offset = _reader_offset(text, error)
        _abort(reader.document, Problem(problems.BAD_ENCODING, message, offset=offset))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        offset = min(mark.index, len(text)) if mark else 0
        message = error.problem or str(error)
        problem = _syntax(text, offset, message)
        if "nesting depth" in message:  # libyaml's own limit, met while it looks ahead
            problem = problems.beyond(message, offset)
        _abort(reader.document, problem)
    return reader.document


def comments(text: str) -> Iterator[tuple[int, int]]:
    """Yield the extents of all comments of a text that `decode` accepted."""
    at = 0
    events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
    for event in events:
        if type(event) in {yaml.ScalarEvent, yaml.StreamEndEvent}:
            is_last = type(event) is yaml.StreamEndEvent
            end = len(text) if is_last else event.start_mark.index
            yield from (match.span() for match in _HASH.finditer(text, at, end))
            at = event.end_mark.index


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) not in {dict, list} and one == other)


def _abort(document: Document, problem: Problem) -> None:
    """End with `problem`; keep earlier problems only if they have an offset of their own."""
    document.problems = [earlier for earlier in document.problems if earlier.offset is not None]
    document.fail(problem)


def _reader_offset(text: str, error: yaml.reader.ReaderError) -> int:
    # The C reader counts bytes, the Python reader characters; both name the character.
    character = error.character
    number = character if isinstance(character, int) else ord(character[:1] or "\0")
    return max(text.find(chr(number)), 0)


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
    if "\t" in fault or "\t" in line[: len(line) - len(line.lstrip())]:
        hint = "indent with spaces: YAML allows no tabs"
    elif "{{" in line or "{%" in line:
        hint = "render the template first, or quote the value"
    elif any(words in fault for words in _OF_INDENTATION) and _is_indented_anew(text, offset):
        hint = "correct the indentation: all keys of one mapping begin in the same column"
    message = f"not valid YAML: {fault}"
    return Problem(problems.SYNTAX_ERROR, message, hint=hint, offset=offset)


class _Reader:
    def __init__(self, text: str, limits: Limits) -> None:
        self.document = Document(text)
        self._text = text
        self._limits = limits
        self._equal_hashes = 0
        self._merges = "<<" in text or "merge" in text
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, Place, str] | None] = {}
        # By id of the mapping: what PyYAML's mapping node holds, as far as something can merge it.
        self._pairs: dict[int, list[tuple[str, Any, Any]]] = {}
        self._ambiguous: list[AmbiguousScalar] = []
        self._ambiguous_at: dict[int, tuple[str, str]] = {}
        self._done: tuple[Any, Place] | None = None

    def read(self) -> None:
        """Read the one document of the text."""
        loader, seen = _Loader(self._text), list[tuple[int, int, str]]()
        may_differ = scalars.MAY_DIFFER.search(self._text) is not None
        handlers: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.DocumentStartEvent: self._document_start,
        }
        try:
            while loader.check_event():
                event = loader.get_event()
                handle = handlers.get(type(event))
                if handle is not None:
                    handle(event)
                if may_differ and handle == self._scalar:
                    style = event.style or "?" * (self._stack != [] and self._stack[-1].is_in_flow)
                    seen.append((event.start_mark.index, event.end_mark.index, style))
        finally:
            loader.dispose()
        if may_differ and (odd := scalars.find_odd_sign(self._text, seen)) is not None:
            raise _StopError(_syntax(self._text, *odd))
        if self._done is None or (self._done[0] is None and not self._text.strip(" \t\r\n-")):
            raise _StopError(problems.EMPTY)
        document = self.document
        document.value, place = self._done
        document.locator = TreeLocator(self._text, place)
        document.ambiguous_scalars = tuple(self._ambiguous)

    def _document_start(self, event: Any) -> None:
        if self._done is not None:
            message = "a second document begins here"
            offset = event.start_mark.index
            raise _StopError(Problem(problems.MANY_DOCUMENTS, message, offset=offset))

    def _scalar(self, event: Any) -> None:
        text, start, end = event.value, event.start_mark.index, event.end_mark.index
        tag = event.tag
        self._define(event)
        try:
            if tag is None or tag == "!":
                if tag is None and not event.implicit[0]:  # quoted: always text
                    self._add(text, Place(start, end), event.anchor, text)
                    return
                tag, value, kind = scalars.interpret(text)
                if kind is not None and (path := self._path()) is not None:
                    self._ambiguous.append(AmbiguousScalar(kind, path, text))
                    self._ambiguous_at[start] = kind, text
            else:
                value = scalars.construct(tag, text)
        except scalars.UnknownTagError:
            value = None
            self._refuse_tag(tag, start)
        except ValueError as error:
            raise _StopError(self._unreadable(tag, text, start, error)) from None
        if tag in (scalars.MERGE, scalars.VALUE) and self._path() is not None:
            self._refuse_tag(tag, start)
        self._add(value, Place(start, end), event.anchor, text, is_merge=tag == scalars.MERGE)

    def _define(self, event: Any) -> None:
        """Take note of the anchor of a value that begins."""
        if event.anchor in self._anchors:
            fault = f"the anchor &{event.anchor} names two values"
            raise _StopError(_syntax(self._text, event.start_mark.index, fault))
        if event.anchor is not None:
            self._anchors[event.anchor] = None

    def _unreadable(self, tag: str | None, text: str, start: int, error: Exception) -> Problem:
        tag = tag or scalars.resolve(text)
        if tag.endswith((":int", ":float")) and "digits" in str(error):
            kind = "an integer" if tag.endswith(":int") else "a number"
            return problems.beyond(f"{kind} has too many digits", start)
        fault = f"{text[:40]!r} is not a valid {tag.rpartition(':')[2]} ({error})"
        return _syntax(self._text, start, fault)

    def _refuse_tag(self, tag: str, offset: int) -> None:
        is_known = tag.endswith((":set", ":omap", ":pairs"))
        reason = "makes a value that JSON lacks" if is_known else "is refused by yaml.safe_load"
        message = f"the tag {tag!r} {reason}"
        path = self._path()
        self._report(Problem(problems.UNKNOWN_TAG, message, path or (), offset=offset))
        if path is not None:
            self._ambiguous.append(AmbiguousScalar("tag", path, tag))

    def _alias(self, event: Any) -> None:
        start, end = event.start_mark.index, event.end_mark.index
        if event.anchor not in self._anchors:
            fault = f"the alias *{event.anchor} has no anchor before it"
            raise _StopError(_syntax(self._text, start, fault))
        known = self._anchors[event.anchor]
        if known is None:
            message = f"the alias *{event.anchor} is inside the value that it names"
            raise _StopError(problems.beyond(message, start))
        value, place, text = known
        copy = Place(start, end, place.keys, place.inside, place.nodes, place.height)
        self._add(value, copy, None, text)

    def _open(self, event: Any) -> None:
        start = event.start_mark.index
        if len(self._stack) >= self._limits.depth:
            raise _StopError(problems.too_deep(self._limits, start))
        if event.tag not in _TAGS[type(event)]:
            self._refuse_tag(event.tag, start)
        self._define(event)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        frame = _Frame({} if is_mapping else [], Place(start, start), event.anchor, _AWAITS_KEY)
        frame.is_in_flow = bool(event.flow_style)
        self._stack.append(frame)

    def _close(self, event: Any) -> None:
        frame = self._stack.pop()
        frame.place.end = event.end_mark.index
        if frame.merged:
            self._close_merged(frame)
        if self._merges:
            self._pairs[id(frame.value)] = frame.pairs
        self._add(frame.value, frame.place, frame.anchor)

    def _close_merged(self, frame: _Frame) -> None:
        """Add what a mapping merges; its own keys take precedence, then later merges."""
        own = set(frame.value)
        path = self._path()
        for value, place in (each for group in reversed(frame.merged) for each in group):
            for key, entry in value.items():
                if key not in frame.value:
                    self._count(frame, key, place)
                    frame.value[key] = entry
                    frame.place.keys[key] = place.keys.get(key, (place.start, place.end))
                    frame.place.inside[key] = place.inside[key]
                    known = self._ambiguous_at.get(place.inside[key].start)
                    if known is not None and path is not None:
                        kind, text = known
                        self._ambiguous.append(AmbiguousScalar(kind, (*path, key), text))
        # PyYAML 6.0.4 keeps the first of the pairs whose keys are one object in memory, as an
        # alias and its anchor are, and all keys of one character; of the others the last one wins.
        pairs: dict[int, tuple[str, Any, Any]] = {}
        for value, _ in (each for group in frame.merged for each in group):
            for pair in self._pairs[id(value)]:
                pairs.setdefault(id(pair[0]), pair)
        frame.place.nodes += len(pairs)
        frame.pairs[:0] = pairs.values()
        newest = {key: value for _, key, value in pairs.values()}
        for key in frame.value.keys() - own:
            if path is not None and not _is_same(newest.get(key, own), frame.value[key]):
                message = f"the key {key!r} is merged with two values: releases of PyYAML differ"
                self._report(Problem(problems.DUPLICATE_KEY, message, (*path, key), "key"))

    def _add(
        self, value: Any, place: Place, anchor: str | None, text: str = "", *,
        is_merge: bool = False,
    ) -> None:  # fmt: skip
        """Put a finished value where it belongs: top, list, key or value of a mapping."""
        if anchor is not None:
            self._anchors[anchor] = (value, place, text)
        if not self._stack:
            self._done = (value, place)
            return
        frame = self._stack[-1]
        outer = frame.place
        outer.nodes += place.nodes
        outer.height = max(outer.height, place.height + 1)
        # Aliases turn a few lines into millions of values, so values are counted, never walked.
        if outer.nodes > self._limits.nodes:
            counted = ", aliases counted"
            raise _StopError(problems.too_many_values(self._limits, counted, place.start))
        if len(self._stack) + outer.height > self._limits.depth:
            raise _StopError(problems.too_deep(self._limits, place.start))
        if isinstance(frame.value, list):
            outer.inside[len(frame.value)] = place
            frame.value.append(value)
        elif frame.key is _AWAITS_KEY:
            if isinstance(value, (dict, list)):
                raise _StopError(_syntax(self._text, place.start, "a key is a mapping or a list"))
            frame.key, frame.key_text = scalars.MERGE if is_merge else value, text
            frame.key_extent = (place.start, place.end)
        else:
            self._end_pair(frame, value, place)

    def _end_pair(self, frame: _Frame, value: Any, place: Place) -> None:
        key, extent = frame.key, frame.key_extent or (place.start, place.start)
        frame.key = _AWAITS_KEY
        if key is scalars.MERGE:
            self._merge(frame, value, place)
            return
        self._count(frame, key, frame.place)
        if key in frame.value:
            path = self._path_to(key)[:-1]
            self._report(duplicate_key(path, key, [frame.place.keys[key], extent]))
        if not isinstance(key, str):
            message = f"the key {key!r} is not a string"
            self._report(Problem(problems.NON_STRING_KEY, message, self._path_to(key), "key"))
        frame.value[key] = value
        frame.place.keys[key] = extent
        frame.place.inside[key] = place
        if self._merges:
            frame.pairs.append((frame.key_text, key, value))

    def _merge(self, frame: _Frame, value: Any, place: Place) -> None:
        if isinstance(value, dict):
            frame.merged.append([(value, place)])
        elif isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
            frame.merged.append([(entry, place.inside[i]) for i, entry in enumerate(value)])
        else:
            fault = "<< should merge a mapping or a list of mappings"
            raise _StopError(_syntax(self._text, place.start, fault))

    def _count(self, frame: _Frame, key: Any, place: Place) -> None:
        if isinstance(key, str):
            return  # Python keeps the hashes of strings secret
        self._equal_hashes += hash(key) in frame.hashes
        frame.hashes |= {hash(key)}
        if self._equal_hashes > _MOST_EQUAL_HASHES:
            message = f"more than {_MOST_EQUAL_HASHES} keys are numbers of one hash"
            raise _StopError(problems.beyond(message, place.start))

    def _report(self, problem: Problem) -> None:
        if len(self.document.problems) <= self._limits.diagnostics:  # one more than is shown
            self.document.problems.append(problem)

    def _path(self) -> Path | None:
        """Return the path of the value that comes next, or None where a key comes next."""
        if self._stack and isinstance(self._stack[-1].value, dict):
            key = self._stack[-1].key
            return None if key is _AWAITS_KEY else self._path_to(key)
        return self._path_to(None)

    def _path_to(self, key: Any) -> Path:
        steps = [
            frame.key if type(frame.value) is dict else len(frame.value) for frame in self._stack
        ]
        if self._stack and isinstance(self._stack[-1].value, dict):
            steps[-1] = key
        return tuple(steps)
