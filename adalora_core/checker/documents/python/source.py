"""Decode Python source into a document of its calls of `AdaLoraConfig`, and edit the calls."""

from __future__ import annotations

import ast
import json
import re
import sys
import warnings
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.checker.documents import problems
from adalora_core.checker.documents.document import Document, Locator, Place
from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.documents.python.lexical import line_starts, with_plain_letters
from adalora_core.checker.documents.python.script import CLASS, LORA_CLASS, Call, Script
from adalora_core.checker.documents.python.syntax import BeyondLimitError
from adalora_core.config.findings import Insert, Put, Rename, Replace
from adalora_core.floor.places import line_end, line_start

if TYPE_CHECKING:
    from adalora_core.floor.limits import Limits
    from adalora_core.floor.places import Extent, Path

_VERSION = f"Python {sys.version_info.major}.{sys.version_info.minor}"
_NAME = re.compile(r"[^\W\d]\w*")
_TO_THE_CHECKER = re.compile(r"#\s*adalora\s*:")


def decode(text: str, limits: Limits) -> Document:
    """Parse a script; each fault of the text becomes a problem of the document."""
    tree = parse(text)
    if isinstance(tree, Problem):
        return Document(text, problems=[tree], fatal=True)
    return document_of(text, Script(text, tree, limits=limits, mentions_adalora=is_about(text)), [])


def is_about(code: str) -> bool:
    """Return whether code, but for comments to the checker, mentions AdaLoRA or its allocation."""
    code = with_plain_letters(code)
    without = _TO_THE_CHECKER.sub("", code.lower())
    return "adalora" in without or "update_and_allocate" in code


def parse(code: str) -> ast.Module | Problem:
    """Return the syntax tree of code, or the reason why there is none."""
    if "\0" in code:  # only a notebook's strings can hold it; Python's errors for it differ
        message = "the code holds a NUL character: it is not text"
        return Problem(problems.BAD_ENCODING, message, offset=code.index("\0"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the code itself, such as "\d" in a string
            return ast.parse(code)
    except SyntaxError as error:
        message = f"not valid {_VERSION}: {error.msg}"
        starts = line_starts(code)
        start = starts[min((error.lineno or 1) - 1, len(starts) - 1)]
        offset = min(start + (error.offset or 1) - 1, len(code))
        hint = None if code[offset:].strip() else problems.CUT_OFF
        return Problem(problems.SYNTAX_ERROR, message, offset=offset, hint=hint)
    except ValueError as error:  # half of a surrogate pair, in a notebook
        return Problem(problems.BAD_ENCODING, f"the code is not text: {error}", offset=0)
    except (RecursionError, MemoryError):
        return problems.beyond("the code is nested too deeply for this interpreter")


def document_of(text: str, script: Script, found: list[Problem]) -> Document:
    """Return the document of a script: `{"AdaLoraConfig": [arguments of each call]}`."""
    try:
        calls = script.calls
    except BeyondLimitError as error:
        problem = problems.beyond(str(error), script.extent(error.node)[0])
        return Document(text, problems=[*found, problem], fatal=True)
    if script.values.excess is not None:
        node, message = script.values.excess
        found.append(problems.beyond(message, script.extent(node)[0]))
    value = {CLASS: [call.values for call in calls]}
    for index, call in enumerate(calls):
        for name, first, second in call.repeated:
            message = f"the argument `{name}` is given twice: Python refuses the call"
            related = ((script.extent(first), "also here"),)
            found.append(
                Problem(problems.DUPLICATE_KEY, message, (CLASS, index, name), "key",
                        offset=script.extent(second)[0], related=related)
            )  # fmt: skip
    locator = Locator(script.code, lambda: _places(script))
    return Document(text, value, found, locator=locator, script=script)


def _places(script: Script) -> Place:
    """Return the places of the arguments of calls, at the paths `(class, index, argument)`."""
    top = Place(0, len(script.code))
    for name, calls in ((CLASS, script.calls), (LORA_CLASS, script.lora_calls)):
        found = top.inside[name] = Place(top.start, top.end)
        for index, call in enumerate(calls):
            found.inside[index] = _of_call(call, script)
            found.keys[index] = script.code_extent(call.node.func)
    return top


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
        inside: list[tuple[object, ast.expr]] = []
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            if not any(isinstance(each, ast.Starred) for each in node.elts):
                inside = list(enumerate(node.elts))
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    outer.keys[key.value] = script.code_extent(key)
                    inside.append((key.value, value))
        for name, value in inside:
            outer.inside[name] = Place(*script.code_extent(value))
            stack.append((value, outer.inside[name]))
    return place


def edit(document: Document, change: Put | Rename | Insert | Replace) -> tuple[Extent, str] | None:
    """Return the edit that makes a change, or None if the code does not write the value itself."""
    script, locator = document.script, document.locator
    if script is None or locator is None:
        return None
    if isinstance(change, Replace):
        return change.extent, script.written(change.text)
    made = (
        _insertion(script, change.path, change.value)
        if isinstance(change, Insert)
        else _replacement(script, locator, change)
    )
    return None if made is None else (script.in_text(made[0]), script.written(made[1]))


def _replacement(
    script: Script, locator: Locator, change: Put | Rename
) -> tuple[Extent, str] | None:
    at: Literal["key", "value"] = "key" if isinstance(change, Rename) else "value"
    extent = locator.locate(change.path, at)
    if extent == locator.locate(change.path[:-1], at):
        return None
    old = script.code[slice(*extent)]
    if isinstance(change, Rename) and _NAME.fullmatch(old):
        return extent, change.name
    # A comment inside a list would be lost.
    if not _is_literal(old) or (isinstance(change, Put) and "#" in old):
        return None
    return extent, spell(change.name if isinstance(change, Rename) else change.value, old)


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
    line = line_start(code, first)
    is_own_line = inside < line and not code[line:first].strip()
    blank = f"{line_end(code)}{code[line:first]}" if is_own_line else " "
    return (first, first), f"{argument},{blank}"


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
