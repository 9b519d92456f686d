"""Convert between the modules of a tuner and the tensors of an adapter file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from adalora_core.nn.adapter_layer import FACTORS, training_dtype
from adalora_core.sharding import whole
from adalora_core.training.triplets import TENSOR_PREFIX, keep_rows

if TYPE_CHECKING:
    from adalora_core.contract import AdaLoraConfig
    from adalora_core.nn import AdaLoraLayer
    from adalora_core.rank_pattern import RankPattern
    from adalora_core.training.adapter import Adapter
    from adalora_core.training.adapter_file.folder import SavedAdapter
    from adalora_core.training.tuner import AdaLoraTuner


def collect_tensors(
    tuner: AdaLoraTuner, adapter: Adapter, pattern: RankPattern | None
) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors under the names of PEFT's files, without dropped triplets."""
    tensors: dict[str, torch.Tensor] = {}
    for path, layer in adapter.layers.items():
        factors = whole_factors(layer, adapter.name)
        if pattern is not None:
            factors = keep_rows(factors, adapter.rows_in(pattern, path))
        tensors |= {f"{path}.{factor}": values for factor, values in factors.items()}
    for path, module in tuner.saved_modules():
        if adapter.name in module.modules_to_save:
            state = module.modules_to_save[adapter.name].state_dict()
            tensors |= {f"{path}.{name}": values for name, values in state.items()}
    if adapter.config.bias != "none":
        tensors |= dict(tuner.bias_parameters(adapter.config.bias))
    return {f"{TENSOR_PREFIX}{name}": whole(values) for name, values in tensors.items()}


def whole_factors(layer: AdaLoraLayer, name: str) -> dict[str, torch.Tensor]:
    """Return A, E and B of the adapter `name`; of a sharded model every process has to call it."""
    return {factor: whole(getattr(layer, factor)[name].detach()) for factor in FACTORS}


def load_tensors(
    tuner: AdaLoraTuner, adapter: Adapter, saved: SavedAdapter, *, autocast: bool
) -> None:
    """Give the modules of `adapter` the values of a file that passed the checks.

    With `autocast`, factors are float32 on a base of lower precision.
    """
    for path, layer in adapter.layers.items():
        dtype = training_dtype(layer.base_dtype) if autocast else layer.base_dtype
        layer.set_factors(
            adapter.name,
            **{
                factor: saved.tensors[f"{path}.{factor}"].to(layer.base_device, dtype, copy=True)
                for factor in FACTORS
            },
        )
    for path, module in tuner.saved_modules():
        if adapter.name not in module.modules_to_save:
            continue
        prefix = f"{path}."
        copy = module.modules_to_save[adapter.name]
        copy.load_state_dict({name: saved.tensors[prefix + name] for name in copy.state_dict()})
    if adapter.config.bias != "none":
        _load_biases(tuner, adapter.config, saved)


def _load_biases(tuner: AdaLoraTuner, config: AdaLoraConfig, saved: SavedAdapter) -> None:
    with torch.no_grad():
        for name, parameter in tuner.bias_parameters(config.bias):
            if name in saved.tensors:
                parameter.copy_(saved.tensors[name])
