"""Decide which module paths a configuration means, by PEFT's rules and from names alone."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from adalora_core.expressions.matching import Matcher

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

ALL_LINEAR = "all-linear"
"""The `target_modules` for every linear module but the output head; its case does not matter."""

_HEADS_BY_TASK = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
"""Heads that a task adds to a model; they are trained in full, as in PEFT."""


def is_all_linear(targets: object) -> bool:
    """Return whether `target_modules` is the shorthand for every linear module."""
    return isinstance(targets, str) and targets.lower() == ALL_LINEAR


def saved_module_names(modules_to_save: Iterable[str] | None, task_type: str | None) -> list[str]:
    """Return the names of the modules trained in full: the configured ones and the task's heads."""
    names = list(modules_to_save or ())
    return names + [head for head in heads_of(task_type) if head not in names]


def heads_of(task_type: object) -> tuple[str, ...]:
    """Return the names of the heads that a task adds to a model."""
    return _HEADS_BY_TASK.get(task_type, ()) if isinstance(task_type, str) else ()


def ends_with(path: str, names: Collection[str]) -> bool:
    """Return whether `path` is one of `names` or ends in one behind a dot.

    The cost does not grow with the number of names if these are a set.

    Example:
        >>> ends_with("layers.0.q_proj", ["q_proj"]), ends_with("layers.0.my_q_proj", ["q_proj"])
        (True, False)
    """
    return any(ending in names for ending in endings(path))


def endings(path: str) -> Iterator[str]:
    """Yield a path and each part of it behind a dot, the longest first."""
    yield path
    while "." in path:
        path = path.partition(".")[2]
        yield path


def outermost(paths: Collection[str]) -> Iterator[str]:
    """Yield the paths of modules that are not inside another one of them.

    Example:
        >>> list(outermost(["layers.0.mlp", "layers.0.mlp.up", "layers.0.mlp_norm"]))
        ['layers.0.mlp', 'layers.0.mlp_norm']
    """
    known = frozenset(paths)
    for path in paths:
        outer = path.rpartition(".")[0]
        while outer and outer not in known:
            outer = outer.rpartition(".")[0]
        if not outer:
            yield path


def matches(path: str, wanted: str | Collection[str], matcher: Matcher, setting: str) -> bool:
    """Return whether `path` ends in one of several names, or matches one regular expression whole.

    Args:
        path: of a module.
        wanted: the names, or the expression.
        matcher: matches the expression.
        setting: the field of the configuration that holds it.

    Raises:
        re.error: the string is not a regular expression.
        ExpressionError: the expression takes too long.
    """
    if isinstance(wanted, str):
        return matcher.find("fullmatch", wanted, path, setting) is not None
    return ends_with(path, wanted)


class NamesInside:
    """Finds names, of one part or of several, anywhere in a path.

    The cost grows with the parts of the path alone: each part follows one edge of a tree of all
    names, or falls back to the longest name that the parts before may begin (Aho and Corasick).

    Example:
        >>> names = NamesInside(["mlp", "0.mlp", "q"])
        >>> found = set()
        >>> names.add_found("layers.0.mlp.up", found), sorted(found)
        (True, ['0.mlp', 'mlp'])
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._children: list[dict[str, int]] = [{}]
        self._names: list[str | None] = [None]
        for name in names:
            node = 0
            for part in name.split("."):
                if part not in self._children[node]:
                    self._children[node][part] = len(self._children)
                    self._children.append({})
                    self._names.append(None)
                node = self._children[node][part]
            self._names[node] = name
        self._shorter = [0] * len(self._children)
        """The node of the longest end of each node's parts that other names begin with."""
        self._named = [0] * len(self._children)
        """The first node with a name among a node and those that it falls back to."""
        self._link()

    def _link(self) -> None:
        queue = deque([0])
        while queue:
            node = queue.popleft()
            is_named = self._names[node] is not None
            self._named[node] = node if is_named else self._named[self._shorter[node]]
            for part, child in self._children[node].items():
                # The children of the root have no shorter end.
                self._shorter[child] = self._next(self._shorter[node], part) if node else 0
                queue.append(child)

    def _next(self, node: int, part: str) -> int:
        while node and part not in self._children[node]:
            node = self._shorter[node]
        return self._children[node].get(part, 0)

    def are_in(self, path: str) -> bool:
        """Return whether a name is inside `path`, as whole parts."""
        return any(self._ends(path))

    def add_found(self, path: str, found: set[str]) -> bool:
        """Add the names inside `path` to `found`, and return whether there are any."""
        any_found = False
        for end in self._ends(path):
            named = end
            while (name := self._names[named]) is not None:
                any_found = True
                if name in found:
                    break  # and so are the names that are its ends
                found.add(name)
                named = self._named[self._shorter[named]]
        return any_found

    def _ends(self, path: str) -> Iterator[int]:
        """Yield the node of the longest name that ends at each part, 0 where none does."""
        node = 0
        for part in path.split(".") if len(self._children) > 1 else ():
            node = self._next(node, part)
            yield self._named[node]


class _Layers:
    """Finds the layer of a path by the expressions of `layers_pattern`, the first one first."""

    def __init__(self, patterns: Iterable[str], matcher: Matcher) -> None:
        self._matcher = matcher
        self._names: dict[str, int] = {}
        self._expressions: list[tuple[int, str]] = []
        for number, each in enumerate(dict.fromkeys(patterns)):
            if re.fullmatch(r"\w+", each):
                self._names[each] = number
            else:
                # Lazy: the first number is the layer, a later one may be an expert.
                self._expressions.append((number, rf"(?:^|.*?\.){each}\.(?P<idx>\d+)\."))
        if not self._names and not self._expressions:
            self._expressions = [(0, r".*?\.[^.]*\.(?P<idx>\d+)\.")]

    def of(self, path: str) -> int | None:
        """Return the layer of `path`, or None if no expression matches."""
        first, layer = self._by_name(path)
        for number, expression in self._expressions:
            if number > first:
                break
            found = self._matcher.find("match", expression, path, "layers_pattern", "idx")
            if found is not None:
                return int(found)
        return layer

    def _by_name(self, path: str) -> tuple[float, int | None]:
        """Return the place in the list of the first name that is in `path`, and its layer."""
        found: dict[int, str] = {}
        parts = path.split(".") if self._names else []
        for name, layer in pairwise(parts[:-1]):
            if name in self._names and layer.isdecimal():
                found.setdefault(self._names[name], layer)
        first = min(found, default=inf)
        return first, int(found[int(first)]) if found else None


@dataclass(frozen=True, slots=True)
class ModuleSelection:
    """The fields of a configuration that select modules by their paths.

    Args:
        targets: names, or one regular expression over the whole path. `"all-linear"` and null are
            resolved before, by a caller that has the model.
        exclude: written like `targets`.
        layers: the indices of `layers_to_transform`.
        layers_pattern: names of the lists that the indices count in.
        saved: names of modules trained in full, which need no adapter inside.
        matcher: matches the expressions, within one bound of time for the configuration.
    """

    targets: str | Sequence[str]
    exclude: str | Sequence[str] | None = None
    layers: int | Sequence[int] | None = None
    layers_pattern: str | Sequence[str] | None = None
    saved: Sequence[str] = ()
    matcher: Matcher = field(default_factory=Matcher, repr=False, compare=False)
    _names: frozenset[str] = field(init=False, repr=False)
    _excluded: str | frozenset[str] = field(init=False, repr=False)
    _saved: NamesInside = field(init=False, repr=False)
    _wanted: frozenset[int] = field(init=False, repr=False)
    _layers: _Layers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make sets of the names once: a mixture of experts has tens of thousands."""
        names = () if isinstance(self.targets, str) else self.targets
        exclude = self.exclude or ()
        wanted = [self.layers] if isinstance(self.layers, int) else self.layers or ()
        patterns = self.layers_pattern or ()
        made = {
            "_names": frozenset(names),
            "_excluded": exclude if isinstance(exclude, str) else frozenset(exclude),
            "_saved": NamesInside(self.saved),
            "_wanted": frozenset(wanted),
            "_layers": _Layers([patterns] if isinstance(patterns, str) else patterns, self.matcher),
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def includes(self, path: str) -> bool:
        """Return whether the module is a target; `excludes` is asked apart.

        Raises:
            ExpressionError: an expression takes too long.
        """
        if isinstance(self.targets, str):
            return matches(path, self.targets, self.matcher, "target_modules")
        if path in self._names:
            # A whole path names its layer.
            return True
        return ends_with(path, self._names) and self._layer_is_selected(path)

    def excludes(self, path: str) -> bool:
        """Return whether the module gets no adapter even if it is a target.

        Raises:
            ExpressionError: an expression takes too long.
        """
        if self._excluded and matches(path, self._excluded, self.matcher, "exclude_modules"):
            return True
        return self._saved.are_in(path)

    def _layer_is_selected(self, path: str) -> bool:
        if self.layers is None or self.layers == []:
            return True
        return self._layers.of(path) in self._wanted
