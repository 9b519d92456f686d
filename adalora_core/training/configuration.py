"""Check the configuration of an adapter before the adapter is used."""

from __future__ import annotations

from typing import Any

from adalora_core.config.fields.readings import exact
from adalora_core.config.fields.table import FIELDS, OWN_FIELDS, PEFT_TYPE
from adalora_core.config.loading import config_of
from adalora_core.config.model import AdaLoraConfig


def checked_copy(config: Any) -> AdaLoraConfig:
    """Return a copy of `config` after the whole contract, since its fields can be assigned.

    Raises:
        ConfigError: the configuration breaks the contract.
        TypeError: `config` is not an AdaLoraConfig of this package or of PEFT.
    """
    return config_of(run_values(config))


def check_in_place(config: Any) -> Any:
    """Return `config` itself after the whole contract, so that later assignments count.

    Raises:
        ConfigError: the configuration breaks the contract.
        TypeError: `config` is not an AdaLoraConfig of this package or of PEFT.
    """
    checked = checked_copy(config)
    for name, field in FIELDS.items():
        if field.is_number and getattr(config, name) is not None:
            # PEFT's class takes 8.0 and a number of NumPy for 8; a shape needs 8.
            setattr(config, name, getattr(checked, name))
    return config


def use_plain_numbers(config: Any) -> None:
    """Replace numbers of NumPy, and floats like 8.0 for 8: shapes and files need plain ones."""
    for name, field in FIELDS.items():
        value = getattr(config, name, None)
        if field.is_number and value is not None:
            setattr(config, name, exact(value, name))


def run_values(config: Any) -> dict[str, Any]:
    """Return `written_values`, and the fields of this package that no file holds.

    Raises:
        TypeError: `config` is not an AdaLoraConfig of this package or of PEFT.
    """
    own = {name: getattr(config, name) for name in OWN_FIELDS if hasattr(config, name)}
    return written_values(config) | own


def written_values(config: Any) -> dict[str, Any]:
    """Return the content of `adapter_config.json` for a configuration, of PEFT or of this package.

    Raises:
        TypeError: `config` is not an AdaLoraConfig of this package or of PEFT.
    """
    if isinstance(config, AdaLoraConfig):
        return config.to_json_dict()
    method = getattr(config, "peft_type", None)
    if getattr(method, "value", method) != PEFT_TYPE or not hasattr(config, "to_dict"):
        raise TypeError(
            f"peft_config: expected an AdaLoraConfig of adalora_core or of PEFT, got "
            f"{type(config).__module__}.{type(config).__name__}; other methods are PEFT's: call "
            "peft.get_peft_model"
        )
    values = config.to_dict()
    return {
        name: exact(values[name], name)
        for name, field in sorted(FIELDS.items())
        if field.written and name in values
    }
