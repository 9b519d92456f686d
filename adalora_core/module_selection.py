"""Decide which module paths a configuration means, by PEFT's rules and from names alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any

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
    heads = _HEADS_BY_TASK.get(task_type or "", ())
    return names + [head for head in heads if head not in names]


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

    The cost does not grow with the number of names.

    Example:
        >>> list(NamesInside(["mlp", "0.mlp", "q"]).of("layers.0.mlp.up"))
        ['0.mlp', 'mlp']
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._tree: dict[str | None, Any] = {}
        for name in names:
            node = self._tree
            for part in name.split("."):
                node = node.setdefault(part, {})
            node[None] = name

    def of(self, path: str) -> Iterator[str]:
        """Yield the names that are whole parts of `path`."""
        parts = path.split(".") if self._tree else []
        for start in range(len(parts)):
            node = self._tree
            for part in parts[start:]:
                if part not in node:
                    break
                node = node[part]
                if None in node:
                    yield node[None]


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
        return any(True for _ in self._saved.of(path))

    def _layer_is_selected(self, path: str) -> bool:
        if self.layers is None or self.layers == []:
            return True
        return self._layers.of(path) in self._wanted
