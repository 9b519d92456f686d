"""Draw YAML texts, and compare what the reader says of them with PyYAML's `safe_load`."""

from __future__ import annotations

import random
from typing import Any

import yaml

from adalora_core.checker.documents import decode, problems
from adalora_core.checker.documents.document import Document
from adalora_core.floor.limits import DEFAULT_LIMITS

_PARTS = [
    "a", "r", "rr", "b", "1", "-1", "0x1F", "1.5", "~", "null", "yes", "on", "<<", "=", "*a", "*b",
    "&a ", "&b ", "!!int ", "!!str ", "!!float ", "!!map ", "!!seq ", "!!bool ", "!!null ", "! ",
    "!x ", "!!binary ", "!!set ", "!!merge ", "'x'", '"y"', "''", '"\\n"', "'<<'", "{", "}", "[",
    "]", ",", ": ", ":", "- ", "-", "? ", "?", "\n", "\n  ", "\n ", "\n    ", " ", "\t", "#",
    "# c", " # c", "|", "|\n  t\n", ">\n t\n", "|-", "---", "--- ", "\n---\n", "...", "\n...\n",
    "\ufeff", "%YAML 1.1\n", "%TAG ! tag:yaml.org,2002:\n", "@", "`", '"', "'", "2020-01-01",
    "12:30", "1_0", "0o7", "010", ".inf", "1e5", "é", "\x85", "\u2028", "\r\n", "\r", "<<: *a",
    "<<: {a: 1}", "<<: [*a, *b]", "rr: 1", "rr: 2", "a: 1", "r: 5", "x: &a {rr: 1}", ".nan",
    "y: &b {rr: 2, r: 3}", "2001-12-14t21:59:43.10-05:00", "'a\tb'", "!!timestamp ", "!!omap ",
    "\\", "\\\n", "9" * 4400, "1.e+3", "!!value ", "!!mer%67e ", "!!int%00 ", "%FOO x\n",
    "[" * 70, "- " * 70, '"\\ud800"', '"\\x41"',
]  # fmt: skip
_SEEDS = [
    "a: 1\nb: [1, {c: 2}]\n",
    "base: &a {rr: 1, r: 2}\nx:\n  <<: *a\n  rr: 3\ny: {<<: [*a, {rr: 5}]}\n",
    "- a\n- {b: c, d: 'e'}\n- |\n  text\n  more\n- >-\n  x\n  y\n",
    "a: &a\n  r: 1\nb: &b\n  <<: *a\n  r: 2\nc:\n  <<: *b\n",
    "? a\n: b\n? c\n",
    "---\na: 'x y'\nb: \"z\\tw\"\n...\n",
    "peft_type: ADALORA # c\ntarget_modules:\n- q_proj\n- v_proj\ninit_r: 12\nrevision: null\n",
]


def text_of(draw: random.Random) -> str:
    """Return a text of drawn parts, or a changed text of the kind that people write."""
    if draw.random() < 0.6:
        return "".join(draw.choice(_PARTS) for _ in range(draw.randint(1, 14)))
    text = draw.choice(_SEEDS)
    for _ in range(draw.randint(1, 4)):
        at, other = draw.randrange(len(text) + 1), draw.randrange(len(text) + 1)
        changed = [
            draw.choice(_PARTS) + text[at:],
            text[at + draw.randint(1, 4) :],
            text[other : other + draw.randint(1, 15)] + text[at:],
        ]
        text = text[:at] + draw.choice(changed)
    return text


LISTED = {
    "an empty document": ("the document is empty",),
    "a second byte order mark": ("a second byte order mark",),
    "a tag whose value is a set or pairs": (
        "makes a value that JSON lacks",
    ),
    "a scalar that a mapping with the key `=` gives": (
        *(f"2002:{kind}' is refused" for kind in ("int", "float", "str", "bool", "null", "binary")),
        "2002:timestamp' is refused", "2002:value' is refused",
    ),
    "an unknown tag on what a mapping merges": ("the tag '!x' is refused",),
    "an alias inside of the value that it names": ("is inside the value that it names",),
    "half of a surrogate pair": ("surrogate", "found invalid Unicode character escape"),
    "a document beyond a limit": ("nested deeper than", "too many digits", "nesting depth"),
    "a key that a mapping merges with several values": ("releases of PyYAML differ",),
}  # fmt: skip
"""What is refused here and read by PyYAML, as docs/contract/read.md lists it, with words of the
messages. A merged key may also have another value there."""
_HARMLESS = {problems.DUPLICATE_KEY, problems.NON_STRING_KEY}


def difference(text: str) -> str | None:
    """Return what differs from PyYAML and is not listed, or None."""
    try:
        wanted = yaml.safe_load(text.encode())
        fault = None
    except RecursionError:
        return None
    except Exception as error:  # noqa: BLE001 - PyYAML raises many classes
        fault = f"{type(error).__name__}: {getattr(error, 'problem', None) or error}"
    document = decode(text.encode(), "yaml", DEFAULT_LIMITS)
    if fault is not None:
        return None if document.problems else f"{document.value!r} here, refused there: {fault}"
    messages = [problem.message for problem in document.problems]
    if {problem.code for problem in document.problems} <= _HARMLESS:
        is_same = _is_same(document.value, wanted)
    else:
        is_same = False
    if is_same or _is_listed(document):
        return None
    return f"{document.value!r} here with {messages}, {wanted!r} there"


def _is_listed(document: Document) -> bool:
    return any(
        words in problem.message
        for problem in document.problems
        for listed in LISTED.values()
        for words in listed
    )


def _is_same(found: Any, wanted: Any) -> bool:
    try:
        if isinstance(found, list) and isinstance(wanted, list):
            return len(found) == len(wanted) and all(map(_is_same, found, wanted))
        if isinstance(found, dict) and isinstance(wanted, dict):
            pairs = zip(_sorted(found), _sorted(wanted), strict=True)
            return len(found) == len(wanted) and all(
                _is_same(k, m) and _is_same(found[k], wanted[m]) for k, m in pairs
            )
    except RecursionError:
        return False
    return type(found) is type(wanted) and repr(found) == repr(wanted)


def _sorted(mapping: dict[Any, Any]) -> list[Any]:
    return sorted(mapping, key=repr)
