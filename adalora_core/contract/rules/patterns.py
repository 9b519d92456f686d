"""Family ADA5xx: names and regular expressions in the fields that select modules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adalora_core.contract.rules.base import SOUND, Finding, Rule
from adalora_core.contract.rules.input import LIMIT_EXCEEDED
from adalora_core.contract.text.changes import Put, Remedy
from adalora_core.module_selection import ALL_LINEAR, is_all_linear

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.contract.fields.block import Block
    from adalora_core.contract.text.places import Path

MODULES = ("target_modules", "exclude_modules")
EXPRESSIONS = (*MODULES, "layers_pattern")
_META = re.compile(r"[\\^$*+?{}\[\]|()]")
_PLAIN = re.compile(r"[\w.\-]+")


def _expressions(block: Block) -> Iterator[tuple[str, Path, str]]:
    """Yield field, path and text of each string that PEFT passes to `re`."""
    for name in MODULES:
        value = block[name]
        if isinstance(value, str) and name not in block.invalid and not is_all_linear(value):
            yield name, block.at(name), value
    layers = block["layers_pattern"]
    if "layers_pattern" not in block.invalid:
        entries = layers if isinstance(layers, list) else [layers]
        for index, entry in enumerate(entries):
            if isinstance(entry, str):
                subpath = (index,) if isinstance(layers, list) else ()
                yield "layers_pattern", block.at("layers_pattern", *subpath), entry


class InvalidRegex(Rule):
    code = "ADA501"
    name = "invalid-regex"
    severity = "error"
    summary = "a string that PEFT reads as a regular expression is not a valid one"
    why = (
        "A target_modules string is matched with re.fullmatch against every module path. An "
        "invalid expression raises when the adapter is injected."
    )
    bad = SOUND | {"target_modules": r".*\.(q_proj|v_proj"}
    hint = "correct the expression, or write a list of names"
    only_if_set = EXPRESSIONS

    def check(self, block: Block) -> Iterator[Finding]:
        for name, path, text in _expressions(block):
            judgement = block.expressions.judge(text)
            if judgement.error is not None:
                message = f"`{name}` is not a valid regular expression: {judgement.error}"
                yield Finding(self, path, message)
            if judgement.too_large is not None:
                yield Finding(
                    LIMIT_EXCEEDED, path, f"`{name}` is too large to check: {judgement.too_large}"
                )


class SlowRegex(Rule):
    code = "ADA502"
    name = "slow-regex"
    severity = "warning"
    summary = "a regular expression repeats a repetition and may take exponential time"
    why = (
        "(a+)+ tries every way to divide the text between the two repetitions before it fails. On "
        "a module path of 30 characters that takes minutes, for every module."
    )
    bad = SOUND | {"target_modules": r"(\w+)+_proj"}
    hint = "repeat once: write a+ in place of (a+)+"
    only_if_set = EXPRESSIONS

    def check(self, block: Block) -> Iterator[Finding]:
        for name, path, text in _expressions(block):
            slow = block.expressions.judge(text).slow
            if slow is not None:
                yield Finding(
                    self,
                    path,
                    f"`{name}` may take exponential time: it repeats a repetition, {slow}",
                )


class RegexVaries(Rule):
    code = "ADA503"
    name = "regex-varies"
    severity = "warning"
    summary = "versions of Python read a regular expression differently"
    why = (
        "Python warns about syntax whose meaning will change, and a++ and (?>...) exist only since "
        "Python 3.11."
    )
    bad = SOUND | {"target_modules": r"[[a-z]+_proj"}
    hint = "escape the bracket with a backslash, or write the expression without new syntax"
    only_if_set = EXPRESSIONS

    def check(self, block: Block) -> Iterator[Finding]:
        for name, path, text in _expressions(block):
            varies = block.expressions.judge(text).varies
            if varies is not None:
                yield Finding(self, path, f"`{name}` depends on the Python version: {varies}")


class NameAsRegex(Rule):
    code = "ADA504"
    name = "name-as-regex"
    severity = "warning"
    summary = "target_modules is one plain name, which PEFT reads as a regular expression"
    why = (
        'In a list "q_proj" matches every path that ends in it. As a string it must match the '
        "whole path, so it finds only a module of that name at the top of the model. Usually there "
        "is none, and PEFT raises."
    )
    bad = SOUND | {"target_modules": "q_proj"}
    hint = "write a list of names"
    unsafe_fix = (
        "the name becomes a list with one name; all_linear and similar spellings become all-linear"
    )
    inputs = ("target_modules",)

    def check(self, block: Block) -> Iterator[Finding]:
        value = block["target_modules"]
        if not isinstance(value, str) or is_all_linear(value):
            return
        if not _PLAIN.fullmatch(value):
            return
        path = block.at("target_modules")
        hint = f'write ["{value}"], or ".*{value}"'
        remedy = Remedy("Write a list with one name", (Put(path, [value]),), is_safe=False)
        if re.sub(r"[\W_]", "", value.lower()) == "alllinear":
            hint = f'write "{ALL_LINEAR}"'
            remedy = Remedy(f"Write {ALL_LINEAR}", (Put(path, ALL_LINEAR),), is_safe=False)
        yield Finding(
            self,
            path,
            f"`target_modules` {value!r} is matched against the whole module path, not its end",
            hint=hint,
            remedy=remedy,
        )


class ListAsString(Rule):
    code = "ADA505"
    name = "list-as-string"
    severity = "error"
    summary = "several module names are written in one string"
    why = (
        "PEFT reads the string as one regular expression over the whole path. No path has commas "
        "or blanks, so nothing matches, and PEFT raises when the adapter is injected."
    )
    bad = SOUND | {"target_modules": "q_proj,v_proj"}
    hint = "write a list of names"
    safe_fix = "target_modules becomes a list of the names"
    unsafe_fix = "exclude_modules, which excluded nothing before, becomes a list of the names"
    inputs = ("target_modules", "exclude_modules")

    def check(self, block: Block) -> Iterator[Finding]:
        for name in MODULES:
            value = block[name]
            if not isinstance(value, str) or _META.search(value):
                continue
            names = [part for part in re.split(r"[,;\s]+", value) if part]
            if len(names) > 1:
                listed = ", ".join(f'"{part}"' for part in names)
                yield Finding(
                    self,
                    block.at(name),
                    f"`{name}` holds {len(names)} names in one string",
                    hint=f"write [{listed}]",
                    remedy=Remedy(
                        "Write a list of names",
                        (Put(block.at(name), names),),
                        is_safe=name == "target_modules",
                    ),
                )


class RegexInList(Rule):
    code = "ADA506"
    name = "regex-in-list"
    severity = "warning"
    summary = "an entry of a list of module names is written as a regular expression"
    why = (
        'Entries of a list are compared literally with the end of the module path, so ".*q_proj" '
        "matches nothing. Only a single string is a regular expression."
    )
    bad = SOUND | {"target_modules": ["q_proj", r".*v_proj$"]}
    hint = "write the plain name, or one string with all alternatives: .*(q_proj|v_proj)"
    unsafe_fix = "an entry that is a plain name between .* and $ becomes that name"
    inputs = ("target_modules", "exclude_modules")

    def check(self, block: Block) -> Iterator[Finding]:
        for name in MODULES:
            value = block[name]
            for index, entry in enumerate(value if isinstance(value, list) else ()):
                if _META.search(entry):
                    path = block.at(name, index)
                    plain = re.fullmatch(r"\^?(?:\.\*(?:\\\.)?)?([\w-]+)\$?", entry)
                    remedy = None
                    if plain:
                        change = Put(path, plain[1])
                        remedy = Remedy("Write the plain name", (change,), is_safe=False)
                    yield Finding(
                        self,
                        path,
                        f"`{name}` entry {entry!r} is compared literally: a list entry is not a "
                        "regular expression",
                        remedy=remedy,
                    )


class EntryMatchesNothing(Rule):
    code = "ADA507"
    name = "entry-matches-nothing"
    severity = "error"
    summary = "an entry of a list of module names cannot match any module path"
    why = (
        '"all-linear" means all linear layers only as a single string; in a list it is the name of '
        "a module. No path has an empty part, so an empty name matches nothing, nor does a name "
        "with a dot at either end. PEFT raises if no other entry matches; otherwise it ignores the "
        "entry silently."
    )
    bad = SOUND | {"target_modules": ["all-linear"]}
    hint = "write the plain names of modules"
    safe_fix = "a target_modules list whose only entry is all-linear becomes that string"
    inputs = ("target_modules", "exclude_modules")

    def check(self, block: Block) -> Iterator[Finding]:
        for name in MODULES:
            value = block[name]
            for index, entry in enumerate(value if isinstance(value, list) else ()):
                if is_all_linear(entry):
                    yield self._all_linear(block, name, index)
                elif _META.search(entry):
                    continue  # reported by rule regex-in-list
                elif not entry or entry.startswith(".") or entry.endswith("."):
                    message = f"`{name}` entry {entry!r} matches nothing: no module path ends in it"
                    yield Finding(self, block.at(name, index), message)

    def _all_linear(self, block: Block, name: str, index: int) -> Finding:
        hint = remedy = None
        if name == "target_modules":
            hint = f'write "{ALL_LINEAR}" without a list'
            if len(block[name]) == 1:
                remedy = Remedy(hint.capitalize(), (Put(block.at(name), ALL_LINEAR),))
        return Finding(
            self,
            block.at(name, index),
            f"`{name}` entry {block[name][index]!r} is read as a module name: it is in a list",
            hint=hint,
            remedy=remedy,
        )


RULES = (
    InvalidRegex(),
    SlowRegex(),
    RegexVaries(),
    NameAsRegex(),
    ListAsString(),
    RegexInList(),
    EntryMatchesNothing(),
)
