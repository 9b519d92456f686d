"""Look up names and paths of modules in the architectures of transformers."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

from adalora_core.config.fields import module_names as table
from adalora_core.floor.expressions.cost import is_cheap
from adalora_core.floor.expressions.paths import NOT_IN_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["linear", "embedding", "normalisation", "block"]
"""The kind of module that a name has in every architecture; `linear` if it is one in any."""

Fit = Literal["linear", "refused", "nothing"]
"""The modules that an expression matches: only linear ones in one architecture at least; in each of
them others too; no module of any."""

_LONGEST = 64
_LAYERS = 40
"""Layers that an expression with digits is tried with, where it does not match layer 0."""

_TOKEN = re.compile(r"[^\s()!]+|[()!]")

Architecture = tuple[tuple[str, bool], ...]
"""The path of each module, and whether it is linear."""


LINEAR, TOP, INPUT_EMBEDDINGS = (
    frozenset(words.split()) for words in (table.LINEAR, table.TOP, table.INPUT_EMBEDDINGS)
)
"""The names of linear modules, of those at the top of a model, and of input embeddings."""

_KINDS: dict[str, Kind] = dict.fromkeys(table.BLOCKS.split(), "block")
_KINDS |= dict.fromkeys(table.NORMS.split(), "normalisation")
_KINDS |= dict.fromkeys(table.EMBEDDINGS.split(), "embedding")
_KINDS |= dict.fromkeys(LINEAR, "linear")


def kind_of(entry: str) -> Kind | None:
    """Return the kind of the module that an entry of a list names, None if none has the name.

    Example:
        >>> kind_of("self_attn.q_proj"), kind_of("embed_tokens"), kind_of("my_layer")
        ('linear', 'embedding', None)
    """
    return _KINDS.get(entry.rpartition(".")[2])


def can_end_a_path(entry: str) -> bool:
    """Return whether the path of a module can end in an entry of a list.

    Example:
        >>> can_end_a_path("q_proj"), can_end_a_path("q_proj "), can_end_a_path(".*q_proj")
        (True, False, False)
    """
    return NOT_IN_NAMES.isdisjoint(entry) and all(entry.split("."))


@cache
def _architectures() -> tuple[Architecture, ...]:
    lines = re.sub(r"\n (?=\S)", " ", table.TREES).strip().splitlines()
    return tuple(tuple(_modules(line.partition(" ")[2])) for line in lines)


def _modules(tree: str) -> Iterator[tuple[str, bool]]:
    marks = [match[0] for match in _TOKEN.finditer(tree)]
    above: list[str] = []
    for mark, behind in zip(marks, [*marks[1:], ""], strict=True):
        if mark == ")":
            above.pop()
        elif mark not in {"(", "!"}:
            yield ".".join([*above, mark]), behind not in {"(", "!"}
            if behind == "(":
                above.append(mark)


@lru_cache(maxsize=256)
def fits_top(pattern: str) -> bool | None:
    """Return whether a valid expression matches a linear module at the top of a model.

    None if the expression may take many steps.
    """
    if not is_cheap(pattern, _LONGEST, anywhere=False):
        return None
    return any(map(re.compile(pattern).fullmatch, TOP))


@lru_cache(maxsize=256)
def fit(pattern: str) -> tuple[Fit, str] | None:
    """Return what a valid expression matches as a whole, and one path that shows it.

    None if the expression may take many steps.

    Example:
        >>> fit(r".*[.](q|v)_proj")[0], fit(".*self_attn.*"), fit(".*my_layer")
        ('linear', ('refused', 'model.layers.0.self_attn'), ('nothing', ''))
    """
    if not is_cheap(pattern, _LONGEST, anywhere=False):
        return None
    found = _fit(pattern, "0")
    if found[0] == "nothing" and re.search(r"\d|\\d", pattern):
        numbers = (_fit(pattern, str(number)) for number in range(1, _LAYERS))
        return next((other for other in numbers if other[0] != "nothing"), found)
    return found


def _fit(pattern: str, layer: str) -> tuple[Fit, str]:
    matches = re.compile(pattern).fullmatch
    refused = ""
    for modules in _architectures():
        others, linear = [], ""
        for path, is_linear in modules:
            actual = path if layer == "0" else path.replace(".0", f".{layer}")
            if matches(actual) is None:
                continue
            if is_linear:
                linear = actual
            else:
                others.append(actual)
        if linear and not others:
            return "linear", linear
        refused = refused or (others[0] if others else "")
    return ("refused", refused) if refused else ("nothing", "")
