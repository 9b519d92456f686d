"""Check the configuration of an adapter before the adapter is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adalora_core.contract import AdaLoraConfig, check_config
from adalora_core.contract.check import read_adapter_config


def checked_config(source: Path | dict[str, Any]) -> AdaLoraConfig:
    """Return the configuration in `source` if nothing in it breaks the contract.

    Findings of severity warning are left out: they were reported when the file was written.

    Raises:
        ConfigError: the configuration breaks the contract.
        CheckpointError: see `read_adapter_config`.
    """
    if isinstance(source, Path):
        return read_adapter_config(source)
    return check_config(source, runtime="adalora-core").require_config()


def checked_copy(config: AdaLoraConfig) -> AdaLoraConfig:
    """Return a copy of `config` after the whole contract, since its fields can be assigned.

    Raises:
        ConfigError: the configuration breaks the contract.
        TypeError: `config` is not an AdaLoraConfig of this package.
    """
    if not isinstance(config, AdaLoraConfig):
        raise TypeError(
            f"peft_config: expected adalora_core.AdaLoraConfig, got "
            f"{type(config).__module__}.{type(config).__name__}; build it with adalora_core"
        )
    return checked_config(config.to_json_dict())
