"""Family ADA5xx, first part: regular expressions and names in the fields that select modules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, partial
from typing import NamedTuple

from adalora_core.config.fields import known_modules as known
from adalora_core.config.fields.block import Block
from adalora_core.config.findings import Put, Remedy, Severity
from adalora_core.config.rules.base import SOUND, SOUND_TEXT, Finding, Findings, Rule, SharedRule
from adalora_core.floor.matching import is_cheap
from adalora_core.floor.module_selection import ALL_LINEAR, ends_with, is_all_linear
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
_PATH = 64
"""Characters of a long path of a module."""
_META = re.compile(r"[\\^$*+?{}\[\]|()]")
_NAME = re.compile(r"\w+")
_PLAIN = re.compile(r"[\w.\-]+")
ALL = frozenset({"all", "alllinear", "linear", "allmodules", "alllinears", "alllayers"})
"""Spellings of all-linear in other tools, without case and signs."""
DEFAULTS = frozenset({"auto", "default"})
"""Words of other tools for the targets of the model's type."""


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
    """A string that PEFT passes to `re`: `whole` is the expression that PEFT makes of it."""

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


class InvalidRegex(SharedRule):
    code = "ADA501"
    summary = "a string that PEFT reads as a regular expression is not a valid one"
    why = """A target_modules string is matched with re.fullmatch against every module path. PEFT
    also puts the keys of alpha_pattern and rank_pattern, and the names in modules_to_save, into
    expressions. An invalid one raises when the adapter is injected."""
    bad = SOUND | {"target_modules": r".*\.(q_proj|v_proj"}
    hint = "correct the expression, or write a list of names"

    def check(self, block: Block) -> Findings:
        for name, path, text, whole in _expressions(block):
            plain, judgement = map(block.expressions.judge, (text, whole))
            # A key need not be valid on its own.
            if judgement.error or (plain.error and name not in KEYS):
                error = plain.error or judgement.error
                what = f"the key {text!r} of `{name}`" if name in KEYS else f"`{name}`"
                yield self.found(path, f"{what} is not a valid regular expression: {error}")
            if too_large := plain.too_large or judgement.too_large:
                yield Finding(LimitExceeded, path, f"`{name}` is too large to check: {too_large}")


def _is_quick(text: str) -> bool:
    return is_cheap(text, _PATH, anywhere=False)


class SlowRegex(SharedRule):
    code = "ADA502"
    severity = "warning"
    summary = "a regular expression repeats a repetition and may take exponential time"
    why = """(a+)+ tries every way to divide the text between the two repetitions before it fails.
    On a module path of 30 characters that takes minutes, for every module."""
    bad = SOUND | {"target_modules": r"(\w+)+_proj"}
    hint = "repeat once: write a+ in place of (a+)+"

    def check(self, block: Block) -> Findings:
        for name, path, text, _ in _expressions(block):
            judged = block.expressions.judge(text)
            if judged.slow:
                fault = f"may take exponential time: it repeats a repetition, {judged.slow}"
                yield self.found(path, f"`{name}` {fault}")
            elif not (judged.error or judged.too_large or judged.varies or _is_quick(text)):
                fault = "is not matched against the names of modules: it may take long"
                yield self.found(path, f"`{name}` {fault}", severity="info")


class RegexVaries(SharedRule):
    code = "ADA503"
    severity = "warning"
    summary = "versions of Python read a regular expression differently"
    why = """Python warns about syntax whose meaning will change, and a++ and (?>...) exist only
    since Python 3.11."""
    bad = SOUND | {"target_modules": r"[[a-z]+_proj"}
    hint = "escape the bracket with a backslash, or write the expression without new syntax"

    def check(self, block: Block) -> Findings:
        for name, path, text, _ in _expressions(block):
            if varies := block.expressions.judge(text).varies:
                yield self.found(path, f"`{name}` depends on the Python version: {varies}")


def list_in_string(text: str) -> list[str]:
    """Return the names that one string lists, or none if it is something else.

    Example:
        >>> list_in_string("q_proj, v_proj"), list_in_string("['q_proj']"), list_in_string("q_proj")
        (['q_proj', 'v_proj'], ['q_proj'], [])
    """
    inner = text.strip()
    brackets = inner[:1] + inner[-1:]
    if brackets in {"[]", "{}", "()"}:
        inner = inner[1:-1]
    names = [part.strip("'\"") for part in re.split(r"[,;\s]+", inner) if part]
    is_list = names not in ([], [text]) and (len(names) > 1 or brackets != "()")
    return names if is_list and all(map(_PLAIN.fullmatch, names)) else []


def _are_linear(names: list[str]) -> bool:
    """Return whether each name is one of linear layers, so that a fix that writes it is right."""
    return all(known.kind_of(name) == "linear" for name in names)


def _may_be_written(entry: str, name: str, severity: Severity) -> bool:
    """Return whether a fix may write an entry: it removes the fault and adds no other."""
    if name != "target_modules" or _are_linear([entry]):
        return True
    return severity == "warning" and known.kind_of(entry) is None


def _can_match(entry: str) -> bool:
    return not is_all_linear(entry) and known.can_end_a_path(entry)


def _severity(block: Block, name: str) -> Severity:
    """Return the severity of an entry that matches nothing: an error if no other one can match."""
    is_needed = name == "target_modules" and not any(map(_can_match, block[name]))
    return "error" if is_needed else "warning"


class NameAsRegex(SharedRule):
    code = "ADA504"
    summary = "target_modules is one plain name, which PEFT reads as a regular expression"
    why = """In a list "q_proj" matches every path that ends in it. As a string it must match the
    whole path, so it finds only a module of that name at the top of the model, and PEFT raises if
    there is none. A name that is at the top of some model of transformers, such as lm_head, is a
    warning. PEFT has no "all" and no "auto"."""
    bad = SOUND | {"target_modules": "q_proj"}
    hint = "write a list of names"
    unsafe_fix = """a name of linear layers becomes a list with one name; all, all_linear and
    similar spellings become all-linear"""
    inputs = ("target_modules",)

    def check(self, block: Block) -> Findings:
        value = block["target_modules"]
        is_plain = isinstance(value, str) and _PLAIN.fullmatch(value) and not value.isdecimal()
        if not is_plain or is_all_linear(value):
            return  # a number is a module at the top of a sequence
        path, remedy = block.at("target_modules"), None
        fault = "is not a shorthand of PEFT"
        if value in DEFAULTS:
            hint = f'remove it for the targets that PEFT knows, or write "{ALL_LINEAR}"'
        elif re.sub(r"[\W_]", "", value.lower()) in ALL:
            hint = f'write "{ALL_LINEAR}"'
            remedy = Remedy(f"Write {ALL_LINEAR}", Put(path, ALL_LINEAR), is_safe=False)
        elif "." in value and (known.fit(value) or ("", ""))[0] != "nothing":
            return  # a whole path, or reported by rule target-not-linear
        else:
            fault = "is matched against whole paths, not their ends"
            hint = f'write ["{value}"], or ".*{value}"'
            if _are_linear([value]):
                change = Put(path, [value])
                remedy = Remedy("Write a list with one name", change, is_safe=False)
        can_match = "." in value or value in known.TOP
        yield self.found(
            path,
            f"`target_modules` {value!r} {fault}",
            severity="warning" if can_match or block.runtime != "peft" else None,
            hint=hint,
            remedy=remedy,
            target=value,
        )


class ListAsString(SharedRule):
    code = "ADA505"
    summary = "module names are written as a list in one string"
    why = """PEFT reads the string as one regular expression over the whole path. No path has
    commas, blanks or quotes, so nothing matches, and PEFT raises when the adapter is injected. In
    exclude_modules the string excludes nothing, which is a warning."""
    bad = SOUND | {"target_modules": "q_proj,v_proj"}
    hint = "write a list of names"
    safe_fix = "target_modules becomes a list of the names, if all are names of linear layers"
    unsafe_fix = """exclude_modules, which excluded nothing before, becomes a list of the names, if
    a target is left beside them"""
    inputs = ("target_modules", "exclude_modules")

    def check(self, block: Block) -> Findings:
        for name in MODULES:
            value = block[name]
            names = list_in_string(value) if isinstance(value, str) else []
            if names:
                listed = ", ".join(f'"{part}"' for part in names)
                is_target, path = name == "target_modules", block.at(name)
                remedy = Remedy("Write a list of names", Put(path, names), is_safe=is_target)
                is_right = _are_linear(names) if is_target else _leaves_a_target(block, names)
                counted = "a list of one name" if len(names) == 1 else f"{len(names)} names"
                yield self.found(
                    path,
                    f"`{name}` holds {counted} in one string",
                    severity=None if is_target else "warning",
                    hint=f"write [{listed}]",
                    remedy=remedy if is_right else None,
                )


def _leaves_a_target(block: Block, excluded: list[str]) -> bool:
    targets = block["target_modules"]
    named = targets if isinstance(targets, list) else []
    return is_all_linear(targets) or any(not ends_with(name, excluded) for name in named)


class RegexInList(SharedRule):
    code = "ADA506"
    severity = "warning"
    summary = "an entry of a list of module names is written as a regular expression"
    why = """Entries of a list are compared literally with the end of the module path, so ".*q_proj"
    matches nothing. Only a single string is a regular expression. If no other target can match,
    PEFT raises, and the finding is an error."""
    bad = SOUND | {"target_modules": ["q_proj", r".*v_proj$"]}
    hint = "write the plain name, or one string with all alternatives: .*(q_proj|v_proj)"
    unsafe_fix = "an entry that is a plain name between .* and $ becomes that name"
    inputs = ("target_modules", "exclude_modules")

    def check(self, block: Block) -> Findings:
        severity_of = cache(partial(_severity, block))  # once, however many entries match nothing
        for name in MODULES:
            value = block[name]
            for index, entry in enumerate(value if isinstance(value, list) else ()):
                if _META.search(entry):
                    path = block.at(name, index)
                    plain = re.fullmatch(r"\^?(?:\.\*(?:\\\.)?)?([\w-]+)\$?", entry)
                    remedy, severity = None, severity_of(name)
                    if plain and _may_be_written(plain[1], name, severity):
                        remedy = Remedy("Write the plain name", Put(path, plain[1]), is_safe=False)
                    message = (
                        f"`{name}` entry {entry!r} is compared literally: a list entry is not a "
                        "regular expression"
                    )
                    yield self.found(path, message, severity=severity, remedy=remedy)


class EntryMatchesNothing(SharedRule):
    code = "ADA507"
    summary = "an entry of a list of module names cannot match any module path"
    why = """"all-linear" means all linear layers only as a single string; in a list it is the name
    of a module. No path has blanks, commas or an empty part, so an empty name matches nothing, nor
    does a name with a dot at either end. PEFT raises if no other target can match; otherwise it
    ignores the entry silently, which is a warning. Every path ends in an empty name in
    modules_to_save, and lists of modules cannot be copied."""
    bad = SOUND | {"target_modules": ["all-linear"]}
    hint = "write the plain names of modules"
    safe_fix = """a target_modules list whose only entry is all-linear becomes that string; without
    another target that can match, blanks around a name of linear layers are removed"""
    unsafe_fix = "blanks around a name are removed beside other targets too"
    inputs = ("target_modules", "exclude_modules", "modules_to_save")

    def check(self, block: Block) -> Findings:
        severity_of = cache(partial(_severity, block))
        for name in MODULES:
            value = block[name]
            for index, entry in enumerate(value if isinstance(value, list) else ()):
                if _NAME.fullmatch(entry):
                    continue  # the usual case
                if not _can_match(entry) and not _META.search(entry):
                    yield self._of_entry(block, name, index, severity_of(name))
        for index, entry in enumerate(block["modules_to_save"] or ()):
            if not entry:
                message = "`modules_to_save` has an empty name, which means every module"
                yield self.found(block.at("modules_to_save", index), message)

    def _of_entry(self, block: Block, name: str, index: int, severity: Severity) -> Finding:
        entry, path = block[name][index], block.at(name, index)
        fault, plain = "matches nothing: no module path ends in it", entry.strip()
        hint = remedy = None
        if is_all_linear(entry):
            fault = "is read as a module name: it is in a list"
            if name == "target_modules":
                hint = f'write "{ALL_LINEAR}" without a list'
                if len(block[name]) == 1:
                    remedy = Remedy(hint.capitalize(), Put(block.at(name), ALL_LINEAR))
        else:
            if listed := list_in_string(entry):
                hint = f"write {', '.join(map(repr, listed))}"
            if plain != entry and _can_match(plain) and _are_linear([plain]):
                remedy = Remedy("Remove the blanks", Put(path, plain), is_safe=severity == "error")
        message = f"`{name}` entry {entry!r} {fault}"
        return self.found(path, message, severity=severity, hint=hint, remedy=remedy)
