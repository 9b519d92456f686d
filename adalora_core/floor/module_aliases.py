"""Give the submodules of another package further names, as the changed import does for PEFT's.

Importing such a name gives the module itself, never a copy.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType


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
        loader: Any = self
        return None if find_spec(name) is None else ModuleSpec(fullname, loader)

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system make an empty module; `exec_module` replaces it."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module itself in the place of the empty one."""
        target = self._target_of(module.__name__)
        assert target is not None  # noqa: S101 - `find_spec` has asked
        sys.modules[module.__name__] = import_module(target)
