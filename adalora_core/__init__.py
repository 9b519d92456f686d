"""AdaLoRA for the price of plain LoRA, and checks for configurations, scripts and runs.

Each public name is loaded on first use: checking a configuration never loads torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from adalora_core.checker.check import check_config as check_config
    from adalora_core.checker.check import validate_config as validate_config
    from adalora_core.checker.reports import Report as Report
    from adalora_core.commands.rank_report.averaging import average_ranks as average_ranks
    from adalora_core.config.findings import ConfigError as ConfigError
    from adalora_core.config.findings import ConfigWarning as ConfigWarning
    from adalora_core.config.findings import Diagnostic as Diagnostic
    from adalora_core.config.model import AdaLoraConfig as AdaLoraConfig
    from adalora_core.floor.errors import AdaLoraError as AdaLoraError
    from adalora_core.floor.errors import RunWarning as RunWarning
    from adalora_core.floor.places import Span as Span
    from adalora_core.trainers.optimizer_hook import (
        allocate_automatically as allocate_automatically,
    )
    from adalora_core.trainers.optimizer_hook import allocate_on_step as allocate_on_step
    from adalora_core.trainers.transformers import AdaLoraCallback as AdaLoraCallback
    from adalora_core.training import AdaLoraModel as AdaLoraModel
    from adalora_core.training import get_peft_model as get_peft_model
    from adalora_core.training.run.optimizers import factor_groups as factor_groups
    from adalora_core.training.run.reporting import ignore_run_findings as ignore_run_findings

_EXPORTS = {
    "AdaLoraCallback": "adalora_core.trainers.transformers",
    "AdaLoraConfig": "adalora_core.config.model",
    "AdaLoraError": "adalora_core.floor.errors",
    "AdaLoraModel": "adalora_core.training",
    "ConfigError": "adalora_core.config.findings",
    "ConfigWarning": "adalora_core.config.findings",
    "Diagnostic": "adalora_core.config.findings",
    "Report": "adalora_core.checker.reports",
    "RunWarning": "adalora_core.floor.errors",
    "Span": "adalora_core.floor.places",
    "allocate_automatically": "adalora_core.trainers.optimizer_hook",
    "allocate_on_step": "adalora_core.trainers.optimizer_hook",
    "average_ranks": "adalora_core.commands.rank_report.averaging",
    "check_config": "adalora_core.checker.check",
    "factor_groups": "adalora_core.training.run.optimizers",
    "get_peft_model": "adalora_core.training",
    "ignore_run_findings": "adalora_core.training.run.reporting",
    "validate_config": "adalora_core.checker.check",
}
"""The facade: {public name: module that defines it}."""

__all__ = sorted(_EXPORTS)  # noqa: PLE0605 - one table, no second list of names


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("adalora-core")
    if name in _EXPORTS:
        value = getattr(_imported(_EXPORTS[name], name), name)
        globals()[name] = value
        return value
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}; PEFT's names are in adalora_core.peft"
    )


def _imported(module: str, name: str) -> Any:
    """Import the module of a public name; without torch, one sentence tells what to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in {"torch", "safetensors", "numpy"}:
            raise
        from importlib.util import find_spec

        from adalora_core.floor.errors import MissingExtraError

        missing = error.name if find_spec("torch") else "torch"
        raise MissingExtraError(missing, "torch", name) from None


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
