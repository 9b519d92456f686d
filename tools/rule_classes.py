"""Find rule classes that would lose their page, or take that of another rule."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from adalora_core.checker import rules as of_documents
from adalora_core.config import rules as of_configurations
from adalora_core.config.rules.base import Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SHOWN = ("summary", "why", "hint", "bad")
"""The attributes without which a page cannot be written, beside `code`."""


def rule_classes() -> list[type[Rule]]:
    """Return the classes of all rules in all modules of both folders, without their bases."""
    for package in (of_configurations, of_documents):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    return [each for each in _descendants(Rule) if not each.__subclasses__()]


def _descendants(base: type[Rule]) -> Iterator[type[Rule]]:
    for each in base.__subclasses__():
        yield each
        yield from _descendants(each)


def refusals(classes: Iterable[type[Rule]], rules: Sequence[Rule]) -> Iterator[str]:
    """Yield what is wrong with each class: an attribute, its code, or its place in `rules`."""
    listed = {type(rule) for rule in rules}
    owners: dict[str, str] = {}
    for each in classes:
        name = f"{each.__module__.rpartition('.')[2]}.{each.__name__}"
        if each not in listed:
            yield f"{name} is not a rule yet: import its module in rules/__init__.py"
        for attribute in ("code", *SHOWN):
            if not getattr(each, attribute, None):
                yield f"{name}.{attribute} is missing"
        code = getattr(each, "code", name)
        if code in owners:
            yield f"{name}.code is {code}, as that of {owners[code]}: take another"
        owners[code] = name
