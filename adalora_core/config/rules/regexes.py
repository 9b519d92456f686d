"""Family ADA5xx, first part: regular expressions in the fields that select modules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from adalora_core.config.rules.base import SOUND, SOUND_TEXT, Finding, Findings, Rule
from adalora_core.floor.module_selection import is_all_linear

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.config.fields.block import Block
    from adalora_core.floor.places import Path

MODULES = ("target_modules", "exclude_modules")
KEYS = {
    "alpha_pattern": r"(.*\.)?({})$",
    "rank_pattern": r"(.*\.)?({})$",
    "modules_to_save": r"(^|.*\.){}($|\..*)",
}
"""The expressions that PEFT makes of keys and names, by field."""
_OTHERS = frozenset({"exclude_modules", "layers_pattern", *KEYS})
EXPRESSIONS = (*MODULES, "layers_pattern", *KEYS)
_META = re.compile(r"[\\^$*+?{}\[\]|()]")


class LimitExceeded(Rule):
    code = "ADA005"
    summary = "the document is larger, deeper or longer than the limits allow"
    why = """A configuration has a hundred values, not a million. The limits keep a broken or
    hostile file from hanging a pipeline; `adalora check --limit NAME=NUMBER` raises them."""
    bad = "[" * 100 + "]" * 100
    good = SOUND_TEXT
    hint = "check that this is the intended file, or raise the limit with --limit"
    can_be_ignored = False
    needs = "source"


class _Expression(NamedTuple):
    """A string that PEFT passes to `re`.

    Attributes:
        field: the field that holds it.
        path: its path.
        text: the string.
        whole: the expression that PEFT makes of it.
    """

    field: str
    path: Path
    text: str
    whole: str


def _expressions(block: Block) -> Iterator[_Expression]:
    if isinstance(block["target_modules"], list) and block.changed.isdisjoint(_OTHERS):
        return  # the usual case
    for name in MODULES:
        value = block[name]
        if isinstance(value, str) and name not in block.invalid and not is_all_linear(value):
            yield _Expression(name, block.at(name), value, value)
    layers = block["layers_pattern"]
    if "layers_pattern" not in block.invalid and block["layers_to_transform"] != []:
        entries = layers if isinstance(layers, list) else [layers]
        for index, entry in enumerate(entries):
            if isinstance(entry, str):
                subpath = (index,) if isinstance(layers, list) else ()
                whole = rf"(?:^|.*?\.){entry}\.(?P<idx>\d+)\."
                path = block.at("layers_pattern", *subpath)
                yield _Expression("layers_pattern", path, entry, whole)
    yield from _keys(block)


def _keys(block: Block) -> Iterator[_Expression]:
    """Yield the names that PEFT puts into expressions, where they are more than names."""
    for field, form in KEYS.items():
        # This package reads them as names, but for alpha_pattern at the start of a training.
        is_read = block.runtime == "peft" or (field == "alpha_pattern" and not block.is_saved)
        if field in block.invalid or not is_read:
            continue
        names = block[field] or ()
        for index, name in enumerate(names):
            if isinstance(name, str) and _META.search(name):
                path = block.at(field, name if isinstance(names, dict) else index)
                yield _Expression(field, path, name, form.format(name))


class InvalidRegex(Rule):
    code = "ADA501"
    summary = "a string that PEFT reads as a regular expression is not a valid one"
    why = """A target_modules string is matched with re.fullmatch against every module path. PEFT
    also puts the keys of alpha_pattern and rank_pattern, and the names in modules_to_save, into
    expressions. An invalid one raises when the adapter is injected."""
    bad = SOUND | {"target_modules": r".*\.(q_proj|v_proj"}
    hint = "correct the expression, or write a list of names"
    only_if_set = EXPRESSIONS

    def check(self, block: Block) -> Findings:
        for name, path, text, whole in _expressions(block):
            plain = block.expressions.judge(text)
            judgement = plain if whole == text else block.expressions.judge(whole)
            error = judgement.error
            if name not in KEYS:
                error = plain.error or error
            if error is not None:
                error = plain.error or error
                what = f"the key {text!r} of `{name}`" if name in KEYS else f"`{name}`"
                yield self.found(path, f"{what} is not a valid regular expression: {error}")
            too_large = plain.too_large or judgement.too_large
            if too_large is not None:
                yield Finding(LimitExceeded, path, f"`{name}` is too large to check: {too_large}")


class SlowRegex(Rule):
    code = "ADA502"
    severity = "warning"
    summary = "a regular expression repeats a repetition and may take exponential time"
    why = """(a+)+ tries every way to divide the text between the two repetitions before it fails.
    On a module path of 30 characters that takes minutes, for every module."""
    bad = SOUND | {"target_modules": r"(\w+)+_proj"}
    hint = "repeat once: write a+ in place of (a+)+"
    only_if_set = EXPRESSIONS

    def check(self, block: Block) -> Findings:
        for name, path, text, _ in _expressions(block):
            slow = block.expressions.judge(text).slow
            if slow is not None:
                yield self.found(
                    path, f"`{name}` may take exponential time: it repeats a repetition, {slow}"
                )


class RegexVaries(Rule):
    code = "ADA503"
    severity = "warning"
    summary = "versions of Python read a regular expression differently"
    why = """Python warns about syntax whose meaning will change, and a++ and (?>...) exist only
    since Python 3.11."""
    bad = SOUND | {"target_modules": r"[[a-z]+_proj"}
    hint = "escape the bracket with a backslash, or write the expression without new syntax"
    only_if_set = EXPRESSIONS

    def check(self, block: Block) -> Findings:
        for name, path, text, _ in _expressions(block):
            varies = block.expressions.judge(text).varies
            if varies is not None:
                yield self.found(path, f"`{name}` depends on the Python version: {varies}")
