"""Give modules further names, such as the paths that they had in earlier releases.

Importing such a name gives the module itself, never a copy.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False  # as in the facade, which imports this module at once
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import Any


class ModuleAliases:
    """A finder of modules, to be put first: that of files would load a file a second time.

    `target_of` takes the name that is imported, and returns that of the module, or None.
    """

    def __init__(self, target_of: Callable[[str], str | None]) -> None:
        self._target_of = target_of

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec if the name is an alias of a module that exists."""
        del path, target
        name = self._target_of(fullname)
        if name is None:
            return None
        from importlib.util import find_spec

        loader: Any = self
        return None if find_spec(name) is None else ModuleSpec(fullname, loader)

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system make an empty module; `exec_module` replaces it."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module itself in the place of the empty one."""
        from importlib import import_module

        target = self._target_of(module.__name__)
        assert target is not None  # noqa: S101 - `find_spec` has asked
        sys.modules[module.__name__] = import_module(target)


_FORMER = {
    "budget": "floor.budget",
    "cli": "commands.cli",
    "contract": "checker",
    "contract.fields": "config.fields",
    "contract.findings": "config.findings",
    "contract.model": "config.model",
    "contract.pipeline.assembly": "checker.pipeline.inspection",
    "contract.pipeline.options": "checker.pipeline",
    "contract.rules": "config.rules",
    "contract.schemas": "config.schemas",
    "contract.text": "checker.documents",
    "contract.text.formats": "checker.documents.document",
    "contract.text.limits": "floor.limits",
    "contract.text.places": "floor.places",
    "errors": "floor.errors",
    "files": "floor.files",
    "integrations": "trainers",
    "integrations.peft": "bridge",
    "integrations.peft.bridge": "bridge.attaching",
    "rank_report": "commands.rank_report",
    "server": "commands.server",
}
"""The longest name in front of a path decides. All are below `adalora_core`."""

_PACKAGE = "adalora_core."


def present_path(name: str) -> str | None:
    """Return where a module is that had another path once; None: the path is today's.

    Example:
        >>> present_path("adalora_core.integrations.peft.bridge")
        'adalora_core.bridge.attaching'
    """
    if not name.startswith(_PACKAGE):
        return None
    steps = name.removeprefix(_PACKAGE).split(".")
    for end in range(len(steps), 0, -1):
        former = ".".join(steps[:end])
        if former in _FORMER:
            return _PACKAGE + ".".join([_FORMER[former], *steps[end:]])
    return None
