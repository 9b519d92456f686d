"""Evaluate JSON Schemas within a bound of steps and of time, as the library does otherwise."""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import jsonschema

from adalora_core.floor.errors import ExpressionError, PolicyError
from adalora_core.floor.expressions.matching import Matcher

MOST_STEPS, STEPS_PER_VALUE = 100_000, 5
"""The most steps of a policy for one configuration, and how many more for each of its values. A
step of up to 25 us applies a keyword or a schema, passes 20 entries or writes 50 characters."""
_ENTRIES, _CHARACTERS, _LOOKUPS, _ERROR = 20, 50, 1000, 4


class _Evaluation:
    """The bounds of one evaluation, given the keys of `patternProperties` in the policy."""

    def __init__(self, patterns: Collection[str], steps: int) -> None:
        self.patterns = patterns
        self._most = self._left = steps
        self._matcher = Matcher()
        self._digests: dict[int, tuple[Any, bytes]] = {}
        self.surcharge = 0

    def count(self, steps: int) -> None:
        """Count steps.

        Raises:
            PolicyError: there were too many.
        """
        self._left -= steps
        if self._left < 0:
            raise PolicyError(
                f"the policy takes more than {self._most} steps; refer to a schema once, not from "
                "each of many alternatives, and shorten long lists"
            )

    def digest(self, value: Any) -> bytes:
        """Return a digest that values have in common if JSON Schema takes them for equal."""
        if not isinstance(value, dict | list | tuple):
            is_whole = isinstance(value, float) and value.is_integer()
            text = repr(int(value) if is_whole else value)
            self.count(len(text) // _CHARACTERS)
            return blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
        if id(value) not in self._digests:
            self.count(1 + len(value) // _ENTRIES)
            if isinstance(value, dict):
                pairs = (self.digest(key) + self.digest(entry) for key, entry in value.items())
                found = b"{" + b"".join(sorted(pairs))
            else:
                found = b"[" + b"".join(map(self.digest, value))
            # The value is kept, and with it its id.
            self._digests[id(value)] = value, blake2b(found, digest_size=16).digest()
        return self._digests[id(value)][1]

    def rehearse(self, keyword: str, value: Any, instance: Any, schema: Any) -> None:
        """Raise unless the library can search for the expressions of a keyword quickly."""
        patterns: Collection[str] = ()
        searched: Collection[Any] = instance if isinstance(instance, dict) else ()
        if keyword == "pattern":
            patterns, searched = [value], [instance]
        elif keyword == "patternProperties":
            patterns = value
        elif keyword == "unevaluatedProperties":
            patterns = self.patterns
        elif keyword == "additionalProperties" and (found := schema.get("patternProperties")):
            # The library joins them, and one may refer to a group of another; messages search each.
            patterns = ["|".join(found), *found]
        texts = [text for text in searched if isinstance(text, str)] if patterns else []
        for pattern in patterns:
            self.count(len(texts))
            self._matcher.rehearse("search", pattern, texts, keyword)


_current: ContextVar[_Evaluation] = ContextVar("evaluation")


@contextlib.contextmanager
def bounds(patterns: Collection[str], instance: Any) -> Iterator[None]:
    """Give all evaluations of a value inside the `with` block one bound of steps and time.

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


def count(steps: int, characters: int = 0) -> None:
    """Count steps, and those for characters, in the `with` block of `bounds` around the call."""
    _current.get().count(steps + characters // _CHARACTERS)


@functools.cache
def bounded(kind: Any) -> Any:
    """Return a validator class like `kind` whose evaluations need `bounds`."""
    if kind.evolve is _evolve:
        return kind
    keywords = {
        word: _counted(word, _OWN.get(word, check)) for word, check in kind.VALIDATORS.items()
    }
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
    evaluation = _current.get()
    evaluation.count(1 + evaluation.surcharge)
    schema = changes.setdefault("schema", self.schema)
    for each in type(self).__attrs_attrs__:
        if each.init:
            changes.setdefault(each.alias, getattr(self, each.name))
    return bounded(jsonschema.validators.validator_for(schema, default=type(self)))(**changes)


def _counted(keyword: str, check: Any) -> Any:
    def evaluate(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        evaluation = _current.get()
        entries = sum(len(each) for each in (value, instance) if isinstance(each, dict | list))
        evaluation.count(1 + entries // _ENTRIES)
        evaluation.rehearse(keyword, value, instance, schema)
        before = evaluation.surcharge
        if keyword.startswith("unevaluated") and isinstance(instance, dict | list):
            # The library looks each entry up in the list of those that each schema has evaluated.
            lookups = len(instance) ** 2 * (1 + len(evaluation.patterns))
            evaluation.surcharge += lookups // _LOOKUPS
            evaluation.count(evaluation.surcharge)
        for error in check(validator, value, instance, schema) or ():
            evaluation.count(_ERROR + len(error.message) // _CHARACTERS)
            yield error
        evaluation.surcharge = before

    return evaluate


def _enum(_: Any, value: Any, instance: Any, __: Any) -> Iterator[Any]:
    digest = _current.get().digest
    if digest(instance) not in map(digest, value):
        yield jsonschema.ValidationError(f"{instance!r} is not one of {value!r}")


def _const(_: Any, value: Any, instance: Any, __: Any) -> Iterator[Any]:
    digest = _current.get().digest
    if digest(instance) != digest(value):
        yield jsonschema.ValidationError(f"{value!r} was expected")


def _unique(validator: Any, value: Any, instance: Any, _: Any) -> Iterator[Any]:
    if not value or not validator.is_type(instance, "array"):
        return
    if len({*map(_current.get().digest, instance)}) < len(instance):
        yield jsonschema.ValidationError(f"{instance!r} has non-unique elements")


def _multiple(validator: Any, value: Any, instance: Any, _: Any) -> Iterator[Any]:
    if not validator.is_type(instance, "number"):
        return
    try:
        quotient = instance / value if isinstance(value, float) else instance % value
        is_multiple = int(quotient) == quotient if isinstance(value, float) else not quotient
    except (ArithmeticError, ValueError):  # beyond the floats, or not finite
        is_finite = isinstance(instance, int) or math.isfinite(instance)
        _current.get().count(int(instance).bit_length() // _ENTRIES if is_finite else 1)
        divisor = Fraction(repr(value))
        is_multiple = is_finite and (Fraction(instance) / divisor).denominator == 1
    if not is_multiple:
        yield jsonschema.ValidationError(f"{instance!r} is not a multiple of {value}")


_OWN: dict[str, Callable[..., Iterator[Any]]] = {
    "enum": _enum, "const": _const, "uniqueItems": _unique, "multipleOf": _multiple,
    "divisibleBy": _multiple,
}  # fmt: skip
"""Keywords for which the library takes quadratic time, or fails for numbers beyond the floats."""
