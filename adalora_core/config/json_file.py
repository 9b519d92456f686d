"""Read the JSON object of a file within limits, without positions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adalora_core.floor.escaping import visible
from adalora_core.floor.files import read_start
from adalora_core.floor.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from pathlib import Path


def object_in(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file exceeds a limit, is not a JSON object, or gives a key twice.
    """
    raw = read_start(path, DEFAULT_LIMITS.file_bytes + 1)
    try:
        return _decoded(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r}: {visible(str(error))}") from None


def _decoded(raw: bytes) -> dict[str, Any]:
    if len(raw) > DEFAULT_LIMITS.file_bytes:
        raise ValueError(f"the document has more than {DEFAULT_LIMITS.file_bytes} bytes")
    values = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=without_repetition)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the content is wrong, not a type
    _bound_depth(values, DEFAULT_LIMITS.depth)
    json.dumps(values, ensure_ascii=False).encode()  # half of a surrogate pair is not text
    return values


def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of decoded pairs; a ValueError if a key appears twice."""
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r} appears twice")
        values[key] = value
    return values


def _bound_depth(value: Any, left: int) -> None:
    if isinstance(value, dict | list):
        if left == 0:
            raise ValueError(f"the document is nested deeper than {DEFAULT_LIMITS.depth} levels")
        for each in value.values() if isinstance(value, dict) else value:
            _bound_depth(each, left - 1)
