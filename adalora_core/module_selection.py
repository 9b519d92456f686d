"""Decide which module paths a configuration means, by PEFT's rules and from names alone."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    heads = _HEADS_BY_TASK.get(task_type or "", ())
    return names + [head for head in heads if head not in names]


def ends_with(path: str, names: Collection[str]) -> bool:
    """Return whether `path` is one of `names` or ends in one behind a dot.

    The cost does not grow with the number of names if these are a set.

    Example:
        >>> ends_with("layers.0.q_proj", ["q_proj"]), ends_with("layers.0.my_q_proj", ["q_proj"])
        (True, False)
    """
    return any(ending in names for ending in _endings(path))


def _endings(path: str) -> Iterator[str]:
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

    def __post_init__(self) -> None:
        """Make a set of the names once: a mixture of experts has tens of thousands."""
        names = () if isinstance(self.targets, str) else self.targets
        object.__setattr__(self, "_names", frozenset(names))

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
        if self.exclude and matches(path, self.exclude, self.matcher, "exclude_modules"):
            return True
        return any(f".{name}." in f".{path}." for name in self.saved)

    def _layer_is_selected(self, path: str) -> bool:
        if self.layers is None or self.layers == []:
            return True
        patterns = self.layers_pattern or []
        patterns = [patterns] if isinstance(patterns, str) else patterns
        # Lazy: the first number is the layer, a later one may be an expert.
        expressions = [rf"(?:^|.*?\.){each}\.(?P<idx>\d+)\." for each in patterns]
        for expression in expressions or [r".*?\.[^.]*\.(?P<idx>\d+)\."]:
            found = self.matcher.find("match", expression, path, "layers_pattern", "idx")
            if found is not None:
                wanted = [self.layers] if isinstance(self.layers, int) else self.layers
                return int(found) in wanted
        return False
