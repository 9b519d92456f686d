"""Convert configurations, and override how PEFT builds and loads AdaLoRA models."""

from __future__ import annotations

import inspect
import weakref
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import peft
from peft import PeftModel
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.adalora.model import AdaLoraModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer

from adalora_core.bridge.adapters import configs_of, report_faults, report_unmatched
from adalora_core.bridge.layers import adalora_layers
from adalora_core.bridge.model import PlainModelOverrides, is_adalora
from adalora_core.bridge.tuner import TunerOverrides
from adalora_core.config.fields.block import AUTO
from adalora_core.config.fields.plain import plain
from adalora_core.config.fields.table import FIELDS
from adalora_core.config.loading import config_of
from adalora_core.floor.adapter_spec import SENSITIVITY, criterion_name
from adalora_core.floor.files import locked
from adalora_core.training.adapter import use_plain_numbers
from adalora_core.training.host import model_around, register
from adalora_core.training.run.reporting import refuse_adapted, refuse_other_than_module

if TYPE_CHECKING:
    from torch import nn

    from adalora_core.config.model import AdaLoraConfig

_peft_check: Any = peft.AdaLoraConfig.__post_init__
_peft_init: Any = AdaLoraModel.__init__
_peft_model_init: Any = PeftModel.__init__
_peft_from_pretrained: Any = PeftModel.from_pretrained.__func__  # type: ignore[attr-defined]
_TUNER_SIGNATURE = inspect.signature(_peft_init)
_SIGNATURE = inspect.signature(_peft_from_pretrained)

built: weakref.WeakSet[Any] = weakref.WeakSet()
"""Tuners that PEFT built after `install()`."""

_loaded: ContextVar[str | None] = ContextVar("_loaded", default=None)
"""The adapter that `PeftModel.from_pretrained` loads now."""


class BuiltConfigOverrides:
    """Methods of PEFT's `AdaLoraConfig` after `install()`."""

    def __post_init__(self: Any) -> None:
        """Check as PEFT does, but accept an adapter for inference without a `total_step`.

        Numbers of NumPy become plain ones, since PEFT could not write them into a file.
        Releases of PEFT before 0.15 have saved such adapters. To train one raises an error.
        """
        use_plain_numbers(self)
        if self.total_step is not None or not self.inference_mode:
            _peft_check(self)
            return
        self.total_step = self.tinit + self.tfinal + 1
        try:
            _peft_check(self)
        finally:
            self.total_step = None


class BuiltTunerOverrides(TunerOverrides):
    """Methods of the tuner after `install()`."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        given = _TUNER_SIGNATURE.bind(self, *args, **kwargs).arguments
        if not _may_add(given["model"], given["config"]):
            refuse_adapted(given["model"])
        _peft_init(self, *args, **kwargs)
        built.add(self)
        if not kwargs.get("low_cpu_mem_usage"):  # else the factors have no device yet
            report_faults(self)
            report_unmatched(self)


class BuiltModelOverrides(PlainModelOverrides):
    """Methods of `PeftModel` after `install()`."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        _peft_model_init(self, *args, **kwargs)
        if is_adalora(self):
            register(self)

    @classmethod
    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        """Load as PEFT does, and an adapter that is trained on the base model in place.

        PEFT would replace the parameters of the adapter, which an optimizer holds, and freeze them.
        Here the model that is trained gets the saved values and the training state beside them, and
        is returned. The adapter stays trainable.
        """
        given = _SIGNATURE.bind(cls, *args, **kwargs).arguments
        given.pop("cls")
        name = given.setdefault("adapter_name", "default")
        refuse_other_than_module(given["model"])
        around = model_around(given["model"])
        if is_adalora(around) and _is_trained(around, name):
            del given["model"]
            given.pop("config", None)
            around.load_adapter(**given.pop("kwargs", {}), **given)
            return around
        token = _loaded.set(name)
        try:
            with locked(Path(str(given["model_id"])), shared=True):
                return _peft_from_pretrained(cls, *args, **kwargs)
        except (OSError, ValueError) as error:
            if not Path(source := str(given["model_id"])).exists():
                # PEFT then asks the Hub, and its error is about the connection.
                error.add_note(f"No folder {source!r} was found here; correct the path or the id")
            raise
        finally:
            _loaded.reset(token)


def _is_trained(model: Any, name: str) -> bool:
    config = configs_of(model.base_model).get(name)
    # `unload()` takes the layers away and leaves the configuration.
    has_layers = any(name in layer.lora_A for _, layer in adalora_layers(model.base_model.model))
    return has_layers and config is not None and not config.inference_mode


def _may_add(base: nn.Module, config: Any) -> bool:
    """Return whether PEFT puts an adapter beside, or in the place of, adapters of AdaLoRA."""
    configs = vars(base).get("peft_config") or {}
    # A dictionary comes from a `PeftModel`, one configuration from `inject_adapter_in_model`.
    expected = _loaded.get() in configs if isinstance(config, dict) else bool(configs)
    return expected and all(
        isinstance(each, AdaLoraLayer)
        for each in base.modules()
        if isinstance(each, BaseTunerLayer | BaseTuner)
    )


def to_peft_config(config: AdaLoraConfig) -> peft.AdaLoraConfig:
    """Return PEFT's configuration with the values of `config`.

    PEFT alone reads an `init_lora_weights` of "lora" as true; the bridge starts like LoRA.

    Raises:
        ValueError: PEFT refuses the values, or `total_step` is "auto", which PEFT does not support.
    """
    if config.total_step == AUTO:
        raise ValueError(
            'to_peft_config: PEFT needs a number for total_step, got "auto"; set the optimizer '
            "steps of the run"
        )
    if config.importance_criterion != SENSITIVITY:
        raise ValueError(
            "to_peft_config: PEFT has no importance_criterion, got "
            f"{criterion_name(config.importance_criterion)!r}; train with get_peft_model of "
            f"adalora_core, set it to {SENSITIVITY!r}, or assign it to the result for a model that "
            "the bridge serves"
        )
    values = config.to_json_dict()
    changed = {
        name: value for name, value in values.items() if value != FIELDS[name].fresh_default()
    }
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
    values = config.to_dict()
    written = {
        name: plain(value, name)
        for name, value in values.items()
        if name in FIELDS and FIELDS[name].written
    }
    return config_of(written)
