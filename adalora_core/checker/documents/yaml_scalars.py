"""Read plain scalars as PyYAML, and with it most trainers, does; note where others differ."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import ScalarNode

from adalora_core.floor.limits import MOST_DIGITS, has_too_many_digits

_PREFIX = "tag:yaml.org,2002:"
STRING = _PREFIX + "str"
MERGE = _PREFIX + "merge"
VALUE = _PREFIX + "value"
SEQUENCE, MAPPING = _PREFIX + "seq", _PREFIX + "map"
_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = yaml.SafeLoader.yaml_implicit_resolvers
_CONSTRUCTOR = SafeConstructor()
_CONSTRUCT = {
    _PREFIX + kind: getattr(_CONSTRUCTOR, f"construct_yaml_{kind}")
    for kind in ("null", "bool", "int", "float", "timestamp", "binary")
}
_NUMBERS = (_PREFIX + "int", _PREFIX + "float")


class UnknownTagError(Exception):
    """A tag that the safe loader refuses."""


# Possessive: a text of digits alone would otherwise take quadratic time.
_EXPONENT = re.compile(r"[-+]?(?:\d[\d_]*+(?:\.[\d_]*+)?|\.\d[\d_]*+)[eE][-+]?\d+")
_OLD_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_NEW_OCTAL = re.compile(r"0o[0-7]+")


def resolve(text: str) -> str:
    """Return the tag that PyYAML's safe loader gives a plain scalar."""
    for tag, pattern in _RESOLVERS.get(text[:1], ()):
        if pattern.match(text):
            return tag
    return STRING


def construct(tag: str, text: str) -> Any:
    """Return the value of a scalar with `tag`.

    Raises:
        UnknownTagError: the safe loader does not know the tag.
        ValueError: the text is not valid for the tag, such as a date with a 13th month.
    """
    if tag in (STRING, MERGE, VALUE):
        return text
    construct_one: Any = _CONSTRUCT.get(tag)
    if construct_one is None:
        raise UnknownTagError(tag)
    if tag in _NUMBERS and len(text) > MOST_DIGITS:
        raise ValueError("too many digits")
    try:
        value = construct_one(ScalarNode(tag, text))
    except (ArithmeticError, LookupError, AttributeError, yaml.YAMLError) as error:
        # PyYAML does not check the text of an explicit tag: an empty !!float, or !!bool x. A float
        # of base 60 and a date with an offset may be out of range.
        raise ValueError(str(error) or "empty") from None
    if type(value) is int and has_too_many_digits(value):
        raise ValueError("too many digits")
    return value


def ambiguity(tag: str, text: str) -> str | None:
    """Return the kind of ambiguity of a plain scalar, or None if all readers agree."""
    if tag == STRING:
        if _EXPONENT.fullmatch(text):
            return "exponent"
        return "octal" if _NEW_OCTAL.fullmatch(text) else None
    kind = tag.removeprefix(_PREFIX)
    if kind == "timestamp":
        return "date"
    if kind == "bool":
        return None if text.lower() in ("true", "false") else "boolean-word"
    if kind in ("int", "float"):
        if ":" in text:
            return "sexagesimal"
        if "_" in text:
            return "underscore"
        return "octal" if kind == "int" and _OLD_OCTAL.fullmatch(text) else None
    return None
