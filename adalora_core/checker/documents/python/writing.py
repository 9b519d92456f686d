"""Turn changes of a call's arguments into edits of the code, in its style."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents.python.source import ScriptLocator
from adalora_core.config.changes import Insert, Put, Rename

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document
    from adalora_core.checker.documents.python.script import Script
    from adalora_core.config.changes import Replace
    from adalora_core.floor.places import Extent, Path

_NAME = re.compile(r"[^\W\d]\w*")


def edit(document: Document, change: Put | Rename | Insert | Replace) -> tuple[Extent, str] | None:
    """Return the edit that makes a change, or None if the code does not write the value itself."""
    script, locator = document.script, document.locator
    if script is None or not isinstance(locator, ScriptLocator):
        return None
    if isinstance(change, Insert):
        made = _insertion(script, change.path, change.value)
    elif isinstance(change, (Put, Rename)):
        made = _replacement(script, locator, change)
    else:
        return change.extent, script.written(change.text)
    return None if made is None else (script.in_text(made[0]), script.written(made[1]))


def _replacement(
    script: Script, locator: ScriptLocator, change: Put | Rename
) -> tuple[Extent, str] | None:
    at = "key" if isinstance(change, Rename) else "value"
    extent = locator.in_code(change.path, at)  # type: ignore[arg-type] # one of two literals
    parent = locator.in_code(change.path[:-1], at)  # type: ignore[arg-type]
    if extent is None or extent == parent:
        return None
    old = script.code[slice(*extent)]
    if isinstance(change, Rename):
        if _NAME.fullmatch(old):
            return extent, change.name
        return (extent, _string(change.name, old)) if _is_literal(old) else None
    # A comment inside a list would be lost.
    return (extent, spell(change.value, old)) if _is_literal(old) and "#" not in old else None


def _insertion(script: Script, path: Path, value: Any) -> tuple[Extent, str] | None:
    """Return the edit that adds an argument before the first one of a call, in its style."""
    index = path[1]
    if len(path) != 3 or not isinstance(index, int):  # noqa: PLR2004 - class, call, argument
        return None
    node, code = script.calls[index].node, script.code
    argument = f"{path[2]}={spell(value, '')}"
    inside = code.index("(", script.code_extent(node.func)[1]) + 1
    if not node.keywords and not node.args:
        return (inside, inside), argument
    if node.args:
        end = script.code_extent(node.args[-1])[1]
        return (end, end), f", {argument}"
    first = script.code_extent(node.keywords[0])[0]
    line = max(code.rfind("\n", 0, first), code.rfind("\r", 0, first)) + 1
    if inside < line and not code[line:first].strip():
        ends = re.search(r"\r\n|\n|\r", code)
        return (first, first), f"{argument},{ends[0] if ends else chr(10)}{code[line:first]}"
    return (first, first), f"{argument}, "


def _is_literal(text: str) -> bool:
    """Return whether code is a value that is written out: no name, no call, no operator."""
    try:
        tree = ast.parse(text, mode="eval")
        ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True


def spell(value: Any, old: str) -> str:
    """Return a value as Python, in the kind of quotes and brackets that the old code has."""
    if isinstance(value, list):
        inner = ", ".join(spell(entry, old) for entry in value)
        if old.startswith("("):
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        return f"{{{inner}}}" if value and _is_set(old) else f"[{inner}]"
    if isinstance(value, dict):
        pairs = (f"{spell(k, old)}: {spell(v, old)}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    return _string(value, old) if isinstance(value, str) else repr(value)


def _is_set(old: str) -> bool:
    return old.startswith("{") and isinstance(ast.parse(old, mode="eval").body, ast.Set)


def _string(value: str, old: str) -> str:
    if "'" in old and '"' not in old:
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)
    # Python has JSON's escapes, but not its pairs for one character.
    return text if text.isprintable() else repr(value)
