"""Check AdaLoRA configurations in files, scripts and notebooks, without loading torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adalora_core.checker.check import check_config as check_config
    from adalora_core.checker.check import validate_config as validate_config
    from adalora_core.checker.reports import Report as Report
    from adalora_core.config.findings import ConfigError as ConfigError
    from adalora_core.config.findings import ConfigWarning as ConfigWarning
    from adalora_core.config.findings import Diagnostic as Diagnostic
    from adalora_core.config.model import AdaLoraConfig as AdaLoraConfig
    from adalora_core.floor.places import Span as Span

# Each name is loaded on first use: the command checks files without importing pydantic.
_EXPORTS = {
    "AdaLoraConfig": "config.model",
    "ConfigError": "config.findings",
    "ConfigWarning": "config.findings",
    "Diagnostic": "config.findings",
    "Report": "checker.reports",
    "Span": "floor.places",
    "check_config": "checker.check",
    "validate_config": "checker.check",
}

__all__ = sorted(_EXPORTS)  # noqa: PLE0605 - one table, no second list of names


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        module = importlib.import_module(f"adalora_core.{_EXPORTS[name]}")
        return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
