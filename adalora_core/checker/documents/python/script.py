"""Hold the code of a script or notebook: its tree, its calls of `AdaLoraConfig`, their places."""

from __future__ import annotations

import ast
import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents.python.lexical import line_starts
from adalora_core.checker.documents.python.origins import UNKNOWN
from adalora_core.checker.documents.python.scopes import Scopes
from adalora_core.checker.documents.python.syntax import called_name, dotted, last_name, only
from adalora_core.checker.documents.python.values import Values, holds_unknown
from adalora_core.floor.limits import DEFAULT_LIMITS, Limits
from adalora_core.floor.places import CellSpan, Extent

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.origins import Entries
    from adalora_core.config.fields.block import Door

CLASS = "AdaLoraConfig"
LORA_CLASS = "LoraConfig"
_PEFT = frozenset({"peft", "swift"})
"""Packages whose class of this name is PEFT's own."""

_MOST_VARIABLES = 3
"""Bound on the variables between a call and the class."""
_LOADS = ("peft.PeftModel", "peft.AutoPeft")
_ABOUT = re.compile("adalora", re.IGNORECASE)
_OF_ANOTHER = "AdamssConfig"
"""A class of PEFT whose models have `update_and_allocate` too."""
_USES = frozenset({"train", "backward", "merge_and_unload"})
"""What a script does with a loaded adapter that rules judge."""
_CHARACTER = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]",
    re.DOTALL,
)
"""One character of a JSON string, as it is written."""


@dataclass(eq=False)
class Script:
    """The code of a document.

    Args:
        code: the code; in a notebook, that of all code cells, without magics.
        tree: its syntax tree.
        places: turns places of the code into places of the text; None: code and text are the same.
        cell_starts: the line of the code on which each code cell starts; empty: not a notebook.
        cell_numbers: the number of each of these cells among all cells, from 1.
        limits: the limits of values.
        mentions_adalora: whether the text names AdaLoRA, in comments and in cells of prose too.
    """

    code: str
    tree: ast.Module
    places: Places | None = None
    cell_starts: tuple[int, ...] = ()
    cell_numbers: tuple[int, ...] = ()
    limits: Limits = DEFAULT_LIMITS
    mentions_adalora: bool = False

    def extent(self, node: ast.AST) -> Extent:
        """Return the extent of a node in the document's text."""
        return self.in_text(self.code_extent(node))

    def in_text(self, extent: Extent) -> Extent:
        """Turn an extent of the code into one of the document's text."""
        return extent if self.places is None else self.places.in_text(extent)

    def written(self, code: str) -> str:
        """Return code as the document's text holds it: in a notebook, inside a JSON string."""
        return code if self.places is None else json.dumps(code, ensure_ascii=False)[1:-1]

    def code_extent(self, node: ast.AST) -> Extent:
        """Return the extent of a node in the code."""
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        end_line = getattr(node, "end_lineno", None) or line
        end_column = getattr(node, "end_col_offset", None) or column
        return self.offset(line, column), self.offset(end_line, end_column)

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a position of the tree, whose columns count bytes of UTF-8."""
        start = self._line_starts[line - 1]
        if self._is_ascii:
            return start + column
        # A character has at least one byte.
        before = self.code[start : start + column].encode()[:column]
        return start + len(before.decode(errors="ignore"))

    def cell_span(self, start: int, end: int) -> CellSpan | None:
        """Return the cell of an extent of the text, and the place in it; None: no notebook."""
        if self.places is None or not self.cell_starts:
            return None
        first = self.places.in_code(start)
        last = self.places.in_code(end - 1) + 1 if end > start else first
        line = bisect_right(self._line_starts, first)
        end_line = bisect_right(self._line_starts, max(last - 1, first))
        index = max(0, bisect_right(self.cell_starts, line) - 1)
        top, begin = self.cell_starts[index], self._line_starts[line - 1]
        end_column = last - self._line_starts[end_line - 1] + 1
        source = re.split(r"[\r\n]", self.code[begin : begin + 10_000], maxsplit=1)[0]
        return CellSpan(
            self.cell_numbers[index], line - top + 1, first - begin + 1,
            end_line - top + 1, end_column, source,
        )  # fmt: skip

    @cached_property
    def scopes(self) -> Scopes:
        """The scopes of the code, with the parent of each node."""
        return Scopes(self.tree)

    @cached_property
    def values(self) -> Values:
        """The values of the code's expressions."""
        return Values(self.scopes, self.limits)

    @cached_property
    def calls(self) -> list[Call]:
        """The calls of `AdaLoraConfig`."""
        return find_calls(self.values)

    @cached_property
    def lora_calls(self) -> list[Call]:
        """The calls of `LoraConfig`, and its saved configurations.

        What is loaded in a script on AdaLoRA may be of that method.
        """
        loads = [] if self.is_about_adalora else find_loads(self.values, LORA_CLASS)
        return [*find_calls(self.values, LORA_CLASS), *loads]

    @cached_property
    def is_about_adalora(self) -> bool:
        """Whether a name of the code is AdaLoRA's, or its text is on AdaLoRA and loads adapters."""
        if self.mentions_adalora and any(name.startswith(_LOADS) for name in self.scopes.imports):
            return True
        names = {name for node in self.scopes.of for name in _names(node)}
        is_allocated = "update_and_allocate" in names and _OF_ANOTHER not in names
        return is_allocated or any(map(_ABOUT.search, names))

    @cached_property
    def _is_ascii(self) -> bool:
        return self.code.isascii()

    @cached_property
    def _line_starts(self) -> list[int]:
        return line_starts(self.code)


def _names(node: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        return (node.attr,)
    if isinstance(node, ast.alias):
        return (node.name.rpartition(".")[2],)
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return (node.name,)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        return (node.value,)  # as for getattr
    return ()


@dataclass
class Call:
    """A call of `AdaLoraConfig` or `LoraConfig`.

    Args:
        node: the call.
        door: through which package the class comes.
        entries: the arguments by name, each with the nodes of its name and its value.
        values: the values, UNKNOWN where a value, or a part of it, is not known.
        deferred: the names of arguments whose values are not known.
        is_open: whether there may be further arguments.
        repeated: arguments that are given twice: name, and both nodes.
    """

    node: ast.Call
    door: Door
    entries: Entries = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    deferred: frozenset[str] = frozenset()
    is_open: bool = False
    repeated: list[tuple[str, ast.AST, ast.AST]] = field(default_factory=list)


def find_calls(values: Values, name: str = CLASS) -> list[Call]:
    """Return the calls of a class in the order of the code."""
    found = []
    for node in values.scopes.calls:
        door = _door(node.func, values, name)
        if door is None and last_name(node.func) == "get_peft_config" and node.args:
            _, kind = values.entries(node.args[0]).get("peft_type", (None, None))
            is_meant = kind is not None and values.of(kind) == name.removesuffix("Config").upper()
            door = "peft" if is_meant else None
        if door is not None and not values.scopes.is_expected_to_fail(node):
            found.append(((node.lineno, node.col_offset), node, door))
    found.sort(key=lambda each: each[0])
    live = _assigned_in_model(values.scopes) if found else set()
    return [_read(node, values, live, door) for _, node, door in found]


def find_loads(values: Values, name: str) -> list[Call]:
    """Return the calls that load a saved configuration of a class, for an adapter that is added."""
    found, scopes = [], values.scopes
    # A base model is named by what PEFT has saved beside an adapter, and hardly by another text.
    is_saved = name == LORA_CLASS and "base_model_name_or_path" in scopes.words
    is_used = name == LORA_CLASS and not _USES.isdisjoint(scopes.callers)
    for node in scopes.callers.get("from_pretrained", []):
        owner, parent = getattr(node.func, "value", node.func), scopes.parents[node]
        targets = getattr(parent, "targets", [getattr(parent, "target", None)])
        uses = scopes.words.get(last_name(targets[0]), [])
        parents = map(scopes.parents.get, (node, *uses))
        given = {called_name(each) or getattr(each, "arg", None) for each in parents}
        door = _door(owner, values, name) or (is_saved and _door(owner, values, "PeftConfig"))
        if door and not given.isdisjoint({"get_peft_model", "peft_config"}):
            # What a caller of the function names may be a configuration for training.
            binds = scopes.bindings(next(iter(node.args), None))
            saved = ast.copy_location(ast.Constant(value=True), node)
            is_known = "parameter" not in [each.kind for each in binds]
            entries: Entries = {"inference_mode": (node, saved)} if is_known else {}
            found.append(Call(node, door, entries, is_open=True))
            _evaluate(found[-1], values, set())
        elif is_used and str(scopes.qualified(owner)).startswith(_LOADS):
            found.append(Call(node, "peft", is_open=True))
    return found


def _door(function: ast.expr, values: Values, wanted: str) -> Door | None:
    """Return through which package a class comes; None: another class."""
    name, imports = _imported(_followed(function, values), values, wanted), values.scopes.imports
    if name is None:
        return None
    if name == wanted:  # not imported by name
        name = next((each for each in imports if each.endswith(".*")), "peft.*")
    if name.startswith("adalora_core."):
        is_bridge = name.startswith("adalora_core.peft.")
        is_bridge |= any(each.endswith(".to_peft_config") for each in imports)
        return "bridge" if is_bridge else "own"
    package = name.partition(".")[0]
    # The LoraConfig of ms-swift has further fields.
    return "peft" if package == "peft" or (package in _PEFT and wanted == CLASS) else None


def _imported(function: ast.expr, values: Values, wanted: str) -> str | None:
    """Return the full name of a class; of a name that is bound more than once, what is imported.

    `except ImportError: AdaLoraConfig = None` leaves the class; of this package or PEFT the first.
    """
    name, rest = dotted(function)
    held = values.scopes.binding(name) if rest else None
    if held is not None and isinstance(held.source, ast.Name | ast.Attribute):  # q = peft
        name, more = dotted(held.source)
        rest = f"{more}{rest}"
    if name is None or (rest and not rest.endswith(wanted)):
        return None
    origins = values.scopes.origins(name)
    names = [f"{each}{rest}" for each in origins or [name.id] if each]
    names = [each for each in names if each.rpartition(".")[2] == wanted]
    is_either = {each.partition(".")[0] for each in names} == {"adalora_core", "peft"}
    return names[0] if is_either else only(names)


def _followed(function: ast.expr, values: Values) -> ast.expr:
    """Return the class that a variable or a dict holds: `kind = AdaLoraConfig`, `kinds["a"]`."""
    for _ in range(_MOST_VARIABLES):
        binding = values.scopes.binding(function)
        held = binding.source if binding is not None else None
        if isinstance(function, ast.Subscript) and isinstance(function.slice, ast.Constant):
            _, held = values.entries(function.value).get(function.slice.value, (None, None))
        if not isinstance(held, ast.Name | ast.Attribute | ast.Subscript):
            break
        function = held
    return function


def _read(node: ast.Call, values: Values, live: set[str], door: Door) -> Call:
    call = Call(node, door)
    given_by_name = node.keywords
    if last_name(node.func) == "get_peft_config":
        given_by_name = [ast.keyword(None, node.args[0])]
    else:
        call.is_open = bool(node.args)  # nobody writes 51 fields in their order
    for keyword in given_by_name:
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
    _evaluate(call, values, live)
    return call


def _evaluate(call: Call, values: Values, live: set[str]) -> None:
    unknown = live.union(_assigned_later(call.node, values.scopes))
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


def _assigned_in_model(scopes: Scopes) -> set[str]:
    """Return the fields that are assigned in a model: `model.peft_config["default"].tinit = 5`."""
    found = {"total_step"} if "set_total_step" in scopes.callers else set()
    for node in scopes.of:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            held = [node.value]
            if isinstance(node.value, ast.Name):
                held = [b.value for b in scopes.bindings(node.value) if b.value is not None]
            if any("peft_config" in ast.unparse(each)[:200] for each in held):
                found.add(node.attr)
    return found


@dataclass(slots=True)
class Piece:
    """A part of the code, and what is between the quotes of its JSON string in the file."""

    start: int
    length: int
    extent: Extent


class Places:
    """The JSON strings that hold the code of a notebook, in the order of the file."""

    def __init__(self, text: str, pieces: list[Piece]) -> None:
        self._text = text
        self._pieces = pieces
        self._in_code = [piece.start for piece in pieces]
        self._in_text = [piece.extent[0] for piece in pieces]
        self._offsets: dict[int, list[int]] = {}

    def in_text(self, extent: Extent) -> Extent:
        """Turn an extent of the code into one of the text."""
        start, end = extent
        begin = self._to_text(start)
        return begin, self._to_text(end - 1, is_end=True) if end > start else begin

    def in_code(self, offset: int) -> int:
        """Turn an offset of the text into one of the code; outside of code, into the one before."""
        index = bisect_right(self._in_text, offset) - 1
        if index < 0:
            return 0
        piece = self._pieces[index]
        return piece.start + bisect_right(self._characters(index), offset) - 1

    def _to_text(self, offset: int, *, is_end: bool = False) -> int:
        index = max(0, bisect_right(self._in_code, offset) - 1)
        piece = self._pieces[index]
        return self._characters(index)[min(offset - piece.start + is_end, piece.length)]

    def _characters(self, index: int) -> list[int]:
        """Return where each character of a piece is in the text, and where the piece ends."""
        if index not in self._offsets:
            found = _CHARACTER.finditer(self._text, *self._pieces[index].extent)
            self._offsets[index] = [match.start() for match in found]
            self._offsets[index].append(self._pieces[index].extent[1])
        return self._offsets[index]
