"""Find the scope of each node of a syntax tree, and what binds and changes the names of a scope."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass, field

from adalora_core.contract.text.limits import has_too_many_digits

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (
    *FUNCTIONS, ast.Lambda, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
)  # fmt: skip
_CHANGING = frozenset({
    "append", "extend", "insert", "remove", "pop", "popitem", "clear", "update", "setdefault",
    "sort", "reverse", "add", "discard", "__setitem__", "__delitem__", "__ior__", "__iadd__",
})  # fmt: skip
"""Methods that change the list, set or dict that they belong to."""


DEEPEST = 1000
"""Bound on the levels of a tree, which newer Pythons parse to any depth."""


class BeyondLimitError(Exception):
    """A tree has more than `DEEPEST` levels, or a number with too many digits.

    Args:
        message: the limit.
        node: the first node beyond it.
    """

    def __init__(self, message: str, node: ast.AST) -> None:
        super().__init__(message)
        self.node = node


@dataclass(eq=False, slots=True)
class Binding:
    """One place that binds a name.

    Args:
        node: what binds it: a statement, a function, a class, a parameter, an imported name.
        value: the expression whose value it gets; None: it is not known.
        index: which part of an unpacked value it gets; None: the whole value.
        origin: the full name of what is imported; None: nothing is.
    """

    node: ast.AST
    value: ast.expr | None = None
    index: int | None = None
    origin: str | None = None


@dataclass(eq=False)
class Scope:
    """A module, function, class or comprehension, with the bindings of its names."""

    node: ast.AST
    parent: Scope | None = None
    names: defaultdict[str, list[Binding]] = field(default_factory=lambda: defaultdict(list))
    of_module: set[str] = field(default_factory=set)


class Scopes:
    """The scopes of a tree.

    Args:
        tree: the syntax tree.

    Raises:
        BeyondLimitError: the tree has too many levels, or a number too many digits.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.module = Scope(tree)
        self.of: dict[ast.AST, Scope] = {}
        """The scope of each node, in the order of the code, without contexts and operators."""
        self.parents: dict[ast.AST, ast.AST] = {}
        self.stars: list[str] = []
        """Modules from which everything is imported."""
        self.inner: dict[ast.AST, Scope] = {}
        """The scope inside each function, class and comprehension."""
        self.calls_of_methods: list[ast.Call] = []
        self.stores_into_self: list[ast.Assign] = []
        self._changes: defaultdict[str, list[ast.AST]] = defaultdict(list)
        self._changes_by_scope: dict[tuple[Scope | None, str], tuple[ast.AST, ...]] = {}
        self._bound: set[ast.AST] = set()
        stack: list[tuple[ast.AST, Scope, int]] = [(tree, self.module, 0)]
        while stack:
            node, scope, depth = stack.pop()
            if depth > DEEPEST:
                raise BeyondLimitError(f"the code is nested deeper than {DEEPEST} levels", node)
            self.of[node] = scope
            self._visit(node, scope)
            inner = scope
            if isinstance(node, _SCOPES):
                inner = self.inner[node] = Scope(node, scope)
            for child in reversed(children(node)):
                self.parents[child] = node
                stack.append((child, inner, depth + 1))

    def find(self, name: str, node: ast.AST) -> Scope | None:
        """Return the scope whose binding of `name` a node sees."""
        first = scope = self.of[node]
        while True:
            if name in scope.names and (scope is first or not isinstance(scope.node, ast.ClassDef)):
                return scope
            if scope.parent is None:
                return None
            scope = scope.parent

    def binding(self, name: ast.Name) -> Binding | None:
        """Return the only binding of a name; None if there are several, none, or a later one."""
        scope = self.find(name.id, name)
        if scope is None or len(scope.names[name.id]) != 1:
            return None
        (binding,) = scope.names[name.id]
        is_later = scope is self.of[name] and _place(binding.node) > _place(name)
        return None if is_later else binding

    def changes(self, name: ast.Name) -> tuple[ast.AST, ...]:
        """Return what changes the value of a name: stores into it, calls of its methods."""
        key = self.find(name.id, name), name.id
        if key not in self._changes_by_scope:
            self._changes_by_scope[key] = tuple(
                node
                for node in self.changes_anywhere(name.id)
                if self.find(name.id, node) is key[0]
            )
        return self._changes_by_scope[key]

    def changes_anywhere(self, name: str) -> list[ast.AST]:
        """Return what changes the value of any variable of a name."""
        return self._changes.get(name, [])

    def _bind(self, scope: Scope, name: str, binding: Binding) -> None:
        owner = self.module if name in scope.of_module else scope
        owner.names[name].append(binding)

    def _visit(self, node: ast.AST, scope: Scope) -> None:  # noqa: C901, PLR0912 - one case per node
        match node:
            case ast.Assign():
                first = node.targets[0]
                if isinstance(first, ast.Attribute) and _is_name(first.value, "self"):
                    self.stores_into_self.append(node)
                for target in node.targets:
                    self._assign(target, node.value, node, scope)
            case ast.AnnAssign(value=ast.expr() as value) | ast.NamedExpr(value=value):
                self._assign(node.target, value, node, scope)
            case ast.Name(ctx=ast.Store() | ast.Del()) if node not in self._bound:
                self._bind(scope, node.id, Binding(node))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._bind(scope, node.name, Binding(node))
            case ast.arg():
                self._bind(scope, node.arg, Binding(node))
            case ast.Import():
                for each in node.names:
                    name = each.asname or each.name.partition(".")[0]
                    origin = each.name if each.asname else name
                    self._bind(scope, name, Binding(node, origin=origin))
            case ast.ImportFrom():
                self._import_from(node, scope)
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                self._bind(scope, node.name, Binding(node))
            case ast.MatchMapping() if node.rest:
                self._bind(scope, node.rest, Binding(node))
            case ast.Global():
                scope.of_module.update(node.names)
            case ast.Subscript(ctx=ast.Store() | ast.Del()):
                self._change_part(node)
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                self._change_part(node)
            case ast.Call():
                self._visit_call(node)
            case ast.Constant(value=int() as number) if has_too_many_digits(number):
                raise BeyondLimitError("an integer has too many digits", node)

    def _visit_call(self, node: ast.Call) -> None:
        match node.func, node.args:
            case ast.Attribute(value=ast.Name() as name, attr=method), _ if method in _CHANGING:
                self._changes[name.id].append(node)
            case ast.Attribute(value=owner, attr=method), _:
                self.calls_of_methods.append(node)
                if method in _CHANGING:
                    self._change_part(owner)
            case ast.Name(id="setattr"), [ast.Name() as name, *_]:
                self._changes[name.id].append(node)

    def _change_part(self, node: ast.expr) -> None:
        """Take note that a part of a name's value changes: `a["x"]` for `a["x"].append(1)`."""
        while isinstance(node, (ast.Subscript, ast.Attribute, ast.Call)):
            owner = node.func if isinstance(node, ast.Call) else node.value
            if isinstance(owner, ast.Name):
                self._changes[owner.id].append(node)
                return
            node = owner

    def _import_from(self, node: ast.ImportFrom, scope: Scope) -> None:
        module = "." * node.level + (node.module or "")
        for each in node.names:
            if each.name == "*":
                self.stars.append(module)
            else:
                name = each.asname or each.name
                self._bind(scope, name, Binding(node, origin=f"{module}.{each.name}"))

    def _assign(self, target: ast.expr, value: ast.expr, node: ast.AST, scope: Scope) -> None:
        if isinstance(target, ast.Name):
            self._bound.add(target)
            self._bind(scope, target.id, Binding(node, value))
        elif isinstance(target, (ast.Tuple, ast.List)):
            if any(isinstance(each, ast.Starred) for each in target.elts):
                return  # each name is bound by its own node, without a value
            for index, each in enumerate(target.elts):
                if isinstance(each, ast.Name):
                    self._bound.add(each)
                    self._bind(scope, each.id, Binding(node, value, index))


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes inside a node, faster than `ast.iter_child_nodes`: without `ast.Load`."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [each for each in value if isinstance(each, ast.AST)]
        elif isinstance(value, ast.AST) and value._fields:
            found.append(value)
    return found


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _place(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
