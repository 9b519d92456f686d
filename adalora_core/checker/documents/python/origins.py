"""Find the expression that a name, an attribute or an entry of a script has its value from."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from adalora_core.checker.documents.python.options import Options, is_none
from adalora_core.checker.documents.python.syntax import FUNCTION, called_name, keyword, last_name

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.scopes import Scopes
    from adalora_core.floor.limits import Limits


class _Unknown:
    """The type of UNKNOWN."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __deepcopy__(self, memo: object) -> _Unknown:
        return self


UNKNOWN: Final = _Unknown()
"""The value of an expression that only a run can tell; as a key, it stands for further keys."""

DEEPEST_VALUE = 40
"""Bound on how far a value is followed: names of names, calls in calls."""

Entries = dict[Any, tuple[ast.AST, ast.expr | None]]
"""`{key: (node of the key, node of the value)}`; no node: the value is not known."""

LOADERS = {
    **dict.fromkeys(("yaml.safe_load", "yaml.full_load", "yaml.load"), "yaml_source"),
    "json.loads": "json_source",
}
"""Functions that read a mapping out of a text."""


_MAPPINGS = frozenset({
    "dict", "SimpleNamespace", "Namespace", "EasyDict", "DotMap", "Munch", "AttrDict", "create",
    "ConfigDict",
})  # fmt: skip
"""Functions that make a mapping of their keywords or of another one; `create` is OmegaConf's."""

_AS_MAPPING = {"dataclasses.asdict", "vars"}
"""Functions that return the fields of an object."""
_MOST_HOPS = 6
"""Bound on the names of an object, and on the attributes of attributes."""


_SAVED = {f"peft.{name}Config.from_pretrained" for name in ("Peft", "Lora", "AdaLora")}
"""Functions that read a configuration as PEFT has saved it: for inference."""


class Origins:
    """Where the values of one script come from; what evaluates expressions is a subclass.

    Args:
        scopes: the scopes of the tree.
        limits: the limits of a text that the script loads.
    """

    def __init__(self, scopes: Scopes, limits: Limits) -> None:
        self.scopes = scopes
        self._limits = limits
        self._sources: dict[ast.AST, ast.expr | None] = {}
        self._entries_of: dict[ast.AST, Entries] = {}
        self._depth = 0

    @cached_property
    def options(self) -> Options:
        """The options of the command line."""
        return Options(self.scopes)

    def of(self, node: ast.expr) -> Any:
        """Return what an expression holds."""
        raise NotImplementedError

    def entries(self, node: ast.expr) -> Entries:
        """Return the keys of a dict, each with the nodes of key and value.

        A value is None if it changes later. The key UNKNOWN stands for further keys.
        """
        if node in self._entries_of:
            return self._entries_of[node]
        open_: Entries = {UNKNOWN: (node, None)}
        if self._depth > DEEPEST_VALUE:
            return open_
        self._depth += 1
        self._entries_of[node] = open_  # while they are looked for: a dict may hold itself
        try:
            loaded = self._loaded(node) if isinstance(node, ast.Call) else None
            self._entries_of[node] = self._entries(loaded or node)
        finally:
            self._depth -= 1
        return self._entries_of[node]

    def _entries(self, node: ast.expr) -> Entries:
        open_: Entries = {UNKNOWN: (node, None)}
        match node:
            case ast.Dict():
                return self._of_pairs(zip(node.keys, node.values, strict=True))
            case ast.Call() if last_name(node.func) in _MAPPINGS and len(node.args) <= 1:
                found = dict(self.entries(node.args[0])) if node.args else {}
                return self._with(found, node.keywords)
            case ast.Call(args=[made]) if self.scopes.qualified(node.func) in _AS_MAPPING:
                return self._fields(made) or open_
            case ast.Call(ast.Attribute(made, "to_dict")):
                made = self.source(made) or made
                if self.scopes.qualified(getattr(made, "func", made)) in _SAVED:
                    saved = ast.copy_location(ast.Constant(value=True), node)
                    return open_ | {"inference_mode": (node, saved)}
            case ast.BinOp(op=ast.BitOr()):
                return _joined(dict(self.entries(node.left)), self.entries(node.right))
            case ast.Name():
                source = self.source(node)
                if source is not None:
                    return self._changed(node, dict(self.entries(source)))
            case ast.Subscript() | ast.Attribute():
                source = self.source(node)
                return self.entries(source) if source else self._fields(node) or open_
        return open_

    def _with(self, found: Entries, keywords: list[ast.keyword]) -> Entries:
        """Return entries with those that keywords give."""
        for each in keywords:
            if each.arg is None:
                found = _joined(found, self.entries(each.value))
            else:
                found[each.arg] = (each, each.value)
        return found

    def _loaded(self, call: ast.Call) -> ast.expr | None:
        """Return the mapping that a text of the script holds, as code in the place of the text."""
        reader = LOADERS.get(self.scopes.qualified(call.func) or "")
        text = self.of(call.args[0]) if reader is not None and call.args else None
        if not isinstance(text, str):
            return None
        # Imported for such calls only, as `decode` does: a document holds its script.
        module = importlib.import_module(f"adalora_core.checker.documents.{reader}")
        document = module.decode(text, self._limits)
        value = document.value
        if document.fatal or document.problems or not isinstance(value, dict):
            return None
        try:
            made = ast.parse(repr(value), mode="eval").body
        except (SyntaxError, RecursionError, MemoryError, ValueError):
            return None
        for each in ast.walk(made):
            ast.copy_location(each, call.args[0])
        return made

    def _of_pairs(self, pairs: Iterable[tuple[ast.expr | None, ast.expr]]) -> Entries:
        found: Entries = {}
        for key, value in pairs:
            if key is None:
                found = _joined(found, self.entries(value))
            else:
                name = self.of(key)
                is_known = isinstance(name, (str, int, float, type(None)))
                found[name if is_known else UNKNOWN] = (key, value)
        return found

    def _changed(self, name: ast.Name, found: Entries) -> Entries:
        """Return the entries of a dict without the values that the code changes."""
        for change in self.scopes.changes(name):
            keys: list[Any] = [UNKNOWN]
            match change:
                case ast.Subscript(slice=ast.Constant(value=str() as key)):
                    keys = [key]
                case ast.Call(ast.Attribute(attr="pop" | "setdefault"), [given, *_]):
                    binding = self.scopes.binding(given)
                    over = binding.value if binding and binding.kind == "loop" else None
                    removed = self.of(over or given)
                    keys = removed if isinstance(removed, list) else [removed]
                case ast.Call(ast.Attribute(attr="update"), [], keywords):
                    keys = [each.arg or UNKNOWN for each in keywords]
            if UNKNOWN in keys:
                found = {key: (node, None) for key, (node, _) in found.items()}
            found |= {key: (found.get(key, (change,))[0], None) for key in keys}
        return found

    def source(self, node: ast.expr) -> ast.expr | None:
        """Return the one expression that a name, an attribute or an entry has its value from."""
        if node in self._sources or self._depth > DEEPEST_VALUE:
            return self._sources.get(node)
        self._depth += 1
        self._sources[node] = None  # while it is looked for
        try:
            if isinstance(node, ast.Name):
                self._sources[node] = self._of_name(node)
            elif isinstance(node, ast.Attribute):
                self._sources[node] = self._of_attribute(node)
            elif isinstance(node, ast.Subscript):
                self._sources[node] = self.part(node)
        finally:
            self._depth -= 1
        return self._sources[node]

    def _of_name(self, node: ast.Name) -> ast.expr | None:
        binding = self.scopes.binding(node)
        if binding is None or binding.kind != "parameter":
            return None if binding is None else binding.source
        function = binding.node
        return self.options.argument(function, node.id) if isinstance(function, FUNCTION) else None

    def _of_attribute(self, node: ast.Attribute) -> ast.expr | None:
        objects = self._followed(node.value)
        names = (each.id for each in objects if isinstance(each, ast.Name))
        stores = (each for name in names for each in self.scopes.changed.get(name, ()))
        if any(getattr(e, "attr", "__dict__") in {node.attr, "__dict__"} for e in stores):
            return None
        last = objects[-1]
        if isinstance(last, ast.Dict):
            return self.entries(last).get(node.attr, (None, None))[1]  # of OmegaConf
        binding = self.scopes.binding(last)
        is_value = binding is not None and binding.kind == "value"
        call, item = (binding.value, binding.item or 0) if binding and is_value else (last, 0)
        if isinstance(call, ast.Call):
            return self._of_call(call, item, node.attr)
        if binding is not None and isinstance(binding.node, ast.ClassDef):
            return self._of_class(binding.node, node.attr)
        if node.attr not in self._varied and (given := self._given(last)) is not None:
            return self._of_class(given, node.attr)
        is_option = binding is not None and last_name(last) in self.options.names
        return self.options.defaults.get(node.attr) if is_option else None

    def _followed(self, node: ast.expr) -> list[ast.expr]:
        """Return an object, and what it is elsewhere, up to the expression that makes it."""
        found = [node]
        while len(found) < _MOST_HOPS and (source := self.source(found[-1])) is not None:
            found.append(source)
        return found

    def _of_call(self, call: ast.Call, item: int, attribute: str) -> ast.expr | None:
        """Return an attribute of what a call makes: an object, options, a namespace."""
        if self.options.parses(call):
            return None if item else self.options.defaults.get(attribute)
        classes = self.options.classes(call)
        if item < len(classes):
            read = self._class_of(classes[item])
            found = None if read is None else self._of_class(read, attribute)
            return None if found is None or is_none(found) else found
        made = self._class_of(call.func)
        given = self._with({}, call.keywords) if made else {}
        if made is None or attribute in given or UNKNOWN in given or call.args:
            return given.get(attribute, self.entries(call).get(attribute, (None, None)))[1]
        bases = self._line(made)[1:]
        # A dataclass gives its own default to the objects of a class that is not one itself.
        is_given = any((base.name, attribute) in self.scopes.attributes for base in bases) or (
            not made.decorator_list and any(base.decorator_list for base in bases)
        )
        return None if is_given else self._of_class(made, attribute)

    def _of_class(self, made: ast.ClassDef, attribute: str) -> ast.expr | None:
        """Return the value of a class's attribute, or the one that its `__init__` gives."""
        line, scopes = self._line(made), self.scopes
        changes = (e for e in scopes.changed.get("self", ()) if scopes.of[e].class_ in line)
        is_altered = any(getattr(each, "attr", "__dict__") == "__dict__" for each in changes)
        bindings = scopes.inner[made].names.get(attribute, [])
        stores = scopes.attributes.get((made.name, attribute), [])
        if scopes.sets_names or is_altered or len(bindings) + len(stores) != 1:
            return None
        (found,) = (*bindings, *stores)
        if found.source is None or bindings:
            return None if found.source is None else _default_of(found.source)
        method = scopes.of[found.node].node
        is_made = isinstance(method, FUNCTION) and method.name == "__init__"
        return found.source if is_made else None

    def _line(self, made: ast.ClassDef) -> list[ast.ClassDef]:
        return self.scopes.bases(made)[0]

    def _class_of(self, node: ast.expr) -> ast.ClassDef | None:
        binding = self.scopes.binding(node)
        made = None if binding is None else binding.node
        return made if isinstance(made, ast.ClassDef) else None

    def _given(self, node: ast.expr, hops: int = _MOST_HOPS) -> ast.ClassDef | None:
        """Return the class of an object that is filled elsewhere: of `self`, or as annotated."""
        note, binding = None, self.scopes.binding(node)
        made: ast.ClassDef | None = None
        if isinstance(node, ast.Attribute) and hops:
            outer = self._given(node.value, hops - 1)
            fields = self.scopes.inner[outer].names.get(node.attr) if outer is not None else None
            note = getattr(fields[0].node, "annotation", None) if fields else None
        elif binding is not None and isinstance(binding.node, FUNCTION):
            name = last_name(node)
            made = self.scopes.of[node].class_ if name == "self" else None
            note = next((a.annotation for a in binding.node.args.args if a.arg == name), None)
            marks = [e for e in binding.node.decorator_list if isinstance(e, ast.Call)]
            files = [keyword(e, "config_path", at=0) for e in marks if called_name(e) == "main"]
            if not all(each is None or is_none(each) for each in files):
                return None  # a file gives other values
            stored = self.scopes.callers.get("store", ()) if files else ()
            nodes = [keyword(call, "node") for call in stored]  # hydra's ConfigStore
            note = nodes[0] if len(nodes) == 1 else note
        made = self._class_of(note) if note is not None else made
        return None if made is None or made.name in self._varied else made

    @cached_property
    def _varied(self) -> set[str]:
        """Classes that are called with arguments or are bases; attributes set of other objects."""
        scopes = self.scopes
        attributes = (node for node in scopes.of if isinstance(node, ast.Attribute))
        others = (each for each in attributes if last_name(each.value) != "self")
        found = {each.attr for each in others if isinstance(each.ctx, ast.Store)}
        for name, calls in scopes.callers.items():
            found.update([name] if any(call.args or call.keywords for call in calls) else ())
        found.update(last_name(base) for made in scopes.classes.values() for base in made.bases)
        return found.union(scopes.classes if "cls" in found else ())

    def _fields(self, node: ast.expr) -> Entries:
        """Return the fields of an object of a dataclass of this script; none: another object."""
        made = self._followed(node)[-1]
        owner = self._class_of(made.func) if isinstance(made, ast.Call) else self._given(made)
        found: Entries = {}
        if owner is None or self.scopes.bases(owner)[1]:
            return found
        for each in (part for base in reversed(self._line(owner)) for part in base.body):
            if isinstance(each, ast.AnnAssign) and "Var" not in ast.unparse(each.annotation):
                name = last_name(each.target)
                found[name] = each.target, self._of_attribute(ast.Attribute(node, name))
        return found

    def part(self, node: ast.Subscript) -> ast.expr | None:
        """Return the expression of an entry of a known dict or list."""
        key = self.of(node.slice)
        if isinstance(key, str):
            return self.entries(node.value).get(key, (None, None))[1]
        base = self.source(node.value) if isinstance(node.value, ast.Name) else node.value
        if type(key) is not int or not isinstance(base, (ast.List, ast.Tuple)):
            return None
        if isinstance(node.value, ast.Name) and self.scopes.changes(node.value):
            return None
        is_there = key in range(-len(base.elts), len(base.elts))
        is_spread = any(isinstance(each, ast.Starred) for each in base.elts)
        return base.elts[key] if is_there and not is_spread else None


def _joined(found: Entries, more: Entries) -> Entries:
    """Add entries that come later; what may come later as well makes the earlier ones unknown."""
    if UNKNOWN in more:
        found = {key: (node, None) for key, (node, _) in found.items()}
    found |= more
    return found


def _default_of(value: ast.expr) -> ast.expr | None:
    """Return the default of a field of a dataclass, or the value itself."""
    if not isinstance(value, ast.Call) or called_name(value) not in {"field", "Field"}:
        return value
    default, made = keyword(value, "default", at=0), keyword(value, "default_factory")
    return made.body if default is None and isinstance(made, ast.Lambda) else default
