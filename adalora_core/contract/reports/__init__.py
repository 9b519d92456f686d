"""Reports as text: one module per format, imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adalora_core.contract.diagnostics import Report

_MODULES = {"full": "full", "json": "json_report"}
FORMATS = tuple(_MODULES)


def render(reports: Sequence[Report], format: str) -> str:  # noqa: A002 - the option's name
    """Write reports in one format; the text ends with a newline.

    Raises:
        ValueError: there is no such format.
    """
    if format not in _MODULES:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[format]}")
    text: str = module.render(reports)
    return text
