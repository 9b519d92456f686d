"""How the reference reads docstrings: the examples of an `Example:` section are sessions."""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(r"^Example:$", re.MULTILINE)


class ExampleSections(griffe.Extension):
    """Gives the section the name under which griffe knows it; else it would be prose."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of every object that is read."""
        if obj.docstring is not None:
            obj.docstring.value = SECTION.sub("Examples:", obj.docstring.value)
