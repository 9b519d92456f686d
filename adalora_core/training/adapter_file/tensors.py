"""Convert between the modules of a tuner and the tensors of an adapter file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from adalora_core.errors import ParallelismError
from adalora_core.nn.adapter_layer import FACTORS, training_dtype
from adalora_core.sharding import fill, whole
from adalora_core.training.adapter_file.embeddings import Saved, saved_embeddings
from adalora_core.training.triplets import TENSOR_PREFIX, keep_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import nn

    from adalora_core.contract import AdaLoraConfig
    from adalora_core.nn import AdaLoraLayer
    from adalora_core.rank_pattern import RankPattern
    from adalora_core.training.adapter import Adapter
    from adalora_core.training.adapter_file.folder import SavedAdapter
    from adalora_core.training.tuner import AdaLoraTuner


def collect_tensors(
    tuner: AdaLoraTuner,
    adapter: Adapter,
    pattern: RankPattern | None,
    gathered: Mapping[str, torch.Tensor] | None = None,
    embeddings: Saved = "auto",
) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors under the names of PEFT's files, without dropped triplets.

    Args:
        tuner: the model.
        adapter: the adapter.
        pattern: the triplets to keep; None means all.
        gathered: whole tensors under the names of `model.state_dict()`; None means those of the
            model, which every process has to gather if they are divided.
        embeddings: PEFT's `save_embedding_layers`.
    """

    def taken(name: str, values: torch.Tensor) -> torch.Tensor:
        return whole(values) if gathered is None else gathered[f"{TENSOR_PREFIX}{name}"].detach()

    tensors: dict[str, torch.Tensor] = {}
    for path, layer in adapter.layers.items():
        factors = {
            factor: taken(
                f"{path}.{factor}.{adapter.name}", getattr(layer, factor)[adapter.name].detach()
            )
            for factor in FACTORS
        }
        if pattern is not None:
            factors = keep_rows(factors, adapter.rows_in(pattern, path))
        tensors |= {f"{path}.{factor}": values for factor, values in factors.items()}
    for path, module in tuner.saved_modules():
        if adapter.name in module.modules_to_save:
            copy = f"{path}.modules_to_save.{adapter.name}"
            for name, values in module.modules_to_save[adapter.name].state_dict().items():
                tensors[f"{path}.{name}"] = taken(f"{copy}.{name}", values)
    if adapter.config.bias != "none":
        for name, values in tuner.bias_parameters(adapter.config.bias):
            tensors[name] = taken(name, values)
    pretrained = pretrained_name(adapter.config, tuner.model)
    for name, values in saved_embeddings(tuner.model, pretrained, embeddings).items():
        tensors[name] = taken(name, values)
    return {f"{TENSOR_PREFIX}{name}": values for name, values in tensors.items()}


def pretrained_name(config: AdaLoraConfig, model: nn.Module) -> str | None:
    """Return the folder or the id of the Hub that the base model was loaded from, if known."""
    return config.base_model_name_or_path or getattr(model, "name_or_path", None) or None


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


def divided_places(
    model: nn.Module, adapter_name: str, tensors: Mapping[str, torch.Tensor], folder: Path
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the parameter of each tensor of a file, and the tensor, for `fill_divided`.

    Args:
        model: the base model with the divided adapter.
        adapter_name: name of the adapter.
        tensors: whole tensors, by path and factor.
        folder: where they come from, for messages.

    Raises:
        ParallelismError: a tensor has another shape than its parameter, which `fully_shard` has
            fixed.
    """
    copies, own = f".modules_to_save.{adapter_name}.", f".{adapter_name}"
    places = {
        name.replace(copies, ".").removesuffix(own): each
        for name, each in (*model.named_parameters(), *model.named_buffers())
    }
    for key, values in tensors.items():
        place = places.get(key)
        if place is None or place.shape != values.shape:
            has = "no such parameter" if place is None else f"shape {list(place.shape)}"
            raise ParallelismError(
                f"load_adapter: {key} in {str(folder)!r} has shape {list(values.shape)}, the model "
                f"has {has}, and fully_shard has fixed its parameters. A file without training "
                "state holds the kept triplets alone: load it before fully_shard. Nothing was "
                "changed"
            )
    return [(places[key], values) for key, values in tensors.items()]


def fill_divided(places: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Write whole tensors into the parts that this process holds; nothing is exchanged."""
    for place, values in places:
        fill(place, values, "load_adapter")
