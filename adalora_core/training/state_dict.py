"""Read and set the tensors of an adapter in memory, under the names of PEFT's files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from adalora_core.floor.rank_pattern import TENSOR_PREFIX
from adalora_core.nn.adapter_layer import FACTORS, TRIPLET_AXES
from adalora_core.training.adapter_file.tensors import (
    Saved,
    collect_tensors,
    embeddings_of,
    name_in_file,
)
from adalora_core.training.tuner import AdaLoraTuner

if TYPE_CHECKING:
    from adalora_core.training.adapter import Adapter


class LoadResult(NamedTuple):
    """What `set_peft_model_state_dict` could not place: parameters and tensors, by name."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def get_peft_model_state_dict(
    model: nn.Module,
    state_dict: Mapping[str, torch.Tensor] | None = None,
    adapter_name: str = "default",
    unwrap_compiled: bool = False,
    save_embedding_layers: Saved = "auto",
) -> dict[str, torch.Tensor]:
    """Return the tensors of an adapter under the names of PEFT's files, without dropped triplets.

    Args:
        model: an `AdaLoraModel`; under DDP the model inside.
        state_dict: the values to take, under the names of `model.state_dict()`; None means those
            of the model.
        adapter_name: name of the adapter.
        unwrap_compiled: whether `model` may be the result of `torch.compile`.
        save_embedding_layers: whether to return the embeddings of the base model too; "auto" means
            if the vocabulary was resized.

    Raises:
        TypeError: `model` is not an `AdaLoraModel`.
        ValueError: the adapter does not exist.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, get_peft_model, get_peft_model_state_dict
        >>> config = AdaLoraConfig(init_r=2, target_r=1, total_step=10, target_modules=["0"])
        >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 3)), config)
        >>> {name: tuple(t.shape) for name, t in get_peft_model_state_dict(model).items()}
        {'base_model.model.0.lora_A': (2, 4), 'base_model.model.0.lora_E': (2, 1), \
'base_model.model.0.lora_B': (3, 2)}
    """
    if unwrap_compiled:
        model = getattr(model, "_orig_mod", model)
    tuner, adapter = _adapter_in(model, adapter_name)
    pattern = adapter.rank_pattern(live=True)
    return collect_tensors(tuner, adapter, pattern, state_dict, save_embedding_layers)


@torch.no_grad()
def set_peft_model_state_dict(
    model: nn.Module,
    peft_model_state_dict: Mapping[str, torch.Tensor],
    adapter_name: str = "default",
    ignore_mismatched_sizes: bool = False,
    low_cpu_mem_usage: bool = False,
) -> LoadResult:
    """Give an adapter of `model` the values of `get_peft_model_state_dict`, in place.

    Tensors with fewer triplets than the adapter fill the kept triplets if their numbers agree, else
    the first ones; the singular values of the others become zero.

    Args:
        model: an `AdaLoraModel` that has the adapter; under DDP the model inside.
        peft_model_state_dict: the values, under the names of PEFT's files.
        adapter_name: name of the adapter.
        ignore_mismatched_sizes: ignore tensors of another shape, with a warning.
        low_cpu_mem_usage: PEFT's; changes nothing.

    Raises:
        TypeError: `model` is not an `AdaLoraModel`.
        ValueError: the adapter does not exist.
        RuntimeError: tensors have another shape; nothing was changed.
    """
    del low_cpu_mem_usage
    tuner, adapter = _adapter_in(model, adapter_name)
    tensors = collect_tensors(tuner, adapter, None, embeddings=False)
    names = _stored_names(tuner, adapter, tensors)
    for name in embeddings_of(tuner.model):
        stored = f"{TENSOR_PREFIX}{name_in_file(tuner, adapter, name)}"
        if stored in peft_model_state_dict:
            names[stored] = f"{TENSOR_PREFIX}{name}"
    own = {f"{TENSOR_PREFIX}{name}": each for name, each in tuner.model.state_dict().items()}
    given = {name: each for name, each in peft_model_state_dict.items() if name in names}
    mismatched = [name for name, each in given.items() if not _fits(name, each, own[names[name]])]
    if mismatched:
        sizes = "; ".join(
            f"{name}: {list(given[name].shape)}, in the model {list(own[names[name]].shape)}"
            for name in mismatched
        )
        if not ignore_mismatched_sizes:
            raise RuntimeError(f"set_peft_model_state_dict: size mismatch for {sizes}")
        warnings.warn(f"set_peft_model_state_dict: ignored for their sizes: {sizes}", stacklevel=2)
    pattern = adapter.rank_pattern()
    for name in given.keys() - set(mismatched):
        values, place = given[name], own[names[name]]
        if values.shape != place.shape:
            path, _, factor = name.removeprefix(TENSOR_PREFIX).rpartition(".")
            axis = TRIPLET_AXES[factor]
            count = values.shape[axis]
            rows = adapter.rows_in(pattern, path)
            index = torch.tensor(rows if len(rows) == count else range(count), device=place.device)
            filled = torch.zeros_like(place) if factor == "lora_E" else place.clone()
            values = filled.index_copy(axis, index.long(), values.to(place))
        place.copy_(values)
    return LoadResult(
        [stored for name, stored in names.items() if name not in given or name in mismatched],
        [name for name in peft_model_state_dict if name not in names],
    )


def _adapter_in(model: Any, name: str) -> tuple[AdaLoraTuner, Adapter]:
    tuner = getattr(model, "base_model", None)
    if not isinstance(tuner, AdaLoraTuner):
        raise TypeError(
            f"expected an AdaLoraModel of adalora_core, got {type(model).__name__}; for a model of "
            "PEFT call PEFT's function"
        )
    if name not in tuner.adapters:
        raise ValueError(f"adapter_name: no adapter {name!r}; there are {list(tuner.adapters)}")
    return tuner, tuner.adapters[name]


def _stored_names(
    tuner: AdaLoraTuner, adapter: Adapter, tensors: Mapping[str, torch.Tensor]
) -> dict[str, str]:
    """Return `{name in a file: name in the model's state}`, which holds the adapter's name."""
    copies = {f"{TENSOR_PREFIX}{path}." for path, _ in tuner.saved_modules()}
    names = {}
    for name in tensors:
        prefix = next((each for each in copies if name.startswith(each)), None)
        if name.rpartition(".")[2] in FACTORS:
            names[name] = f"{name}.{adapter.name}"
        elif prefix is not None:
            leaf = name.removeprefix(prefix)
            names[name] = f"{prefix}modules_to_save.{adapter.name}.{leaf}"
        else:
            names[name] = name
    return names


def _fits(name: str, values: torch.Tensor, place: torch.Tensor) -> bool:
    axis = TRIPLET_AXES.get(name.rpartition(".")[2])
    if axis is None or values.dim() != place.dim():
        return values.shape == place.shape
    other = 1 - axis
    return values.shape[other] == place.shape[other] and values.shape[axis] <= place.shape[axis]
