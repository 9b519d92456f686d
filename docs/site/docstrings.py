"""Let the reference read the `Example:` section of a docstring as a Python session."""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(r"^Example:$", re.MULTILINE)


class ExampleSections(griffe.Extension):
    """Renames the section to the name that griffe knows; otherwise it would be prose."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of every object that is read."""
        if obj.docstring is not None:
            obj.docstring.value = SECTION.sub("Examples:", obj.docstring.value)


class OwnExports(griffe.Extension):
    """Ignores an `__all__` that is another package's: griffe reads strings only."""

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
        """Leave the names of such a module to the filters."""
        if any(not isinstance(name, str) for name in mod.exports or ()):
            mod.exports = None
