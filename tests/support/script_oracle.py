"""Run small scripts, and compare what they pass with what the reader of scripts found."""

from __future__ import annotations

import ast
import contextlib
import io
import random
import re
import sys
from types import FrameType
from typing import Any

from adalora_core.checker.documents.python.origins import UNKNOWN
from adalora_core.checker.documents.python.script import Script
from adalora_core.checker.documents.python.values import holds_unknown

MOST_LINES = 300
"""Of one run: a loop may add to the list that it runs over."""

KEYS = ["init_r", "target_r", "x", "total_step"]
NUMBERS = [
    "0", "1", "2", "7", "-1", "1_0", "0x1F", "0b11", "1.5", "-0.0", "1e3", "2.", ".5", "True",
    "math.inf", "unknown()", "int('12')", "float(' 7 ')", "int('x', 36)", "len('ab')",
]  # fmt: skip
TEXTS = [
    "'q'", '"v"', "''", "'a' 'b'", "r'\\d'", "f'{1}'", "'\\x41'", "u'z'", "str(1.50)", "'a' + 'b'",
]  # fmt: skip
OTHERS = [
    "None", "False", "b'x'", "1j", "...", "unknown()", "(not 1)", "'q' * 2", "1 < 2", "None or 2",
]  # fmt: skip
CHANGES = {
    "number": ["{0} += {1}", "{0} = {1}", "({0} := {1})", "{0}: int = {1}", "del {0}", "{0} //= 2"],
    "list": [
        "{0}.append({1})", "{0}.extend([{1}])", "{0}[0] = {1}", "{0} += [{1}]", "{0}.pop()",
        "{0}.clear()", "{0}.insert(0, {1})", "{0}[:] = [{1}]", "{0}.reverse()", "del {0}[0]",
        "{0}[0].append({1})", "{0}.sort()", "{0}.remove({1})", "{0}.copy().pop()",
    ],
    "dict": [
        "{0}['x'] = {1}", "{0}.update(x={1})", "{0}.update({{'r': {1}}})", "{0}.pop('x')",
        "{0}.setdefault('x', {1})", "{0} |= {{'x': {1}}}", "del {0}['x']", "{0}.popitem()",
        "{0}.clear()", "{0}['y']['x'] = {1}", "{0}.update([('x', {1})])", "{0}[1] = {1}",
        "{0}.get('x').append({1})", "{0}.pop('y', None)", "{0}.__setitem__('x', {1})",
    ],
    "class": ["{0}.x = {1}", "setattr({0}, 'x', {1})", "{0}.y = {1}", "del {0}.x"],
}  # fmt: skip


_HEAD = """\
import argparse, math
from dataclasses import dataclass, field
from types import SimpleNamespace
"""
_CLASSES = [
    "class {name}:\n    x = {value}",
    "class {name}:\n    x = {value}\n    def f(self): self.x = {other}\n{name} = {name}()",
    "class C:\n    def __init__(self): self.x = {value}\n{name} = C()",
    (
        "class C:\n    def __init__(self): self.x = {value}\n    def f(self): self.x = {other}\n"
        "{name} = C()\n{name}.f()"
    ),
    "class B:\n    x = {other}\nclass C(B):\n    x = {value}\n{name} = C()",
    "class B:\n    x = {value}\nclass C(B): pass\n{name} = C()",
    "{name} = SimpleNamespace(x={value})",
    "{name} = SimpleNamespace(**{{'x': {value}}})",
    "@dataclass\nclass C:\n    x: object = {value}\n{name} = C()",
    "@dataclass\nclass C:\n    x: object = {other}\n{name} = C(x={value})",
    "@dataclass\nclass C:\n    x: object = {other}\n{name} = C({value})",
    "@dataclass\nclass C:\n    x: object = field(default_factory=lambda: {value})\n{name} = C()",
    (
        "@dataclass\nclass C:\n    x: int = 0\n    def __post_init__(self): self.x = {value}\n"
        "{name} = C()"
    ),
    (
        "p = argparse.ArgumentParser()\np.add_argument('--x', default={value})\n"
        "{name} = p.parse_args([])"
    ),
    (
        "p = argparse.ArgumentParser()\np.add_argument('-y', '--why', dest='x', default={value})\n"
        "p.set_defaults(x={other})\n{name} = p.parse_args([])"
    ),
    (
        "p = argparse.ArgumentParser()\np.add_argument('--x', type=int, default={value})\n"
        "{name}, _ = p.parse_known_args([])"
    ),
    (
        "p = argparse.ArgumentParser()\np.add_argument('--x', action='store_true')\n"
        "{name} = p.parse_args([])"
    ),
]


class Drawn:
    """Draws scripts of few statements, of which most run without an error.

    Args:
        draw: the source of chance.
    """

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._names: dict[str, list[str]] = {kind: [] for kind in CHANGES}
        self._shared: set[str] = set()
        self._lines = _HEAD.splitlines()

    def number(self, depth: int = 2) -> str:
        """Return an expression whose value mostly is a number."""
        draw = self._draw
        if depth <= 0 or draw.random() < 0.4:
            return draw.choice([*NUMBERS, *self._names["number"] * 4])
        one, two = self.number(depth - 1), self.number(depth - 1)
        inner = self.sequence(depth - 1)
        return draw.choice([
            f"({one} {draw.choice(['+', '-', '*', '/', '//', '%', 'and', 'or', '<'])} {two})",
            f"{draw.choice(['int', 'float', 'round', 'abs', 'math.ceil', 'bool'])}({one})",
            f"{draw.choice(['min', 'max'])}({one}, {two})", f"max({inner})", f"round({one}, {two})",
            f"({draw.choice(['-', '+', '~', 'not '])}({one}))", f"({one} if {two} else {one})",
            f"sum({inner})", f"{inner}[{draw.choice(['0', '-1', one])}]", f"(w := {one})",
            *(f"{name}.x" for name in self._names["class"]),
            *(f"{name}['x']" for name in self._names["dict"]),
        ])  # fmt: skip

    def sequence(self, depth: int = 2) -> str:
        """Return an expression whose value mostly is a list, a tuple or a set."""
        draw = self._draw
        if depth <= 0 or draw.random() < 0.2:
            return draw.choice(["[]", "()", "['q']", "('v', 'q')", *self._names["list"] * 3])
        inner = self.sequence(depth - 1)
        items = [self.value(depth - 1) for _ in range(draw.randint(0, 3))]
        if draw.random() < 0.3:
            items.insert(draw.randint(0, len(items)), f"*{inner}")
        listed = ", ".join(items)
        return draw.choice([
            f"[{listed}]", f"[{listed}]", f"({listed}{',' * bool(items)})",
            f"{{{listed}}}" if items else "set()", f"range(min({self.number(depth - 1)}, 60))",
            f"{draw.choice(['list', 'tuple', 'set', 'sorted', 'frozenset'])}({inner})",
            f"({inner} + {self.sequence(depth - 1)})", f"{inner}[1:]", f"({inner} * 2)",
            f"[w for w in {inner}]", f"list(range({draw.choice(NUMBERS)}, {draw.choice(NUMBERS)}))",
        ])  # fmt: skip

    def mapping(self, depth: int = 2) -> str:
        """Return an expression whose value mostly is a dict."""
        draw = self._draw
        if self._names["dict"] and (depth <= 0 or draw.random() < 0.2):
            return draw.choice(self._names["dict"])
        entries = []
        for _ in range(draw.randint(0, 3)):
            key = repr(draw.choice(KEYS)) if draw.random() < 0.9 else self.value(0)
            is_spread = depth > 0 and draw.random() < 0.25
            entries.append(
                f"**{self.mapping(depth - 1)}" if is_spread else f"{key}: {self.value(depth - 1)}"
            )
        pairs = [f"{key}={self.value(depth - 1)}" for key in draw.sample(KEYS, 2)]
        if depth <= 0:
            return f"{{{', '.join(entries)}}}"
        inner = self.mapping(depth - 1)
        return draw.choice([
            *[f"{{{', '.join(entries)}}}"] * 4, f"dict({', '.join(pairs)})", f"dict({inner})",
            f"dict({inner}, {pairs[0]})", f"({inner} | {self.mapping(depth - 1)})",
            f"dict(**{inner})", f"{inner}.copy()", f"{{**{inner}, {', '.join(entries)}}}",
            f"{{'y': {inner}}}['y']",
        ])  # fmt: skip

    def value(self, depth: int = 2) -> str:
        """Return an expression of any kind."""
        kinds = [self.number, self.number, self.sequence, self.mapping]
        roll = self._draw.random()
        if roll < 0.25:
            return self._draw.choice(TEXTS)
        return self._draw.choice(OTHERS) if roll < 0.32 else self._draw.choice(kinds)(depth)

    def script(self) -> str:
        """Return a script with a few statements and calls."""
        draw = self._draw
        for _ in range(draw.randint(1, 4)):
            self._define()
        for _ in range(draw.randint(0, 3)):
            self._statement()
        self._lines.append(self._call())
        if draw.random() < 0.3:
            self._statement()
            self._lines.append(self._call())
        return "\n".join(self._lines) + "\n"

    def _define(self) -> None:
        draw = self._draw
        kind = draw.choice(["number", "list", "dict", "dict", "class"])
        name = draw.choice("abcd")
        if kind == "class":
            made = self.value()
            text = draw.choice(_CLASSES).format(name=name, value=made, other=self.value(1))
            self._lines += text.splitlines()
        else:
            made = {"number": self.number, "list": self.sequence, "dict": self.mapping}[kind]()
            form = draw.choice(["{0} = {1}"] * 6 + ["{0}, e = {1}, 1", "[{0}, e] = [{1}, 2]"])
            self._lines.append(form.format(name, made))
        used = set(re.findall(r"\b[abcd]\b", made))
        self._shared |= used | ({name} if used else set())
        for names in self._names.values():
            names[:] = [each for each in names if each != name]
        self._names[kind].append(name)

    def _statement(self) -> None:
        draw = self._draw
        change = self._change()
        indented = f"    {change}"
        roll = draw.random()
        if roll < 0.4:
            self._lines.append(change)
        elif roll < 0.5:
            self._lines += [f"if {self.number(0)}:", indented]
        elif roll < 0.6:
            self._lines += [f"for {draw.choice('abcdw')} in {self.sequence(1)}:", indented]
        elif roll < 0.75:
            given = draw.choice(["", f"{draw.choice('abcd')}={self.value(1)}"])
            body = [indented, f"    {self._call()}"]
            self._lines += [f"def f({given}):", *body[draw.randint(0, 1) :], "f()"]
        elif roll < 0.9:
            self._lines += [
                "def g():", f"    global {draw.choice('abcd')}", indented,
                draw.choice(["g()", "unknown(g)", "g"]),
            ]  # fmt: skip
        else:
            self._define()

    def _change(self) -> str:
        draw = self._draw
        kinds = [(kind, name) for kind, names in self._names.items() for name in names]
        # What a change through another name does is not followed.
        own = [each for each in kinds if each[1] not in self._shared]
        if not own:
            return "pass"
        kind, name = draw.choice(own)
        return draw.choice(CHANGES[kind]).format(name, self.value(1))

    def _call(self) -> str:
        draw = self._draw
        given = [f"{key}={self.value()}" for key in draw.sample(KEYS, draw.randint(0, 3))]
        if draw.random() < 0.6:
            given.append(f"**{self.mapping()}")
        return f"AdaLoraConfig({', '.join(given)})"


_PLAIN = {str, int, float, bool, type(None)}


class _Set(list[Any]):
    """The entries of a set, in any order."""


def _plain(value: Any, depth: int = 8) -> Any:
    """Return a value as the reader gives it; what it never knows is UNKNOWN."""
    if depth == 0:
        return UNKNOWN
    if isinstance(value, (set, frozenset)):
        return _Set(_plain(each, depth - 1) for each in value)
    if isinstance(value, (list, tuple, range)):
        return [_plain(each, depth - 1) for each in value[:100]]
    if isinstance(value, dict):
        names = (key if type(key) in _PLAIN else UNKNOWN for key in value)
        return {n: _plain(entry, depth - 1) for n, entry in zip(names, value.values(), strict=True)}
    return value if type(value) in _PLAIN else UNKNOWN


def _is_same(found: Any, plain: Any, *, is_ordered: bool) -> bool:
    if isinstance(plain, list):
        if not isinstance(found, list) or len(found) != len(plain):
            return False
        if is_ordered and not isinstance(plain, _Set):
            return all(_is_same(*each, is_ordered=True) for each in zip(found, plain, strict=True))
        return all(any(_is_same(f, p, is_ordered=is_ordered) for f in found) for p in plain)
    if isinstance(plain, dict):
        return (
            isinstance(found, dict)
            and found.keys() == plain.keys()
            and all(_is_same(found[key], plain[key], is_ordered=is_ordered) for key in plain)
        )
    return type(found) is type(plain) and repr(found) == repr(plain)


def _passed(code: str, rolls: random.Random) -> list[tuple[int, dict[str, Any]]]:
    """Return the line and the arguments of each call that a run of the code makes."""
    passed: list[tuple[int, dict[str, Any]]] = []

    def config(**given: Any) -> Any:
        line = sys._getframe(1).f_lineno
        passed.append((line, {name: _plain(value) for name, value in given.items()}))

    def unknown(*_: object, **__: object) -> Any:
        return rolls.choice([0, 1, "q", ["v"], {"x": 3}, None, 2.5])

    left = MOST_LINES

    def count(frame: FrameType, *_: object) -> Any:
        nonlocal left
        left -= frame.f_code.co_filename == "script"
        if left < 0 and frame.f_code.co_filename == "script":
            raise TimeoutError
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        with contextlib.suppress(Exception, SystemExit), contextlib.redirect_stderr(io.StringIO()):
            names = {"AdaLoraConfig": config, "unknown": unknown}
            exec(compile(code, "script", "exec"), names)  # noqa: S102 - a text of this module
    finally:
        sys.settrace(before)
    return passed


def difference(code: str, rolls: random.Random) -> str | None:
    """Return what the reader knows and a run of the code contradicts, or None."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    calls = {call.node.lineno: call for call in Script(code, tree).calls}
    has_sets = any(isinstance(node, ast.Set) for node in ast.walk(tree)) or "set(" in code
    for line, given in _passed(code, rolls):
        call = calls[line]
        for name, value in call.values.items():
            if name in call.deferred or holds_unknown(value):
                continue
            if name not in given:
                return f"line {line}: {name} is {value!r} here, and is not passed"
            if not _is_same(value, given[name], is_ordered=not has_sets):
                return f"line {line}: {name} is {value!r} here, and {given[name]!r} is passed"
        more = given.keys() - call.values.keys() - call.deferred
        if more and not call.is_open:
            return f"line {line}: {sorted(more)} are passed, and unknown here"
    return None


_LITERALS = [
    *NUMBERS[:14], *TEXTS, *OTHERS[:5], "9" * 70, "-" + "9" * 90, "1e999", "0o17", "-0", "1E-9",
    "00", "'''a\nb'''", "'\\N{BULLET}'", "'\\ud800'", "rb'\\'", "'é'", "1_000.0_1", "0XfF",
]  # fmt: skip
_SIGNS = ["(", ")", "[", "]", "{", "}", ",", ":", "'", '"', "\\", "\n", "*", "-", " ", "j", "0"]


def literal(draw: random.Random, depth: int = 3) -> str:
    """Return a literal, or an expression that nearly is one."""
    if depth <= 0 or draw.random() < 0.3:
        return draw.choice(_LITERALS)
    inner = [literal(draw, depth - 1) for _ in range(draw.randint(0, 4))]
    listed = ", ".join(inner)
    pairs = ", ".join(f"{literal(draw, 0)}: {each}" for each in inner)
    made = draw.choice([
        f"[{listed}]", f"({listed}{',' * bool(inner)})", f"{{{listed}}}" if inner else "set()",
        f"{{{pairs}}}", f"{draw.choice('-+')}{literal(draw, 0)}", f"({literal(draw, depth - 1)})",
        f"{literal(draw, 0)} {draw.choice('+-')} 2j", " ".join(draw.choices(TEXTS, k=2)),
    ])  # fmt: skip
    if draw.random() < 0.1:
        at = draw.randrange(len(made))
        made = made[:at] + draw.choice(_SIGNS) + made[at + draw.randint(0, 2) :]
    return made


def literal_difference(text: str) -> str | None:
    """Return how the value of a literal differs from that of `ast.literal_eval`, or None."""
    code = f"AdaLoraConfig(init_r=({text}\n))"
    try:
        given = _plain(ast.literal_eval(text.strip()))
        tree = ast.parse(code)
    except (SyntaxError, ValueError, TypeError):
        return None
    call = Script(code, tree).calls[0]
    value = call.values["init_r"]
    if holds_unknown(given) or _is_beyond(given):
        return None if holds_unknown(value) else f"{value!r} here, and {given!r}"
    is_same = _is_same(value, given, is_ordered=True) and not call.deferred
    return None if is_same else f"{value!r} here, and {given!r}"


def _is_beyond(value: Any) -> bool:
    """Return whether a value holds a negative number beyond the bound of computed ones."""
    if isinstance(value, dict):
        return any(map(_is_beyond, [*value, *value.values()]))
    if isinstance(value, list):
        return any(map(_is_beyond, value))
    return type(value) is int and value < -(1 << 256)
