"""Read plain scalars as PyYAML, and with it most trainers, does; note where others differ.

libyaml, which is faster than PyYAML's own scanner, passes over some signs that this one refuses.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import ScalarNode

from adalora_core.floor.limits import MOST_DIGITS, has_too_many_digits

_PREFIX = "tag:yaml.org,2002:"
STRING = _PREFIX + "str"
MERGE = _PREFIX + "merge"
VALUE = _PREFIX + "value"
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


@lru_cache(maxsize=2048)
def interpret(text: str) -> tuple[str, Any, str | None]:
    """Return tag, value and ambiguity of a plain scalar; configurations repeat a few words."""
    tag = resolve(text)
    return tag, construct(tag, text), ambiguity(tag, text)


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


_ENDS = r"\n\r\x85\u2028\u2029"
_ODD = re.compile(rf"\t|(?:^|(?<=[{_ENDS}]))\ufeff")
_REFUSED = {
    "\t": "a tab between words, which PyYAML's own scanner refuses",
    "\ufeff": "a byte order mark between words, which PyYAML's own scanner refuses",
}
_HEAD = re.compile(rf"[|>][-+\d]*([#\t])?[^{_ENDS}]*")
_COMMENT = re.compile(rf"#[^{_ENDS}]*")
_PROPERTIES = re.compile(r"(?:[&!]\S*[ \t\r\n]+)*")
MAY_DIFFER = re.compile(rf"{_ODD.pattern}|[|>][-+\d]*#|\?")
"""What a text without such signs does not contain."""


def find_odd_sign(text: str, scalars: list[tuple[int, int, str]]) -> tuple[int, str] | None:
    """Return the place of a sign that PyYAML's own scanner refuses, and why; None: there is none.

    The style of a plain scalar is empty, or a question mark in brackets and braces.
    """
    if text.startswith("\ufeff"):  # libyaml does not count it
        return 0, "a second byte order mark"
    pieces, done = [], 0
    for start, end, style in scalars:
        properties = _PROPERTIES.match(text, start, end)
        first = begin = properties.end() if properties else start
        if style not in {"?", ""}:
            begin = max(first, text.find(style, first, end))
        head = _HEAD.match(text, begin, end) if style in {"|", ">"} else None
        if head is not None and head[1]:
            return head.start(1), "the sign of a block needs a blank behind it"
        if head is not None:
            begin = head.end()
        elif style == "?" and (sign := text.find("?", first, end)) >= 0:
            return sign, "a question mark in brackets or braces begins a key for PyYAML"
        elif style in {"?", ""} and (odd := _ODD.search(text, first, end)) is not None:
            return odd.start(), _REFUSED[odd[0]]
        pieces += [text[done:begin], "\n" * (end - begin)]
        done = end
    plain = "".join([*pieces, text[done:]])
    found = _ODD.search(_COMMENT.sub(lambda comment: " " * len(comment[0]), plain))
    return None if found is None else (found.start(), _REFUSED[found[0]])
