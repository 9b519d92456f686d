"""Find the values of attributes: options of argparse, dataclasses, classes of constants."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from adalora_core.checker.documents.python.syntax import (
    FUNCTION,
    Binding,
    argument,
    called_name,
    last_name,
)
from adalora_core.checker.documents.python.syntax import keyword as passed

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.scopes import Scopes

_PARSING = frozenset({"parse_args", "parse_known_args"})
_PARSING_CLASSES = frozenset({"parse_args_into_dataclasses", "parse_args_and_config"})
_NAMESPACES = frozenset({"SimpleNamespace", "Namespace", "EasyDict", "DotMap"})
_MOST_HOPS = 6
"""Bound on the functions that pass an object on."""
_FLAGS = {"store_true": False, "store_false": True}


class Source(NamedTuple):
    """The expression of an attribute's value, and whether the command line may give another."""

    node: ast.expr
    is_default: bool = False


class Namespaces:
    """The attributes of one script whose values can be known."""

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes
        self._stored: dict[str, set[str | None]] = {}

    def source(self, node: ast.Attribute) -> Source | None:
        """Return where the value of an attribute is written, if it never changes."""
        objects = self._followed(node.value)
        last, binding = objects[-1], self._scopes.binding(objects[-1])
        names = [each for each in objects if isinstance(each, ast.Name)]
        if any(self._is_stored(name, node.attr) for name in names):
            return None
        if isinstance(last, ast.Call) and (made := self._class_of(last.func)) is not None:
            return self._of_instance(last, made, node.attr)
        if node.attr not in self._varied and (given := self._given(last)) is not None:
            return self._of_class(given, node.attr)
        if binding is None:
            return None
        if isinstance(binding.node, ast.ClassDef):
            return self._of_class(binding.node, node.attr)
        if binding.kind == "parameter" and last_name(last) in self._parsed_names:
            return self._options.get(node.attr)
        return self._of_value(binding, node.attr)

    def _given(self, node: ast.expr, hops: int = _MOST_HOPS) -> ast.ClassDef | None:
        """Return the class of an object that is filled elsewhere: of `self`, or as annotated."""
        note, binding = None, self._scopes.binding(node)
        made: ast.ClassDef | None = None
        if isinstance(node, ast.Attribute) and hops:
            outer = self._given(node.value, hops - 1)
            fields = self._scopes.inner[outer].names.get(node.attr) if outer is not None else None
            note = getattr(fields[0].node, "annotation", None) if fields else None
        elif binding is not None and isinstance(binding.node, FUNCTION):
            name = last_name(node)
            made = self._scopes.of[node].class_ if name == "self" else None
            note = next((a.annotation for a in binding.node.args.args if a.arg == name), None)
        made = self._class_of(note) if note is not None else made
        return None if made is None or made.name in self._varied else made

    @cached_property
    def _varied(self) -> set[str]:
        """Classes that are called with arguments or are bases; attributes set of other objects."""
        scopes = self._scopes
        attributes = (node for node in scopes.of if isinstance(node, ast.Attribute))
        others = (each for each in attributes if last_name(each.value) != "self")
        found = {each.attr for each in others if isinstance(each.ctx, ast.Store)}
        for name, calls in scopes.callers.items():
            found.update([name] if any(call.args or call.keywords for call in calls) else ())
        found.update(last_name(base) for made in scopes.classes.values() for base in made.bases)
        return found.union(scopes.classes if "cls" in found else ())

    def _followed(self, node: ast.expr) -> list[ast.expr]:
        """Return an object, and what it is elsewhere, up to the call of a class of this script."""
        found = [node]
        while len(found) < _MOST_HOPS and (binding := self._scopes.binding(found[-1])) is not None:
            given, name, function = binding.source, last_name(found[-1]), binding.node
            is_passed = binding.kind == "parameter" and name not in self._parsed_names
            if is_passed and isinstance(function, FUNCTION):
                calls = self._scopes.callers.get(function.name, [])
                given = argument(calls[0], function, name) if len(calls) == 1 else None
            if given is None or (isinstance(given, ast.Call) and not self._class_of(given.func)):
                break
            found.append(given)
        return found

    def fields(self, node: ast.expr) -> dict[Any, tuple[ast.AST, ast.expr | None]]:
        """Return the fields of an object of a dataclass of this script; none: another object."""
        made = self._followed(node)[-1]
        owner = self._class_of(made.func) if isinstance(made, ast.Call) else None
        found: dict[Any, tuple[ast.AST, ast.expr | None]] = {}
        if owner is None or self._scopes.bases(owner)[1]:
            return found
        for each in (part for base in reversed(self._line(owner)) for part in base.body):
            if isinstance(each, ast.AnnAssign) and "Var" not in ast.unparse(each.annotation):
                source = self.source(ast.Attribute(node, last_name(each.target)))
                found[last_name(each.target)] = each.target, source and source.node
        return found

    def _is_stored(self, name: ast.Name, attribute: str) -> bool:
        if name.id not in self._stored:
            self._stored[name.id] = {
                None if (stored := getattr(change, "attr", None)) == "__dict__" else stored
                for change in self._scopes.changed.get(name.id, ())
            }
        return not self._stored[name.id].isdisjoint({attribute, None})

    def _of_value(self, binding: Binding, attribute: str) -> Source | None:
        call = binding.value
        if not isinstance(call, ast.Call) or binding.kind != "value":
            return None
        if self._parses(call) and not binding.item:
            return self._options.get(attribute)
        if last_name(call.func) in _NAMESPACES:
            return next((Source(k.value) for k in call.keywords if k.arg == attribute), None)
        classes = self._parsed_classes(call)
        index = binding.item or 0
        if index < len(classes) and (read := classes[index]) is not None:
            found = self._of_class(read, attribute)
            return None if found is None else Source(found.node, is_default=True)
        return None

    def _class_of(self, node: ast.expr) -> ast.ClassDef | None:
        binding = self._scopes.binding(node)
        made = None if binding is None else binding.node
        return made if isinstance(made, ast.ClassDef) else None

    def _of_instance(self, call: ast.Call, made: ast.ClassDef, attribute: str) -> Source | None:
        for keyword in call.keywords:
            if keyword.arg in (attribute, None):
                return None if keyword.arg is None else Source(keyword.value)
        bases = self._line(made)[1:]
        # A dataclass gives its own default to the objects of a class that is not one itself.
        is_given = any((base.name, attribute) in self._scopes.attributes for base in bases) or (
            not made.decorator_list and any(base.decorator_list for base in bases)
        )
        return None if call.args or is_given else self._of_class(made, attribute)

    def _of_class(self, made: ast.ClassDef, attribute: str) -> Source | None:
        """Return the value of a class's attribute, or the one that its `__init__` gives."""
        line = self._line(made)
        if self._scopes.sets_names or not self._altered.isdisjoint(line):
            return None
        bindings = self._scopes.inner[made].names.get(attribute, [])
        stores = self._scopes.attributes.get((made.name, attribute), [])
        if len(bindings) + len(stores) != 1:
            return None
        (found,) = (*bindings, *stores)
        if found.source is None:
            return None
        if bindings:
            return _default_of(found.source)
        method = self._scopes.of[found.node].node
        is_made = isinstance(method, FUNCTION) and method.name == "__init__"
        return Source(found.source) if is_made else None

    def _line(self, made: ast.ClassDef) -> list[ast.ClassDef]:
        """Return a class with its bases of this script."""
        found = [made]
        for each in found:
            bases = map(self._scopes.class_named, each.bases)
            found += [base for base in bases if base is not None and base not in found]
        return found

    @cached_property
    def _altered(self) -> set[ast.ClassDef | None]:
        """The classes to whose objects their own methods may give any attribute."""
        scopes = self._scopes
        changes = scopes.changed.get("self", ())
        whole = (each for each in changes if getattr(each, "attr", "__dict__") == "__dict__")
        return {scopes.of[each].class_ for each in whole}

    def _reads_command_line(self, call: ast.Call) -> bool:
        """Whether a parser reads the command line, or no arguments: not those of a list."""
        if len(call.args) > 1 or passed(call, "namespace") is not None:
            return False
        given = passed(call, "args", at=0)
        binding = self._scopes.binding(given)
        given = given if binding is None else binding.source
        return not isinstance(given, (ast.List, ast.Tuple, ast.Call)) or not getattr(
            given, "elts", True
        )

    def _parses(self, call: ast.Call) -> bool:
        """Whether a call returns the options of the command line."""
        if isinstance(call.func, ast.Attribute):
            return call.func.attr in _PARSING and self._reads_command_line(call)
        binding = self._scopes.binding(call.func)
        return binding is not None and binding.node in self._parsing_functions

    @cached_property
    def _parsing_functions(self) -> set[ast.AST]:
        return {
            self._scopes.of[call].node
            for name in _PARSING
            for call in self._scopes.callers.get(name, [])
            if isinstance(call.func, ast.Attribute) and self._reads_command_line(call)
        }

    @cached_property
    def _parsed_names(self) -> set[str]:
        """Names that hold the options of the command line somewhere in the script."""
        return {
            name
            for scope in (self._scopes.module, *self._scopes.inner.values())
            for name, bindings in scope.names.items()
            if any(isinstance(b.value, ast.Call) and self._parses(b.value) for b in bindings)
        }

    @cached_property
    def _options(self) -> dict[str, Source]:
        """The options of all parsers of the script, without those of different defaults."""
        found: defaultdict[str, list[ast.expr | None]] = defaultdict(list)
        for call in self._scopes.callers.get("set_defaults", []):
            for keyword in call.keywords:
                found[keyword.arg or ""].append(None)
        for call in self._scopes.callers.get("add_argument", []):
            if name := _destination(call):
                is_kept = not isinstance(self._scopes.parents[call], ast.Expr)
                found[name].append(None if is_kept else _default(call))
        return {
            name: Source(nodes[0], is_default=True)
            for name, nodes in found.items()
            if nodes[0] is not None and (len(nodes) == 1 or _are_equal(nodes))
        }

    def _parsed_classes(self, call: ast.Call) -> list[ast.ClassDef | None]:
        """Return the dataclasses whose fields a parser of transformers reads."""
        made: ast.expr | None = getattr(call.func, "value", None)
        if (binding := self._scopes.binding(made)) is not None:
            made = binding.source
        is_parser = called_name(call) in _PARSING_CLASSES and self._reads_command_line(call)
        if not is_parser or not isinstance(made, ast.Call) or not made.args:
            return []
        return [self._class_of(part) for part in getattr(made.args[0], "elts", made.args[:1])]


def _default_of(value: ast.expr) -> Source | None:
    """Return the default of a field of a dataclass, or the value itself."""
    if not isinstance(value, ast.Call) or called_name(value) not in {"field", "Field"}:
        return Source(value)
    default, made = passed(value, "default", at=0), passed(value, "default_factory")
    default = made.body if default is None and isinstance(made, ast.Lambda) else default
    return None if default is None else Source(default)


def _are_equal(nodes: list[ast.expr | None]) -> bool:
    """Return whether all nodes are one constant."""
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return len(constants) == len(nodes) and len({(type(v), v) for v in constants}) == 1


def _destination(call: ast.Call) -> str | None:
    """Return the name of the attribute that an option of argparse sets."""
    given = passed(call, "dest")
    if given is not None:
        return _text(given)
    names = [text for each in call.args if (text := _text(each)) is not None]
    long = [name for name in names if name.startswith("--")]
    return (long or names or [""])[0].lstrip("-").replace("-", "_") or None


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _default(call: ast.Call) -> ast.expr | None:
    """Return the default of an option of argparse, as it is without conversion."""
    default, kind, action = (passed(call, name) for name in ("default", "type", "action"))
    if default is None and isinstance(action, ast.Constant) and action.value in _FLAGS:
        return ast.Constant(_FLAGS[action.value])
    is_converted = kind is not None and last_name(kind) != "str"
    return None if is_converted and _text(default) is not None else default
