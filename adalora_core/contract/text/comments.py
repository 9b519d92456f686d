"""Find the comments of a text; a hash inside a string does not begin one."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.contract.text.document import Document
    from adalora_core.contract.text.places import Extent

_HASH = re.compile(r"(?:^|(?<=\s))#[^\r\n]*")


def comments(document: Document) -> Iterator[Extent]:
    """Yield the extents of all comments, hashes included, of a text that was decoded."""
    if document.format == "toml":
        from adalora_core.contract.text.toml_places import STRING

        pattern = rf"({STRING.pattern})|\#[^\r\n]*+"
        for match in re.finditer(pattern, document.text, STRING.flags):
            if match[1] is None:
                yield match.span()
    elif document.script is not None:
        from adalora_core.contract.text.python.lexical import comments as in_code

        yield from in_code(document.script.code)
    elif document.format == "yaml":
        yield from _in_yaml(document.text)


def _in_yaml(text: str) -> Iterator[Extent]:
    from adalora_core.contract.text.yaml_source import scalar_extents

    scalars = scalar_extents(text)
    starts = [start for start, _ in scalars]
    at = 0
    while (match := _HASH.search(text, at)) is not None:
        index = bisect_right(starts, match.start()) - 1
        if index >= 0 and match.start() < scalars[index][1]:
            at = scalars[index][1]
        else:
            at = match.end()
            yield match.span()
