"""Convert between the modules of a tuner and the tensors of an adapter file."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from adalora_core.config.model import AdaLoraConfig
from adalora_core.floor.errors import ParallelismError
from adalora_core.floor.rank_pattern import TENSOR_PREFIX, RankPattern
from adalora_core.nn import AdaLoraLayer, ModulesToSave
from adalora_core.nn.adapter_layer import FACTORS, training_dtype
from adalora_core.sharding import fill, whole
from adalora_core.training.adapter import Adapter
from adalora_core.training.adapter_file.folder import SavedAdapter
from adalora_core.training.compaction import keep_rows
from adalora_core.training.tuner import AdaLoraTuner

Saved = bool | Literal["auto"]
"""PEFT's `save_embedding_layers`: "auto" saves embeddings whose vocabulary was resized."""

_WRAPPER = re.compile(r"\.(?:base_layer|original_module)\.")


def collect_tensors(
    tuner: AdaLoraTuner,
    adapter: Adapter,
    pattern: RankPattern | None,
    gathered: Mapping[str, torch.Tensor] | None = None,
    embeddings: Saved = "auto",
) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors under the names of PEFT's files, without dropped triplets.

    A `pattern` of None keeps all triplets. `gathered` holds whole tensors under the names of
    `model.state_dict()`; without it every process has to gather those of a divided model.
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
        copy = f"{path}.modules_to_save.{adapter.name}"
        for name, values in module.trained.state_dict().items():
            tensors[f"{path}.{name}"] = taken(f"{copy}.{name}", values)
    pretrained = pretrained_name(adapter.config, tuner.model)
    others = tuner.bias_parameters()
    if _is_resized(tuner.model, pretrained) if embeddings == "auto" else embeddings:
        others += embeddings_of(tuner.model).items()
    tensors |= {name: taken(name, each) for name, each in others}
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
            **{
                factor: saved.tensors[f"{path}.{factor}"].to(layer.base_device, dtype, copy=True)
                for factor in FACTORS
            }
        )
    for path, module in tuner.saved_modules():
        copy = module.trained
        copy.load_state_dict({name: saved.tensors[f"{path}.{name}"] for name in copy.state_dict()})
    with torch.no_grad():
        for name, parameter in tuner.bias_parameters():
            if name in saved.tensors:
                parameter.copy_(saved.tensors[name])


def divided_places(
    model: nn.Module, adapter_name: str, tensors: Mapping[str, torch.Tensor], folder: Path
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the parameter of each whole tensor of a file in `folder`, and the tensor.

    `fill_divided` writes them. A shape that `fully_shard` has fixed otherwise is a
    ParallelismError.
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
                f"load: {key} in {str(folder)!r} has shape {list(values.shape)}, the model "
                f"has {has}, and fully_shard has fixed its parameters. A file without training "
                "state holds the kept triplets alone: load it before fully_shard. Nothing was "
                "changed"
            )
    return [(places[key], values) for key, values in tensors.items()]


def fill_divided(places: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Write whole tensors into the parts that this process holds; nothing is exchanged."""
    for place, values in places:
        fill(place, values, "load")


def without_wrapper(name: str) -> str:
    """Return the name of a parameter in the base model, which has neither adapters nor copies."""
    return _WRAPPER.sub(".", name)


def embeddings_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the base model's parameters of input embedding and output head, by their names."""
    layers: list[Any] = []
    for getter in ("get_input_embeddings", "get_output_embeddings"):
        # As in PEFT, only models of transformers have embeddings.
        with contextlib.suppress(AttributeError, NotImplementedError):
            layer = getattr(model, getter)()
            layer = layer.base_layer if isinstance(layer, AdaLoraLayer) else layer
            layers.append(layer.original_module if isinstance(layer, ModulesToSave) else layer)
    return {
        f"{path}.{name}": parameter
        for path, module in model.named_modules()
        if any(module is layer for layer in layers)
        for name, parameter in module.named_parameters(recurse=False)
    }


def _is_resized(model: nn.Module, pretrained: str | None) -> bool:
    """Return whether the vocabulary has another size than at `pretrained`; never downloads."""
    config: Any = getattr(model, "config", None)
    size = getattr(config, "vocab_size", None)
    if size and pretrained:
        with contextlib.suppress(OSError, ValueError):
            before = type(config).from_pretrained(pretrained, local_files_only=True)
            return bool(before.vocab_size != size)
    return False


def load_embeddings(model: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Give the embeddings of `model` the values of a file, by their names in the base model."""
    if values:
        for name, parameter in embeddings_of(model).items():
            if (found := values.get(without_wrapper(name))) is not None:
                fill(parameter, found, "load")
