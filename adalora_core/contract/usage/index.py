"""Index a script: parents, scopes, functions, classes and the bindings of names."""

from __future__ import annotations

import ast
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Literal

from adalora_core.contract.usage.work import spend

Function = ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.AsyncFor | ast.While
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOP = (ast.For, ast.AsyncFor, ast.While)

Kind = Literal["value", "loop", "added", "parameter", "import", "definition", "other"]


@dataclass(frozen=True)
class Binding:
    """A place where a name or an attribute of `self` gets a value.

    Args:
        kind: how: by an assignment, as the target of a loop, by `+=`, as a parameter...
        node: the statement.
        value: the expression; for a loop what it runs over, for `+=` what is added.
        item: the place in the value, where it is unpacked.
        owner: the function that holds the statement, or the module.
    """

    kind: Kind
    node: ast.AST
    value: ast.expr | None
    item: int | None
    owner: ast.AST


class Index:
    """The names of a script.

    Args:
        tree: the syntax tree.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.parents: dict[ast.AST, ast.AST] = {}
        self.position: dict[ast.AST, int] = {}
        self.functions: defaultdict[tuple[ast.AST, str], list[Function]] = defaultdict(list)
        self.classes: dict[str, ast.ClassDef] = {}
        self.calls: list[ast.Call] = []
        self.imports: dict[str, str] = {}
        self.bindings: defaultdict[tuple[ast.AST, str], list[Binding]] = defaultdict(list)
        self.attributes: defaultdict[tuple[str, str], list[Binding]] = defaultdict(list)
        self._shared: set[tuple[ast.AST, str]] = set()
        self._read(tree)
        self.callers: defaultdict[str, list[ast.Call]] = defaultdict(list)
        for call in self.calls:
            self.callers[last_name(call.func)].append(call)

    def _read(self, tree: ast.Module) -> None:
        nodes: list[ast.AST] = []
        stack: list[ast.AST] = [tree]
        while stack:
            node = stack.pop()
            self.position[node] = len(nodes)
            nodes.append(node)
            children = list(ast.iter_child_nodes(node))
            self.parents.update((child, node) for child in children)
            stack += reversed(children)
        for node in nodes:
            if isinstance(node, ast.Global | ast.Nonlocal):
                self._shared |= {(self.scope(node), name) for name in node.names}
        for node in nodes:
            self._read_node(node)

    def _read_node(self, node: ast.AST) -> None:
        if isinstance(node, FUNCTION):
            owner = self.parents[node]
            place = owner if isinstance(owner, ast.ClassDef) else self.scope(node)
            self.functions[place, node.name].append(node)
            self._read_function(node)
        elif isinstance(node, ast.ClassDef):
            self.classes.setdefault(node.name, node)
        elif isinstance(node, ast.Call):
            self.calls.append(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self._read_import(node)
        else:
            self._read_binding(node)

    def _read_binding(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind(target, "value", node, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            self._bind(node.target, "value", node, node.value)
        elif isinstance(node, ast.AugAssign):
            self._bind(node.target, "added", node, node.value)
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            self._bind(node.target, "loop", node, node.iter)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._bind(node.optional_vars, "value", node, node.context_expr)

    def _read_function(self, node: Function) -> None:
        for parameter in parameters(node):
            self.bindings[node, parameter].append(Binding("parameter", node, None, None, node))

    def _read_import(self, node: ast.Import | ast.ImportFrom) -> None:
        module = f"{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
        dots = "." * node.level if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            local = alias.asname or alias.name.partition(".")[0]
            full = alias.name if alias.asname or module else local
            self.imports[local] = f"{dots}{module}{full}"

    def _bind(
        self, target: ast.expr, kind: Kind, node: ast.AST, value: ast.expr, item: int | None = None
    ) -> None:
        scope = self.scope(node)
        if isinstance(target, ast.Tuple | ast.List):
            for index, element in enumerate(target.elts):
                same = (
                    value.elts[index]
                    if isinstance(value, ast.Tuple | ast.List)
                    and len(value.elts) > index
                    and kind == "value"
                    else None
                )
                if same is None:
                    self._bind(element, kind, node, value, index)
                else:
                    self._bind(element, kind, node, same)
        elif isinstance(target, ast.Name):
            if (scope, target.id) in self._shared:
                scope = self._outer_scope(scope, target.id)
            binding = Binding(kind, node, value, item, self.scope(node))
            self.bindings[scope, target.id].append(binding)
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            owner = self.class_of(node) if target.value.id == "self" else None
            key = owner.name if owner is not None else target.value.id
            binding = Binding(kind, node, value, item, scope)
            self.attributes[key, target.attr].append(binding)

    def scope(self, node: ast.AST) -> ast.AST:
        """Return the innermost function around a node, or the module."""
        inner: ast.AST = node
        node = self.parents.get(node, self.tree)
        while not isinstance(node, ast.Module):
            # Decorators, defaults and annotations belong to the scope around.
            if isinstance(node, FUNCTION) and isinstance(inner, ast.stmt):
                return node
            inner, node = node, self.parents[node]
            spend()
        return node

    def _outer_scope(self, scope: ast.AST, name: str) -> ast.AST:
        outer = self.scope(scope)
        while not isinstance(outer, ast.Module):
            if (outer, name) in self.bindings:
                return outer
            outer = self.scope(outer)
        return outer

    def class_of(self, node: ast.AST) -> ast.ClassDef | None:
        """Return the innermost class around a node."""
        while not isinstance(node, ast.Module):
            node = self.parents.get(node, self.tree)
            spend()
            if isinstance(node, ast.ClassDef):
                return node
        return None

    def is_within(self, node: ast.AST, outer: ast.AST) -> bool:
        """Return whether a node is a part of another one."""
        while node is not outer and node in self.parents:
            node = self.parents[node]
            spend()
        return node is outer

    def are_exclusive(self, one: ast.AST, other: ast.AST) -> bool:
        """Return whether two nodes are in different branches of one `if`."""
        above = {one}
        while one in self.parents:
            one = self.parents[one]
            above.add(one)
        return self.is_excluded(other, above)

    def is_excluded(self, node: ast.AST, above: set[ast.AST]) -> bool:
        """Return whether a node is in the other branch of an `if` than what `above` leads to."""
        while node in self.parents:
            inner, node = node, self.parents[node]
            spend()
            if isinstance(node, ast.If) and node in above:
                spend(len(node.body) + len(node.orelse))
                other = node.orelse if inner in node.body else node.body
                if any(statement in above for statement in other):
                    return True
        return False

    def lookup(self, name: str, at: ast.AST) -> tuple[ast.AST, list[Binding]]:
        """Return the scope that binds a name as it is read at a node, and its bindings there."""
        scope = self.scope(at)
        while (scope, name) not in self.bindings and not isinstance(scope, ast.Module):
            scope = self.scope(scope)
        return scope, self.bindings.get((scope, name), [])

    def full_name(self, node: ast.expr) -> str:
        """Return the dotted name of an expression, with the module that it is imported from."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ".".join(["?", *reversed(parts)])
        return ".".join([self.imports.get(node.id, node.id), *reversed(parts)])

    def bases(self, owner: ast.ClassDef) -> tuple[list[ast.ClassDef], list[str]]:
        """Return a class with its bases of this script, and the names of the other bases."""
        known: dict[ast.ClassDef, None] = {}
        others, queue = [], deque([owner])
        while queue:
            each = queue.popleft()
            spend()
            if each in known:
                continue
            known[each] = None
            for base in each.bases:
                inner = self.classes.get(last_name(base))
                if inner is not None:
                    queue.append(inner)
                else:
                    others.append(self.full_name(base))
        return list(known), others

    def method(self, owner: ast.ClassDef, name: str) -> Function | None:
        """Return a method of a class or of its bases in this script."""
        for each in self.bases(owner)[0]:
            if found := self.functions.get((each, name)):
                return found[-1]
        return None

    def function(self, name: str, at: ast.AST) -> Function | None:
        """Return the function of this script that a name means at a node."""
        scope = self.scope(at)
        while True:
            if found := self.functions.get((scope, name)):
                return found[-1]
            if isinstance(scope, ast.Module):
                return None
            scope = self.scope(scope)


def last_name(node: ast.expr) -> str:
    """Return the last part of a dotted name; empty if there is none."""
    spend()
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def parameters(function: Function) -> list[str]:
    """Return the names of all parameters, in their order."""
    arguments = function.args
    return [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def argument(call: ast.Call, function: Function, name: str) -> ast.expr | None:
    """Return what a call passes for a parameter of a function, or its default."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    arguments = function.args
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    bound = positional[:1] == ["self"]
    given = positional[1:] if bound else positional
    if name in given and given.index(name) < len(call.args):
        return call.args[given.index(name)]
    defaults = dict(zip(reversed(positional), reversed(arguments.defaults), strict=False))
    defaults |= {
        each.arg: value
        for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if value is not None
    }
    return defaults.get(name)


def keyword(call: ast.Call, *names: str, at: int | None = None) -> ast.expr | None:
    """Return the value of the first keyword of `names` in a call, or a positional argument."""
    for each in call.keywords:
        if each.arg in names:
            return each.value
    return call.args[at] if at is not None and len(call.args) > at else None
