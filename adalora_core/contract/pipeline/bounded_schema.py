"""Evaluate JSON Schemas within a bound of steps and of time, as the library does otherwise."""

from __future__ import annotations

import contextlib
import functools
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import jsonschema

from adalora_core.errors import ExpressionError, PolicyError
from adalora_core.expressions.matching import Matcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_STEPS, STEPS_PER_VALUE = 50_000, 5
"""The most keywords of a policy that are evaluated for one configuration, and how many more for
each of its values; one takes up to 25 us."""


class _Evaluation:
    """The bounds of one evaluation.

    Args:
        patterns: the keys of `patternProperties` anywhere in the policy.
        steps: the most keywords that are evaluated.
    """

    def __init__(self, patterns: Iterable[str], steps: int) -> None:
        self.patterns = patterns
        self._most = self._left = steps
        self._matcher = Matcher()

    def count(self, steps: int) -> None:
        """Count steps.

        Raises:
            PolicyError: there were too many.
        """
        self._left -= steps
        if self._left < 0:
            raise PolicyError(
                f"the policy takes more than {self._most} steps for one configuration; refer to a "
                "schema once, not from each of many alternatives"
            )

    def rehearse(self, patterns: Iterable[str], texts: Iterable[Any], keyword: str) -> None:
        """Raise unless the library can search for the patterns in the texts quickly."""
        texts = [text for text in texts if isinstance(text, str)]
        for pattern in patterns:
            self.count(len(texts))
            self._matcher.rehearse("search", pattern, texts, keyword)


_current: ContextVar[_Evaluation] = ContextVar("evaluation")


@contextlib.contextmanager
def bounds(patterns: Iterable[str], instance: Any) -> Iterator[None]:
    """Give all evaluations inside the `with` block one bound of steps and of time together.

    Args:
        patterns: the keys of `patternProperties` anywhere in the policy.
        instance: the value that is evaluated; a larger one may take more steps.

    Raises:
        PolicyError: an evaluation exceeds the bounds.
    """
    steps = MOST_STEPS + STEPS_PER_VALUE * _size(instance)
    token = _current.set(_Evaluation(patterns, steps))
    try:
        yield
    except ExpressionError as error:
        raise PolicyError(str(error)) from None
    finally:
        _current.reset(token)


@functools.cache
def bounded(kind: Any) -> Any:
    """Return a validator class like `kind` whose evaluations need `bounds`."""
    if kind.evolve is _evolve:
        return kind
    keywords = {word: _counted(word, check) for word, check in kind.VALIDATORS.items()}
    extend: Any = jsonschema.validators.extend
    found = extend(kind, keywords)
    found.evolve = _evolve
    return found


def formats_of(kind: Any, matcher: Matcher) -> jsonschema.FormatChecker:
    """Return the format checker of a validator class, which compiles expressions with `matcher`."""

    def is_expression(value: object) -> bool:
        if isinstance(value, str):
            matcher.find("match", value, "", "pattern")
        return True

    formats = jsonschema.FormatChecker(())
    formats.checkers = kind.FORMAT_CHECKER.checkers | {"regex": (is_expression, re.error)}
    return formats


def _size(value: Any) -> int:
    """Return how many values are in `value`, which is not nested deep."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return 1
    return 1 + sum(map(_size, value))


def _evolve(self: Any, **changes: Any) -> Any:
    """Change a validator as the library does; a schema with a `$schema` keeps the bounds."""
    schema = changes.setdefault("schema", self.schema)
    for each in type(self).__attrs_attrs__:
        if each.init:
            changes.setdefault(each.alias, getattr(self, each.name))
    return bounded(jsonschema.validators.validator_for(schema, default=type(self)))(**changes)


def _counted(keyword: str, check: Any) -> Any:
    rehearse = _REHEARSALS.get(keyword)

    def evaluate(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        evaluation = _current.get()
        evaluation.count(1)
        if rehearse is not None:
            patterns, texts = rehearse(evaluation, value, instance, schema)
            evaluation.rehearse(patterns, texts, keyword)
        return check(validator, value, instance, schema)

    return evaluate


_Searches = tuple["Iterable[str]", "Iterable[Any]"]
"""Patterns that the library searches for, and the texts."""


def _of_pattern(_: _Evaluation, value: Any, instance: Any, __: Any) -> _Searches:
    return [value], [instance]


def _of_keys(_: _Evaluation, value: Any, instance: Any, __: Any) -> _Searches:
    return value, _keys(instance)


def _of_other_keys(_: _Evaluation, __: Any, instance: Any, schema: Any) -> _Searches:
    # The library joins them, and one may refer to a group of another; messages search for each.
    patterns = schema.get("patternProperties")
    return ["|".join(patterns), *patterns] if patterns else (), _keys(instance)


def _of_unevaluated_keys(evaluation: _Evaluation, _: Any, instance: Any, __: Any) -> _Searches:
    return evaluation.patterns, _keys(instance)


def _keys(instance: Any) -> Iterable[Any]:
    return instance if isinstance(instance, dict) else ()


_REHEARSALS: dict[str, Callable[[_Evaluation, Any, Any, Any], _Searches]] = {
    "pattern": _of_pattern,
    "patternProperties": _of_keys,
    "additionalProperties": _of_other_keys,
    "unevaluatedProperties": _of_unevaluated_keys,
}
"""For each keyword of the library that searches for expressions: those, and where."""
