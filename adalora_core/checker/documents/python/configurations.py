"""Turn the calls of `AdaLoraConfig` in a script into a document with values and places."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Literal

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import Document, Place, TreeLocator
from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.documents.python.calls import CLASS, MOST_CALLS
from adalora_core.checker.documents.python.syntax import BeyondLimitError

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.calls import Call
    from adalora_core.checker.documents.python.script import Script
    from adalora_core.floor.places import Extent, Path


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
