"""Find the scope of each node of a syntax tree, and what its names mean and what changes them."""

from __future__ import annotations

import ast
from collections import defaultdict, deque
from dataclasses import replace
from functools import cached_property
from itertools import zip_longest

from adalora_core.checker.documents.python.syntax import (
    DEEPEST,
    FUNCTION,
    BeyondLimitError,
    Binding,
    Function,
    Scope,
    children,
    dotted,
    last_name,
    parameters,
)
from adalora_core.floor.limits import has_too_many_digits

_EXPECTING = frozenset({
    "raises", "warns", "assertRaises", "assertRaisesRegex", "assertWarns", "assertWarnsRegex",
})  # fmt: skip
"""Names of contexts whose block a test expects to fail or to warn."""
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_BLOCKS = (*FUNCTION, ast.ClassDef)
_LEAVES = frozenset({ast.Name, ast.Constant})
_OPENING = frozenset({*_BLOCKS, ast.Lambda, *_COMPREHENSIONS})
"""Nodes with a scope of their own."""
_BINDING = frozenset({
    ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.AugAssign, ast.For, ast.AsyncFor,
    ast.comprehension, ast.withitem, *_BLOCKS, ast.Import, ast.ImportFrom, ast.ExceptHandler,
    ast.MatchAs, ast.MatchStar, ast.MatchMapping, ast.Global, ast.Nonlocal, ast.Call, ast.Constant,
})  # fmt: skip
"""Nodes of which the visit takes note, besides names and parts of objects that are not read."""
_READS = ast.Load()
_CHANGING = frozenset({
    "append", "extend", "insert", "remove", "pop", "popitem", "clear", "update", "setdefault",
    "sort", "reverse", "add", "discard", "__setitem__", "__delitem__", "__ior__", "__iadd__",
})  # fmt: skip
"""Methods that change the list, set or dict that they belong to."""


class Scopes:
    """The scopes of a tree.

    Args:
        tree: the syntax tree.

    Attributes:
        of: the scope of each node, in the order of the code, without contexts and operators.
        parents: the node around each node.
        inner: the scope inside each function, class and comprehension.
        words: all names and attributes, by their last part.
        functions: all functions, in the order of the code.
        calls: all calls, in the order of the code.
        callers: the calls by the last part of the name that is called.
        classes: the first class of each name.
        attributes: the bindings of attributes, by the class of `self` or the name, and attribute.
        changed: what changes the value of any variable of a name.
        imports: the full names of what is imported, by the import; `*` is all of a module.

    Raises:
        BeyondLimitError: the tree has too many levels, or a number too many digits.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.module = Scope(tree)
        self.of: dict[ast.AST, Scope] = {}
        self.parents: dict[ast.AST, ast.AST] = {}
        self.inner: dict[ast.AST, Scope] = {}
        self.words: defaultdict[str, list[ast.Name | ast.Attribute]] = defaultdict(list)
        self.functions: list[Function] = []
        self.calls: list[ast.Call] = []
        self.callers: defaultdict[str, list[ast.Call]] = defaultdict(list)
        self.classes: dict[str, ast.ClassDef] = {}
        self.attributes: defaultdict[tuple[str, str], list[Binding]] = defaultdict(list)
        self.imports: dict[str, ast.AST] = {}
        self.changed: defaultdict[str, list[ast.AST]] = defaultdict(list)
        self._bound: set[ast.AST] = set()
        of, parents, words = self.of, self.parents, self.words  # local names are found faster
        stack: list[tuple[ast.AST, Scope, int]] = [(tree, self.module, 0)]
        while stack:
            node, scope, depth = stack.pop()
            if depth > DEEPEST:
                raise BeyondLimitError(f"the code is nested deeper than {DEEPEST} levels", node)
            of[node] = scope
            kind = node.__class__
            if isinstance(node, ast.Name):
                words[node.id].append(node)
            elif isinstance(node, ast.Attribute):
                words[node.attr].append(node)
            if kind in _BINDING or getattr(node, "ctx", _READS).__class__ is not ast.Load:
                self._visit(node, scope)
            if kind in _LEAVES or not (inside := children(node)):
                continue
            for child in inside:
                parents[child] = node
            if kind not in _OPENING:
                stack += [(child, scope, depth + 1) for child in reversed(inside)]
                continue
            inner = self._open(node, scope)
            for child in reversed(inside):
                # Decorators, defaults and bases belong to the scope around.
                is_inside = isinstance(child, ast.stmt) or kind not in _BLOCKS
                is_inside &= not isinstance(child, ast.arguments)
                stack.append((child, inner if is_inside else scope, depth + 1))

    def _open(self, node: ast.AST, outer: Scope) -> Scope:
        inner = self.inner[node] = Scope(node, outer)
        for each in parameters(node) if isinstance(node, (*FUNCTION, ast.Lambda)) else ():
            inner.names[each.arg].append(Binding("parameter", node))
        return inner

    @cached_property
    def position(self) -> dict[ast.AST, int]:
        """The place of each node in the order of the code."""
        return {node: number for number, node in enumerate(self.of)}

    def find(self, name: ast.Name) -> Scope | None:
        """Return the scope whose binding of a name is read."""
        return self._find(name.id, self.of[name])

    def _find(self, name: str, first: Scope) -> Scope | None:
        scope = first
        while True:
            if name in scope.outside:
                scope = scope.outside[name]
                return scope if name in scope.names else None
            if name in scope.names and (scope is first or not isinstance(scope.node, ast.ClassDef)):
                return scope
            if scope.parent is None:
                return None
            scope = scope.parent

    def bindings(self, name: ast.expr | None) -> list[Binding]:
        """Return all bindings of a name in the scope that it is read from."""
        scope = self.find(name) if isinstance(name, ast.Name) else None
        return scope.names[name.id] if scope and isinstance(name, ast.Name) else []

    def binding(self, name: ast.expr | None) -> Binding | None:
        """Return the only binding of a name; None if there are several, none, or a later one."""
        bindings = self.bindings(name)
        if len(bindings) != 1 or not isinstance(name, ast.Name):
            return None
        scope, found = self.find(name), bindings[0]
        is_later = scope is self.of[name] and _place(found.node) > _place(name)
        is_outside = scope is not None and not isinstance(scope.node, (*FUNCTION, ast.Lambda))
        is_set = self.sets_names and is_outside and found.kind == "value"
        return None if is_later or is_set else found

    @cached_property
    def sets_names(self) -> bool:
        """Whether code such as `globals()[x] = 1` may set any name of a module or class."""
        return any(name in self.changed for name in ("globals", "locals", "vars"))

    def origins(self, name: ast.Name) -> list[str | None]:
        """Return the full names that a name is imported by, with None for other bindings."""
        return list(dict.fromkeys(each.origin for each in self.bindings(name)))

    def qualified(self, node: ast.expr) -> str | None:
        """Return the full name of an imported function or class: `peft.AdaLoraConfig`.

        A builtin has its own name. None: it is not imported, or bound again.
        """
        name, rest = dotted(node)
        origins = [] if name is None else self.origins(name)
        if name is None or len(origins) > 1 or None in origins:
            return None
        return f"{origins[0] if origins else name.id}{rest}"

    def is_expected_to_fail(self, node: ast.AST) -> bool:
        """Return whether a node is in the block of a test that expects an error or a warning."""
        blocks = (e for e in self.above(node) if isinstance(e, ast.With | ast.AsyncWith))
        calls = (item.context_expr for block in blocks for item in block.items)
        return any(
            isinstance(call, ast.Call)
            and (name := last_name(call.func)) in _EXPECTING
            # A name that the file binds otherwise is none of a framework for tests.
            and (name.startswith("assert") or self.qualified(call.func) in {f"pytest.{name}", name})
            for call in calls
        )

    def full_name(self, node: ast.expr) -> str:
        """Return the dotted name of an expression, with the module that it is imported from."""
        name, rest = dotted(node)
        origins = [] if name is None else self.origins(name)
        own = "?" if name is None else name.id
        return f"{next(filter(None, reversed(origins)), own)}{rest}"

    def own_name(self, node: ast.expr) -> str:
        """Return the last part of the full name of an expression."""
        if isinstance(node, ast.Attribute):
            return node.attr
        return self.full_name(node).rpartition(".")[2]

    def class_named(self, node: ast.expr) -> ast.ClassDef | None:
        """Return the class of this script that a name means."""
        return self.classes.get(last_name(node))

    def function(self, name: ast.expr | None) -> Function | None:
        """Return the function of this script that a name means where it is read."""
        scope = self.find(name) if isinstance(name, ast.Name) else None
        return scope.functions.get(name.id) if scope and isinstance(name, ast.Name) else None

    def bases(self, owner: ast.ClassDef) -> tuple[list[ast.ClassDef], list[str]]:
        """Return a class with its bases of this script, and the names of the other bases."""
        known: dict[ast.ClassDef, None] = {}
        others, queue = [], deque([owner])
        while queue:
            each = queue.popleft()
            if each in known:
                continue
            known[each] = None
            for base in each.bases:
                inner = self.class_named(base)
                if inner is not None:
                    queue.append(inner)
                else:
                    others.append(self.full_name(base))
        return list(known), others

    def method(self, owner: ast.ClassDef | None, name: str) -> Function | None:
        """Return a method of a class or of its bases in this script."""
        for each in self.bases(owner)[0] if owner is not None else []:
            if name in self.inner[each].functions:
                return self.inner[each].functions[name]
        return None

    def above(self, node: ast.AST) -> set[ast.AST]:
        """Return a node and all nodes around it."""
        found = {node}
        while node in self.parents:
            node = self.parents[node]
            found.add(node)
        return found

    def is_before(self, one: ast.AST, other: ast.AST) -> bool:
        """Return whether a node comes before another one of the same function."""
        is_same = self.of[one].function is self.of[other].function
        return is_same and self.position[one] < self.position[other]

    def is_within(self, node: ast.AST, outer: ast.AST) -> bool:
        """Return whether a node is a part of another one."""
        while node is not outer and node in self.parents:
            node = self.parents[node]
        return node is outer

    def is_excluded(self, node: ast.AST, above: set[ast.AST]) -> bool:
        """Return whether a node is in the other branch of an `if` than what `above` leads to."""
        while node in self.parents:
            inner, node = node, self.parents[node]
            if isinstance(node, ast.If) and node in above:
                other = node.orelse if inner in node.body else node.body
                if any(statement in above for statement in other):
                    return True
        return False

    def changes(self, name: ast.Name) -> list[ast.AST]:
        """Return what changes the value of a name: stores into it, calls of its methods."""
        scope, found = self.find(name), self.changed.get(name.id, ())
        return [node for node in found if self._find(name.id, self.of[node]) is scope]

    def _bind(self, scope: Scope, name: str, binding: Binding) -> None:
        owner = scope.outside.get(name, scope)
        owner.names[name].append(binding)
        if isinstance(binding.node, FUNCTION):
            owner.functions[name] = binding.node

    def _visit(  # noqa: C901, PLR0912 - one case per node, the commonest first
        self, node: ast.AST, scope: Scope
    ) -> None:
        match node:
            case ast.Constant():
                if isinstance(node.value, int) and has_too_many_digits(node.value):
                    raise BeyondLimitError("an integer has too many digits", node)
            case ast.Call():
                self.calls.append(node)
                self.callers[last_name(node.func)].append(node)
                self._visit_call(node)
            case ast.Assign():
                for target in node.targets:
                    self._assign(target, scope, Binding("value", node, node.value))
            case ast.AnnAssign(value=ast.expr() as value):
                self._assign(node.target, scope, Binding("value", node, value))
            case ast.NamedExpr():
                while isinstance(scope.node, _COMPREHENSIONS) and scope.parent is not None:
                    scope = scope.parent
                self._assign(node.target, scope, Binding("value", node, node.value))
            case ast.AugAssign():
                self._assign(node.target, scope, Binding("added", node, node.value))
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                self._assign(node.target, scope, Binding("loop", node, node.iter))
            case ast.withitem(optional_vars=ast.expr() as target):
                self._assign(target, scope, Binding("with", node, node.context_expr))
            case ast.Name():
                if node not in self._bound:
                    self._bind(scope, node.id, Binding("other", node))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if isinstance(node, ast.ClassDef):
                    self.classes.setdefault(node.name, node)
                else:
                    self.functions.append(node)
                self._bind(scope, node.name, Binding("definition", node))
            case ast.Import():
                for each in node.names:
                    name = each.asname or each.name.partition(".")[0]
                    self._import(scope, name, node, each.name if each.asname else name)
            case ast.ImportFrom():
                module = "." * node.level + (node.module or "")
                for each in node.names:
                    name = each.asname or each.name
                    self._import(scope, name, node, f"{module}.{each.name}")
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                self._bind(scope, node.name, Binding("other", node))
            case ast.MatchMapping() if node.rest:
                self._bind(scope, node.rest, Binding("other", node))
            case ast.Global():
                scope.outside |= dict.fromkeys(node.names, self.module)
            case ast.Nonlocal() if (outer := scope.parent) is not None:
                for name in node.names:
                    found = self._find(name, outer) or outer  # it is bound later in the code
                    scope.outside[name] = outer if found is self.module else found
            case ast.Subscript() | ast.Attribute():
                self._change_part(node)

    def _visit_call(self, node: ast.Call) -> None:
        match node.func, node.args:
            case ast.Attribute(value=ast.Name() as name, attr=method), _ if method in _CHANGING:
                self.changed[name.id].append(node)
            case ast.Attribute(value=owner, attr=method), _ if method in _CHANGING:
                self._change_part(owner)
            case ast.Name(id="setattr") | ast.Attribute(attr="__setattr__"), [
                ast.Name() as name,
                *_,
            ]:
                self.changed[name.id].append(node)
            case ast.Name(id="exec"), [_] | [_, ast.Call(func=ast.Name(id="globals")), *_]:
                self.changed["globals"].append(node)

    def _change_part(self, node: ast.expr) -> None:
        """Take note that a part of a name's value changes: `a["x"]` for `a["x"].append(1)`."""
        while isinstance(node, (ast.Subscript, ast.Attribute, ast.Call)):
            owner = node.func if isinstance(node, ast.Call) else node.value
            if isinstance(node, ast.Call) and node.args and last_name(owner) == "vars":
                owner = node.args[0]
            if isinstance(owner, ast.Name):
                self.changed[owner.id].append(node)
                return
            node = owner

    def _import(self, scope: Scope, name: str, node: ast.AST, origin: str) -> None:
        self.imports.setdefault(origin, node)
        if name != "*":
            self._bind(scope, name, Binding("import", node, origin=origin))

    def _assign(self, target: ast.expr, scope: Scope, binding: Binding) -> None:
        if isinstance(target, ast.Name):
            self._bound.add(target)
            self._bind(scope, target.id, binding)
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            owner = scope.class_ if target.value.id == "self" else None
            key = target.value.id if owner is None else owner.name
            self.attributes[key, target.attr].append(binding)
        elif isinstance(target, (ast.Tuple, ast.List)):
            self._unpack(target.elts, scope, binding)

    def _unpack(self, targets: list[ast.expr], scope: Scope, whole: Binding) -> None:
        value = whole.value if whole.kind == "value" else None
        parts = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
        for index, (target, part) in enumerate(zip_longest(targets, parts)):
            if target is None or isinstance(target, ast.Starred) or isinstance(part, ast.Starred):
                return  # each name is bound by its own node, without a value
            if part is None:
                self._assign(target, scope, replace(whole, item=index))
            else:
                self._assign(target, scope, replace(whole, value=part, item=None))


def _place(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
