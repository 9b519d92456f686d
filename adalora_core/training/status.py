"""Report the state of adapted layers, under the names of PEFT's status functions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.contract.fields.table import PEFT_TYPE
from adalora_core.nn import AdaLoraLayer, ModulesToSave
from adalora_core.nn.adapter_layer import FACTORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

Irregular = Literal["irregular"]
"""Stands for values that differ between the layers of a model."""


@dataclass
class TunerLayerStatus:
    """The state of one adapted layer, or of one module that is trained in full.

    Attributes:
        name: path in the tuner.
        module_type: class of the layer.
        enabled: whether adapters act on the output.
        active_adapters, merged_adapters, available_adapters: names of adapters.
        requires_grad: whether each adapter learns.
        devices: where each adapter is.
        quantization_backend: None; the base layer itself is quantised.
    """

    name: str
    module_type: str
    enabled: bool
    active_adapters: list[str]
    merged_adapters: list[str]
    requires_grad: dict[str, bool | Irregular]
    available_adapters: list[str]
    devices: dict[str, list[str]]
    quantization_backend: str | None = None


@dataclass
class TunerModelStatus:
    """The state of all adapted layers; `"irregular"` where layers differ.

    Attributes:
        base_model_type, adapter_model_type: names of classes.
        peft_types: the method of each adapter.
        trainable_params, total_params: numbers of parameters.
        num_adapter_layers: length of `get_layer_status`.
        enabled, active_adapters, merged_adapters, requires_grad, available_adapters, devices,
            quantization_backend: as in `TunerLayerStatus`.
    """

    base_model_type: str
    adapter_model_type: str
    peft_types: dict[str, str]
    trainable_params: int
    total_params: int
    num_adapter_layers: int
    enabled: bool | Irregular
    active_adapters: list[str] | Irregular
    merged_adapters: list[str] | Irregular
    requires_grad: dict[str, bool | Irregular]
    available_adapters: list[str]
    devices: dict[str, list[str]]
    quantization_backend: str | Irregular | None


def get_layer_status(model: nn.Module) -> list[TunerLayerStatus]:
    """Return the state of every adapted layer of `model`, as `peft.get_layer_status` does.

    Args:
        model: an `AdaLoraModel`, or any module that contains adapted layers.

    Raises:
        ValueError: there is no adapted layer.
    """
    found = []
    for path, module in _tuner_of(model).named_modules():
        if isinstance(module, AdaLoraLayer | ModulesToSave):
            parameters = {name: parts for name, parts in _parameters(module) if parts}
            learns = {
                name: _agreed(each.requires_grad for each in parts)
                for name, parts in parameters.items()
            }
            places = {
                name: sorted({each.device.type for each in parts})
                for name, parts in parameters.items()
            }
            found.append(_status(path, module, learns, places))
    if not found:
        raise ValueError(f"No adapter layers found in the model, a {type(model).__name__}")
    return found


def _status(path: str, module: Any, learns: dict[str, Any], places: dict[str, Any]) -> Any:
    is_layer = isinstance(module, AdaLoraLayer)
    kind = type(module).__name__
    return TunerLayerStatus(
        name=path,
        module_type=f"adalora.{kind}" if is_layer else kind,
        enabled=not module.adapters_disabled,
        active_adapters=list(module.active_adapters)
        if is_layer
        else [*filter(None, [module.active_adapter])],
        merged_adapters=list(module.merged_adapters) if is_layer else [],
        requires_grad=learns,
        available_adapters=sorted(learns),
        devices=places,
    )


def get_model_status(model: nn.Module) -> TunerModelStatus:
    """Return the state of the adapters of `model`, as `peft.get_model_status` does.

    Args:
        model: an `AdaLoraModel`, or any module that contains adapted layers.

    Raises:
        ValueError: there is no adapted layer.
    """
    tuner = _tuner_of(model)
    layers = get_layer_status(model)
    sizes = [(each.numel(), each.requires_grad) for each in tuner.parameters()]
    learns, places = defaultdict(list), defaultdict(set)
    for layer in layers:
        for name in layer.available_adapters:
            learns[name].append(layer.requires_grad[name])
            places[name].update(layer.devices[name])
    merged = {name for layer in layers for name in layer.merged_adapters}
    is_partly_merged = any(
        merged & set(layer.available_adapters) - set(layer.merged_adapters) for layer in layers
    )
    adapters = getattr(tuner, "adapters", None)
    return TunerModelStatus(
        base_model_type="other" if adapters is None else type(tuner.model).__name__,
        adapter_model_type="None" if adapters is None else "AdaLoraModel",
        peft_types=dict.fromkeys(adapters or (), PEFT_TYPE),
        trainable_params=sum(size for size, learning in sizes if learning),
        total_params=sum(size for size, _ in sizes),
        num_adapter_layers=len(layers),
        enabled=_agreed(layer.enabled for layer in layers),
        active_adapters=_agreed(layer.active_adapters for layer in layers),
        merged_adapters="irregular" if is_partly_merged else sorted(merged),
        requires_grad={name: _agreed(values) for name, values in learns.items()},
        available_adapters=sorted(learns),
        devices={name: sorted(found) for name, found in places.items()},
        quantization_backend=None,
    )


def _tuner_of(model: nn.Module) -> Any:
    # Not an AdaLoraModel: the tuner itself, or a module of somebody else that contains one.
    inner = model._modules.get("base_model")  # noqa: SLF001 - a lookup without forwarding
    return inner if hasattr(inner, "adapters") else model


def _parameters(module: AdaLoraLayer | ModulesToSave) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(module, ModulesToSave):
        for name, copy in module.modules_to_save.items():
            yield name, list(copy.parameters())
        return
    for name in module.lora_E:
        yield name, [getattr(module, factor)[name] for factor in FACTORS]


def _agreed(values: Iterable[Any]) -> Any:
    """Return the value that all of `values` have, or "irregular"."""
    first, *others = values
    return first if all(each == first for each in others) else "irregular"
