"""Convert configurations of both libraries, and override how PEFT checks its own."""

from __future__ import annotations

from typing import Any

import peft

from adalora_core.config.fields.block import AUTO
from adalora_core.config.fields.table import FIELDS
from adalora_core.config.model import AdaLoraConfig, config_of
from adalora_core.floor.adapter_spec import SENSITIVITY, criterion_name
from adalora_core.training.adapter import use_plain_numbers, written_values

_peft_check: Any = peft.AdaLoraConfig.__post_init__


class BuiltConfigOverrides(peft.AdaLoraConfig):
    """Methods of PEFT's `AdaLoraConfig` after `install()`."""

    def __post_init__(self) -> None:
        """Check as PEFT does, but accept a `total_step` that is "auto", or missing for inference.

        `bind_total_step` replaces "auto" before the first step. Releases of PEFT before 0.15 have
        saved adapters without a number; to train one raises an error. Numbers of NumPy become plain
        ones, since PEFT could not write them into a file.
        """
        use_plain_numbers(self)
        given: Any = self.total_step
        if given != AUTO and not (given is None and self.inference_mode):
            _peft_check(self)
            return
        self.total_step = self.tinit + self.tfinal + 1
        try:
            _peft_check(self)
        finally:
            self.total_step = given


def to_peft_config(config: AdaLoraConfig) -> peft.AdaLoraConfig:
    """Return PEFT's configuration with the values of `config`.

    PEFT alone reads an `init_lora_weights` of "lora" as true; the bridge starts like LoRA.

    Raises:
        ValueError: PEFT refuses the values, or `total_step` is "auto" and `install()` was not
            called: PEFT alone needs a number.
    """
    if config.total_step == AUTO and peft.AdaLoraConfig.__post_init__ is _peft_check:
        raise ValueError(
            'to_peft_config: PEFT needs a number for total_step, got "auto"; set the optimizer '
            "steps of the run, or call adalora_core.bridge.install() first"
        )
    if config.importance_criterion != SENSITIVITY:
        raise ValueError(
            "to_peft_config: PEFT has no importance_criterion, got "
            f"{criterion_name(config.importance_criterion)!r}; train with get_peft_model of "
            f"adalora_core, set it to {SENSITIVITY!r}, or assign it to the result for a model that "
            "the bridge serves"
        )
    values = config.to_json_dict()
    changed = {n: each for n, each in values.items() if each != FIELDS[n].fresh_default()}
    return peft.AdaLoraConfig(**changed)


def from_peft_config(config: peft.AdaLoraConfig) -> AdaLoraConfig:
    """Return a configuration of this package with the values of PEFT's `config`.

    Raises:
        ConfigError: the values break the contract; the message lists every finding.
        TypeError: `config` is not PEFT's AdaLoraConfig.
    """
    if not isinstance(config, peft.AdaLoraConfig):
        raise TypeError(
            f"from_peft_config: expected peft.AdaLoraConfig, got {type(config).__name__}"
        )
    return config_of(written_values(config))
