"""Describe targets that match no module of a model, with the names that the model has."""

from __future__ import annotations

import difflib
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adalora_core.config.fields.known_modules import kind_of, usual_targets
from adalora_core.config.fields.value_kinds import name_of_value

if TYPE_CHECKING:
    from adalora_core.checker.plan.modules import BaseModel, Kind, Module
    from adalora_core.floor.expressions.matching import Matcher

_NAMES_SHOWN = 12
_TARGETS_SHOWN = 8
_PATHS_SHOWN = 3
_PROBLEMS_SHOWN = 100
_SHOWN_KINDS: dict[Kind, str] = {
    "matrix": "linear layers",
    "convolution": "convolutions",
    "packed": "packed layers",
    "embedding": "embeddings",
}
_NAMES_COMPARED = 200
"""Names of the model, the most frequent ones, that may be meant by a name that matches nothing."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A setting that does not fit the model.

    Args:
        field: the name of the setting.
        message: the problem, with the value.
        hint: what to do, with names of the model.
    """

    field: str
    message: str
    hint: str


def absent_names(names: Iterable[str], paths: Iterable[str]) -> Iterator[str]:
    """Yield the names that no path ends with."""
    ends = sorted(path[::-1] for path in paths)
    for name in names:
        place = bisect_left(ends, name[::-1])
        if not any(end.startswith(name[::-1]) for end in ends[place : place + 1]):
            yield name


def unmatched_targets(
    targets: str | Sequence[str],
    model: BaseModel,
    matcher: Matcher,
    field: str = "target_modules",
) -> dict[int, str]:
    """Return the entries that match no module by their place, other settings aside."""
    if isinstance(targets, str):
        matches = (matcher.matches(targets, path, field) for path in model.modules)
        return {} if any(matches) else {0: targets}
    names, paths = (f".{name}" for name in targets), (f".{path}" for path in model.modules)
    absent = set(absent_names(names, paths))
    return {index: name for index, name in enumerate(targets) if f".{name}" in absent}


def few(notes: Iterable[str]) -> list[str]:
    """Return notes that a long setting has, and how many more there are than are shown."""
    found = list(notes)
    more = [f"{len(found) - _PROBLEMS_SHOWN} more such entries"]
    return found if len(found) <= _PROBLEMS_SHOWN else found[:_PROBLEMS_SHOWN] + more


def ignored_targets(unmatched: dict[int, str], model: BaseModel) -> list[str]:
    """Return a note for each entry that matches nothing, where another one matches."""
    hint = names_of(model)
    notes = []
    for index, name in list(unmatched.items())[:_PROBLEMS_SHOWN]:
        advice = "write names, a list holds no regular expressions; "
        if not _is_expression(name):
            near = _near([name], model)
            advice = f"did you mean {json.dumps(near)}? " if near else ""
        notes.append(f"target_modules[{index}] {name!r} matches no module; {advice}{hint}")
    if more := len(unmatched) - len(notes):
        notes.append(f"{more} more entries match no module; {hint}")
    return notes


def no_target_matches(targets: str | Sequence[str], model: BaseModel, matcher: Matcher) -> Mismatch:
    """Return the problem of targets of which none matches a module."""
    if isinstance(targets, str):
        message = f"target_modules {shown_value(targets)} matches no module"
        return Mismatch("target_modules", message, _hint_on_expression(targets, model, matcher))
    shown = shown_value(targets[:_TARGETS_SHOWN])
    if more := len(targets[_TARGETS_SHOWN:]):
        shown += f" and {more} more"
    inner = [module.name for module in _adaptable(model) if not model.is_output_head(module)]
    usual = usual_targets(inner, model.model_type)
    advice = ""
    if any(map(_is_expression, targets)):
        advice = "write names, a list holds no regular expressions; "
    elif not any(map(kind_of, targets)) and (near := _near(targets[:_TARGETS_SHOWN], model)):
        advice = f"did you mean {json.dumps(near)}? "
    elif usual:
        advice = f"write the usual targets of the architecture, {json.dumps(usual)}; "
    return Mismatch(
        "target_modules", f"target_modules {shown} matches no module", advice + names_of(model)
    )


def _is_expression(name: str) -> bool:
    return re.search(r"[\\^$*+?{}\[\]|()]", name) is not None


def _hint_on_expression(expression: str, model: BaseModel, matcher: Matcher) -> str:
    paths = [module.path for module in _adaptable(model)]
    anywhere = f".*(?:{expression})"
    if any(matcher.matches(anywhere, path, "target_modules") for path in paths):
        return f'a string must match a whole path: write ".*({expression})" or a list of names'
    return f"write an expression for paths such as {', '.join(paths[:_PATHS_SHOWN]) or 'none'}"


def _near(names: Iterable[str], model: BaseModel) -> list[str]:
    """Return the model's names that misspelt ones resemble by their last part, or begin.

    The name of a layer of another architecture is not misspelt.
    """
    counts = Counter(module.name for module in _adaptable(model))
    known = sorted(name for name, _ in counts.most_common(_NAMES_COMPARED))
    near: set[str] = set()
    for name in names:
        last = name.rpartition(".")[2]
        begun = [each for each in known if f"{each}_".startswith(f"{last}_")]
        is_misspelt = not begun and kind_of(last) is None
        near.update(difflib.get_close_matches(last, known, 1) if is_misspelt else begun)
    return sorted(near)


def names_of(model: BaseModel) -> str:
    """List the names of the model's modules by kind, the most frequent ones first."""
    lists = []
    for kind, what in _SHOWN_KINDS.items():
        counts = Counter(module.name for module in model.of_kind(kind))
        shown = [f"{name} ({count})" for name, count in counts.most_common(_NAMES_SHOWN)]
        more = f" and {len(counts) - len(shown)} more" if len(counts) > len(shown) else ""
        if shown:
            lists.append(f"the {what} {', '.join(shown)}{more}")
    return f"the model has {'; '.join(lists) or 'no module that can be adapted'}"


def _adaptable(model: BaseModel) -> list[Module]:
    return model.of_kind("matrix", "convolution", "packed")


def shown_value(value: object) -> str:
    """Return a value for a message."""
    return repr(value) if isinstance(value, (str, list, tuple, int)) else name_of_value(value)
