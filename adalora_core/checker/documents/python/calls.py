"""Find the calls of `AdaLoraConfig` in a script, with what can be known of their arguments."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents.python.arithmetic import UNKNOWN
from adalora_core.checker.documents.python.syntax import expects_a_fault
from adalora_core.checker.documents.python.values import holds_unknown

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.scopes import Scopes
from adalora_core.checker.documents.python.values import Entries, Values

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
