"""Run the contract over the configuration of an adapter that is about to be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.contract import AdaLoraConfig, check_config

if TYPE_CHECKING:
    from pathlib import Path


def checked_config(source: Path | dict[str, Any]) -> AdaLoraConfig:
    """Return the configuration if nothing in it breaks the contract.

    Advice on the schedule (findings of severity warning) was given when it was written.

    Raises:
        ConfigError: it breaks the contract.
    """
    report = check_config(source, runtime="adalora-core")
    report.raise_if_errors()
    config = report.config
    assert config is not None  # noqa: S101 - a report without errors has one
    return config


def checked_copy(config: AdaLoraConfig) -> AdaLoraConfig:
    """Return a copy of `config` after running the whole contract again: fields can be assigned.

    Raises:
        ConfigError: it breaks the contract by now.
        TypeError: it is not an AdaLoraConfig.
    """
    if not isinstance(config, AdaLoraConfig):
        raise TypeError(
            f"peft_config: expected adalora_core.AdaLoraConfig, got "
            f"{type(config).__module__}.{type(config).__name__}; build it with adalora_core"
        )
    return checked_config(config.to_json_dict())
