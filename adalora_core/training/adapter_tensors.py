"""Between a tuner's modules and the tensors of an adapter file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from adalora_core.errors import CheckpointError, TargetError
from adalora_core.nn import wrap_layer
from adalora_core.nn.adapter_layer import FACTORS, TRIPLET_AXES, training_dtype
from adalora_core.rank_pattern import SINGULAR_VALUES_SUFFIX, module_path
from adalora_core.sharding import whole
from adalora_core.training.checkpoint import TENSOR_PREFIX
from adalora_core.training.targets import resolve_saved_modules, resolve_targets

if TYPE_CHECKING:
    from torch import nn

    from adalora_core.contract import AdaLoraConfig
    from adalora_core.rank_pattern import RankPattern
    from adalora_core.training.adapter import Adapter
    from adalora_core.training.checkpoint import SavedAdapter
    from adalora_core.training.tuner import AdaLoraTuner


def collect_tensors(
    tuner: AdaLoraTuner, adapter: Adapter, pattern: RankPattern | None
) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors under the names of PEFT's files, dropped triplets cut out."""
    tensors: dict[str, torch.Tensor] = {}
    for path, layer in adapter.layers.items():
        factors = {
            factor: whole(getattr(layer, factor)[adapter.name].detach()) for factor in FACTORS
        }
        if pattern is not None:
            kept = pattern[f"{path}{SINGULAR_VALUES_SUFFIX}"]
            rows = [row for row, place in enumerate(adapter.positions[path]) if kept[place]]
            factors = keep_rows(factors, rows)
        tensors |= {f"{path}.{factor}": values for factor, values in factors.items()}
    for path, module in tuner.saved_modules():
        if adapter.name in module.modules_to_save:
            state = module.modules_to_save[adapter.name].state_dict()
            tensors |= {f"{path}.{name}": values for name, values in state.items()}
    if adapter.config.bias != "none":
        tensors |= dict(tuner.bias_parameters(adapter.config.bias))
    return {f"{TENSOR_PREFIX}{name}": whole(values) for name, values in tensors.items()}


def keep_rows(factors: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """Return A, E and B of the triplets `rows` alone."""
    index = torch.tensor(rows, dtype=torch.long, device=factors["lora_A"].device)
    return {
        factor: values.index_select(TRIPLET_AXES[factor], index)
        for factor, values in factors.items()
    }


def row_positions(saved: SavedAdapter, adapter_name: str | None = None) -> dict[str, list[int]]:
    """Return, per module of the file, which of the `init_r` original triplets its rows are.

    Raises:
        CheckpointError: tensors are missing, their shapes disagree, or the rank pattern of the
            configuration speaks of other ranks.
    """
    config = saved.config
    kept = {
        module_path(key, _name_behind(key) or adapter_name): flags
        for key, flags in (config.rank_pattern or {}).items()
    }
    positions = {}
    for path in saved.paths():
        rank = _consistent_rank(saved, path)
        flags = kept.pop(path, None)
        if flags is None:
            positions[path] = list(range(rank))
            if rank > config.init_r:
                raise _mismatch(saved, path, f"rank {rank} is above init_r {config.init_r}")
            continue
        places = [place for place, flag in enumerate(flags) if flag]
        if len(places) != rank and rank != len(flags):
            raise _mismatch(
                saved, path, f"rank_pattern keeps {len(places)} triplets, the tensors hold {rank}"
            )
        positions[path] = places if len(places) == rank else list(range(rank))
    if kept:
        raise _mismatch(saved, next(iter(kept)), "rank_pattern names it, the tensors do not")
    return positions


def _name_behind(key: str) -> str | None:
    """Return the adapter name behind `.lora_E`; files of other tools keep it."""
    _, found, name = key.rpartition(f"{SINGULAR_VALUES_SUFFIX}.")
    return name if found else None


def _consistent_rank(saved: SavedAdapter, path: str) -> int:
    shapes = {}
    for factor in FACTORS:
        tensor = saved.tensors.get(f"{path}.{factor}")
        if tensor is None:
            raise _mismatch(saved, path, f"the tensor {TENSOR_PREFIX}{path}.{factor} is missing")
        if tensor.dim() != 2:  # noqa: PLR2004 - every factor is a matrix
            raise _mismatch(
                saved, path, f"{factor} has shape {list(tensor.shape)}, not 2 dimensions"
            )
        shapes[factor] = tuple(tensor.shape)
    rank = shapes["lora_E"][0]
    if shapes["lora_E"] != (rank, 1) or shapes["lora_A"][0] != rank or shapes["lora_B"][1] != rank:
        raise _mismatch(
            saved,
            path,
            "ranks disagree: "
            + ", ".join(f"{factor} {list(shape)}" for factor, shape in shapes.items()),
        )
    return rank


def check_against_model(
    model: nn.Module, saved: SavedAdapter, positions: dict[str, list[int]]
) -> None:
    """Compare the file with the model, before the model is changed.

    Raises:
        CheckpointError: a module or a whole-trained tensor is missing on one side, or has another
            shape.
    """
    for path in positions:
        try:
            layer = wrap_layer(model.get_submodule(path), path)
        except (AttributeError, TargetError) as error:
            raise _mismatch(saved, path, f"the model cannot take it ({error})") from error
        columns, rows = layer.factor_shapes
        found = (
            int(saved.tensors[f"{path}.lora_A"].shape[1]),
            int(saved.tensors[f"{path}.lora_B"].shape[0]),
        )
        if found != (columns, rows):
            raise _mismatch(
                saved,
                path,
                f"the file is for a layer {found[0]} -> {found[1]}, the model has "
                f"{columns} -> {rows}",
            )
    if saved.config.target_modules is not None:
        wanted = resolve_targets(model, saved.config)
        if missing := [path for path in wanted if path not in positions]:
            raise _mismatch(saved, missing[0], "target_modules means it, the tensors do not")
    _check_other_tensors(model, saved, positions)


def _check_other_tensors(
    model: nn.Module, saved: SavedAdapter, positions: dict[str, list[int]]
) -> None:
    expected = {f"{path}.{factor}" for path in positions for factor in FACTORS}
    for path in resolve_saved_modules(model, saved.config):
        module = model.get_submodule(path)
        module = getattr(module, "original_module", module)
        for name, values in module.state_dict().items():
            key = f"{path}.{name}"
            expected.add(key)
            tensor = saved.tensors.get(key)
            if tensor is None:
                raise _mismatch(saved, path, f"the tensor {TENSOR_PREFIX}{key} is missing")
            if tensor.shape != values.shape:
                raise _mismatch(
                    saved,
                    path,
                    f"{name} has shape {list(tensor.shape)}, the model has {list(values.shape)}",
                )
    if saved.config.bias != "none":
        expected |= {name for name in saved.tensors if name.rpartition(".")[2] == "bias"}
    if unknown := sorted(set(saved.tensors) - expected):
        raise CheckpointError(
            f"from_pretrained: {len(unknown)} tensors of {str(saved.folder)!r} belong to nothing "
            f"that its configuration names, the first is {unknown[0]!r}"
        )


def load_tensors(
    tuner: AdaLoraTuner, adapter: Adapter, saved: SavedAdapter, *, autocast: bool
) -> None:
    """Give the modules of `adapter` the values of the file; what the checks accepted cannot fail.

    float32 values stay float32 on a base of lower precision.
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


def _mismatch(saved: SavedAdapter, path: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"from_pretrained: {str(saved.folder)!r} does not fit at module {path!r}: {what}; nothing "
        "was loaded"
    )
