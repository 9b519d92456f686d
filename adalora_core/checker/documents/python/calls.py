"""Find the calls of `AdaLoraConfig` in a script, and turn them into a document."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import Document
from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.documents.python.arithmetic import UNKNOWN
from adalora_core.checker.documents.python.syntax import BeyondLimitError, expects_a_fault
from adalora_core.checker.documents.python.values import Entries, Values, holds_unknown
from adalora_core.checker.documents.tree import Place, TreeLocator

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.scopes import Scopes
    from adalora_core.checker.documents.python.source import Script
    from adalora_core.floor.places import Extent, Path

CLASS = "AdaLoraConfig"
_PEFT = frozenset({"peft", "swift"})
"""Packages whose class of this name is PEFT's own."""
_OURS = "adalora_core"

MOST_CALLS = 200
"""Bound on the calls of one script that are checked."""


@dataclass
class Call:
    """A call of `AdaLoraConfig`.

    Args:
        node: the call.
        is_ours: whether the class, or its import, is adalora_core's.
        entries: the arguments by name, each with the nodes of its name and its value.
        values: the values, UNKNOWN where a value, or a part of it, is not known.
        deferred: the names of arguments whose values are not known.
        is_open: whether there may be further arguments.
        repeated: arguments that are given twice: name, and both nodes.
    """

    node: ast.Call
    is_ours: bool
    entries: Entries = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    deferred: frozenset[str] = frozenset()
    is_open: bool = False
    repeated: list[tuple[str, ast.AST, ast.AST]] = field(default_factory=list)


def find_calls(values: Values) -> list[Call]:
    """Return the calls of the class in the order of the code, at most one more than is checked."""
    found = []
    expecting: dict[ast.AST, bool] = {}
    for node in values.scopes.of:
        if isinstance(node, ast.Call):
            is_ours = _origin(node.func, values)
            if is_ours is not None and not _is_expected_to_fail(node, values.scopes, expecting):
                found.append(((node.lineno, node.col_offset), node, is_ours))
    found.sort(key=lambda each: each[0])
    return [_read(node, values, is_ours=is_ours) for _, node, is_ours in found[: MOST_CALLS + 1]]


def _is_expected_to_fail(node: ast.AST, scopes: Scopes, known: dict[ast.AST, bool]) -> bool:
    """Return whether a call is in the block of a test that expects an error or a warning."""
    parents = scopes.parents
    while (parent := parents.get(node)) is not None:
        if isinstance(parent, (ast.With, ast.AsyncWith)):
            if parent not in known:
                known[parent] = expects_a_fault(parent)
            if known[parent]:
                return True
        node = parent
    return False


def _origin(function: ast.expr, values: Values) -> bool | None:
    """Return whether a class is this package's (true) or PEFT's (false); None: neither."""
    if isinstance(function, ast.Attribute) and function.attr != CLASS:
        return None
    name = values.scopes.qualified(function)
    if name is None or name.rpartition(".")[2] != CLASS:
        return None
    package = name.partition(".")[0]
    if name == CLASS:  # not imported by name
        stars = (each for each in values.scopes.imports if each.endswith(".*"))
        package = next(stars, "peft").partition(".")[0]
    if package == _OURS:
        return True
    return False if package in _PEFT else None


def _read(node: ast.Call, values: Values, *, is_ours: bool) -> Call:
    call = Call(node, is_ours)
    call.is_open = bool(node.args)  # nobody writes 51 fields in their order
    for keyword in node.keywords:
        given: Entries = {keyword.arg: (keyword, keyword.value)}
        if keyword.arg is None:
            given = values.entries(keyword.value)
        for name, (key, value) in given.items():
            if not isinstance(name, str):
                call.is_open = True
                continue
            first = call.entries.get(name)
            # A value that changes later may be one that is removed.
            if first is not None and first[1] is not None and value is not None:
                call.repeated.append((name, first[0], key))
            call.entries[name] = (key, value)
    _evaluate(call, values)
    return call


def _evaluate(call: Call, values: Values) -> None:
    unknown = set(_assigned_later(call.node, values.scopes))
    if "total_step" not in call.entries:
        unknown.discard("total_step")  # the class refuses the call before the assignment
    for name, (_, value) in call.entries.items():
        if name == "peft_type":
            continue  # the class overwrites it
        found = UNKNOWN if value is None or name in unknown else values.of_argument(value)
        if holds_unknown(found):
            unknown.add(name)
            found = UNKNOWN
        if value is not None:  # else a change, such as `settings.pop(name)`, may remove it
            call.values[name] = found
    call.deferred = frozenset(unknown)


def _assigned_later(node: ast.Call, scopes: Scopes) -> list[str]:
    """Return the fields that the script assigns after the call: `config.target_r = 4`."""
    parent = scopes.parents.get(node)
    if not isinstance(parent, ast.Assign) or not isinstance(parent.targets[0], ast.Name):
        return []
    changes = scopes.changes(parent.targets[0])
    return [change.attr for change in changes if isinstance(change, ast.Attribute)]


def document_of(text: str, script: Script, found: list[Problem]) -> Document:
    """Return the document of a script: `{"AdaLoraConfig": [arguments of each call]}`.

    Args:
        text: the text of the file.
        script: its code.
        found: the problems that are known so far.
    """
    try:
        calls_are_too_many = len(script.calls) > MOST_CALLS
    except BeyondLimitError as error:
        offset = script.extent(error.node)[0]
        problem = Problem(problems.LIMIT_EXCEEDED, str(error), offset=offset)
        return Document(text, problems=[*found, problem], fatal=True)
    if calls_are_too_many:
        del script.calls[MOST_CALLS:]
        message = f"the code has more than {MOST_CALLS} calls of {CLASS}; the rest is not checked"
        found.append(Problem(problems.LIMIT_EXCEEDED, message, offset=0))
    if script.values.excess is not None:
        node, message = script.values.excess
        offset = script.extent(node)[0]
        found.append(Problem(problems.LIMIT_EXCEEDED, message, offset=offset))
    value = {CLASS: [call.values for call in script.calls]}
    places = [_of_call(call, script) for call in script.calls]
    calls = Place(0, len(script.code), inside=dict(enumerate(places)))
    for index, call in enumerate(script.calls):
        calls.keys[index] = script.code_extent(call.node.func)
        for name, first, second in call.repeated:
            message = f"the argument `{name}` is given twice: Python refuses the call"
            related = ((script.extent(first), "also here"),)
            found.append(
                Problem(problems.DUPLICATE_KEY, message, (CLASS, index, name), "key",
                        offset=script.extent(second)[0], related=related)
            )  # fmt: skip
    top = Place(0, len(script.code), inside={CLASS: calls})
    return Document(text, value, found, locator=ScriptLocator(script, top), script=script)


class ScriptLocator:
    """Finds the arguments of calls, in the text of the document or in the code."""

    def __init__(self, script: Script, top: Place) -> None:
        self._script = script
        self._tree = TreeLocator(script.code, top)

    def locate(self, path: Path, at: Literal["key", "value"]) -> Extent | None:
        """Return the extent of the key or value in the text, or of its nearest parent."""
        extent = self.in_code(path, at)
        return None if extent is None else self._script.in_text(extent)

    def in_code(self, path: Path, at: Literal["key", "value"]) -> Extent | None:
        """Return the extent of the key or value in the code, or of its nearest parent."""
        return self._tree.locate(path, at)


def _of_call(call: Call, script: Script) -> Place:
    place = Place(*script.code_extent(call.node))
    for name, (key, value) in call.entries.items():
        place.keys[name] = _extent_of_key(key, script)
        place.inside[name] = _of_value(key if value is None else value, script)
    return place


def _extent_of_key(node: ast.AST, script: Script) -> Extent:
    start, end = script.code_extent(node)
    is_keyword = isinstance(node, ast.keyword) and node.arg is not None
    return start, start + len(node.arg or "") if is_keyword else end  # type: ignore[attr-defined]


def _of_value(top: ast.AST, script: Script) -> Place:
    """Return the place of a value, and those of the entries that are written inside it."""
    place = Place(*script.code_extent(top))
    stack = [(top, place)]
    while stack:
        node, outer = stack.pop()
        pairs: list[tuple[object, ast.expr | None, ast.expr]] = []
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            if not any(isinstance(each, ast.Starred) for each in node.elts):
                pairs = [(index, None, each) for index, each in enumerate(node.elts)]
        elif isinstance(node, ast.Dict):
            pairs = [
                (key.value, key, value)
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            ]
        for name, key, value in pairs:
            outer.inside[name] = Place(*script.code_extent(value))
            if key is not None:
                outer.keys[name] = script.code_extent(key)
            stack.append((value, outer.inside[name]))
    return place
