"""From text to a decoded document that knows where everything stands."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adalora_core.contract.sources.document import Document
    from adalora_core.contract.sources.limits import Limits
    from adalora_core.contract.sources.reading import Format

# Imported when the first document of the format comes: JSON must not pay for YAML.
_MODULES: dict[Format, str] = {"json": "json_source", "yaml": "yaml_source", "toml": "toml_source"}


def decode(text: str, format: Format, limits: Limits) -> Document:  # noqa: A002 - the option's name
    """Decode `text`; whatever is wrong with it becomes a finding of the document."""
    module = importlib.import_module(f"{__name__}.{_MODULES[format]}")
    document: Document = module.decode(text, limits)
    document.format = format
    return document
