"""Check an adapter file against itself and against a model, before the model is changed."""

from __future__ import annotations

import torch
from torch import nn

from adalora_core.floor.errors import CheckpointError, TargetError
from adalora_core.floor.escaping import visible
from adalora_core.floor.rank_pattern import SINGULAR_VALUES_SUFFIX, TENSOR_PREFIX, module_path
from adalora_core.nn import AdaLoraLayer
from adalora_core.nn.adapter_layer import FACTORS, MOST_TRIPLETS
from adalora_core.nn.wrapping import wrap_layer
from adalora_core.sharding import part_of
from adalora_core.training.adapter_file.folder import SavedAdapter
from adalora_core.training.adapter_file.tensors import embeddings_of, without_wrapper
from adalora_core.training.targets import (
    Targets,
    candidates,
    resolve_saved_modules,
    resolve_targets,
)

FACTOR_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
MOST_FLAGS = 32 * MOST_TRIPLETS
"""The largest rank pattern that a save may have to write: `init_r` flags for each matrix."""


def row_positions(saved: SavedAdapter) -> dict[str, list[int]]:
    """Return, per module of the file, which of the `init_r` original triplets its rows are.

    Raises:
        CheckpointError: factors are missing, all or some, their shapes disagree, they are not
            finite numbers of a dtype that adapters have, or the rank pattern of the configuration
            has other ranks, other keys, or room for too many.
    """
    config = saved.config
    if not saved.paths():
        raise CheckpointError(
            f"from_pretrained: {str(saved.folder)!r} holds no factors of any module, as a saved "
            "AdaLoRA adapter does; nothing was loaded"
        )
    try:
        kept: dict[str, list[bool]] = {}
        for key, flags in (config.rank_pattern or {}).items():
            # Other tools leave the name of the adapter in the key.
            _, found, name = key.rpartition(f"{SINGULAR_VALUES_SUFFIX}.")
            kept[module_path(key, name if found else None)] = flags
    except ValueError as error:
        raise CheckpointError(
            f"from_pretrained: {str(saved.folder)!r}: {visible(str(error))}"
        ) from error
    flags_in_all = config.init_r * len(saved.paths())
    if config.init_r > MOST_TRIPLETS or flags_in_all > MOST_FLAGS:
        raise CheckpointError(
            f"from_pretrained: init_r {config.init_r} in {str(saved.folder)!r} is above the limits "
            f"of {MOST_TRIPLETS} for one matrix and {MOST_FLAGS} for all together"
        )
    positions = {}
    for path in saved.paths():
        rank = _consistent_rank(saved, path)
        if path not in kept:
            if rank > config.init_r:
                raise _mismatch(saved, path, f"rank {rank} is above init_r {config.init_r}")
            positions[path] = list(range(rank))
            continue
        flags = kept.pop(path)
        places = [place for place, flag in enumerate(flags) if flag]
        if len(places) != rank and rank != len(flags):
            raise _mismatch(
                saved, path, f"rank_pattern keeps {len(places)} triplets, the tensors hold {rank}"
            )
        positions[path] = places if len(places) == rank else list(range(rank))
    if kept:
        raise _mismatch(
            saved, next(iter(kept)), "rank_pattern names it, the file has no tensors of it"
        )
    return positions


def _consistent_rank(saved: SavedAdapter, path: str) -> int:
    shapes = {}
    for factor in FACTORS:
        tensor = saved.tensors.get(f"{path}.{factor}")
        if tensor is None:
            missing = visible(f"{TENSOR_PREFIX}{path}.{factor}")
            raise _mismatch(saved, path, f"the tensor {missing} is missing")
        if tensor.dtype not in FACTOR_DTYPES:
            names = ", ".join(str(dtype).removeprefix("torch.") for dtype in FACTOR_DTYPES)
            raise _mismatch(saved, path, f"{factor} is of {tensor.dtype}, not {names}")
        if not tensor.isfinite().all():
            raise _mismatch(saved, path, f"{factor} has entries that are not finite numbers")
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


def targets_in(model: nn.Module, saved: SavedAdapter, positions: dict[str, list[int]]) -> Targets:
    """Return the modules of `model` that the file is for, after comparing both.

    Raises:
        CheckpointError: a module or a whole-trained tensor is missing on one side, or has another
            shape.
    """
    known = {path for path, _ in candidates(model)}
    if missing := [path for path in positions if path not in known]:
        raise _mismatch(saved, missing[0], "the model has no such module")
    layers = {path: _layer_at(model, saved, path) for path in positions}
    if saved.config.target_modules is not None:
        wanted = resolve_targets(model, saved.config)
        if missing := [path for path in wanted if path not in positions]:
            raise _mismatch(
                saved, missing[0], "target_modules includes it, the file has no tensors of it"
            )
    # In the model's order: ties between scores go by position.
    in_order = {path: layers[path] for path, _ in model.named_modules() if path in layers}
    targets = Targets(in_order, resolve_saved_modules(model, saved.config))
    _check_other_tensors(model, saved, targets)
    return targets


def _layer_at(model: nn.Module, saved: SavedAdapter, path: str) -> AdaLoraLayer:
    try:
        layer = wrap_layer(model.get_submodule(path), path)
    except TargetError as error:
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
            f"the file is for a layer {found[0]} -> {found[1]}, the model has {columns} -> {rows}",
        )
    return layer


def _check_other_tensors(model: nn.Module, saved: SavedAdapter, targets: Targets) -> None:
    expected = {f"{path}.{factor}" for path in targets.layers for factor in FACTORS}
    for path in targets.saved:
        module = model.get_submodule(path)
        module = getattr(module, "original_module", module)
        for name, values in module.state_dict().items():
            key = f"{path}.{name}"
            expected.add(key)
            tensor = saved.tensors.get(key)
            if tensor is None:
                raise _mismatch(saved, path, f"the tensor {TENSOR_PREFIX}{key} is missing")
            _require_like(saved, path, name, tensor, values)
    if saved.config.bias != "none":
        biases = {name for name in saved.tensors if name.rpartition(".")[2] == "bias"}
        expected |= biases
        of_model = dict(model.named_parameters())
        for name in biases:
            values = of_model.get(name, of_model.get(without_wrapper(name)))
            if values is not None:
                _require_like(saved, name, "bias", saved.tensors[name], values)
    if unknown := _without_embeddings(model, saved, expected):
        raise CheckpointError(
            f"from_pretrained: {len(unknown)} tensors of {str(saved.folder)!r} are for modules "
            f"that its configuration does not name; the first is {unknown[0]!r}"
        )


def _without_embeddings(model: nn.Module, saved: SavedAdapter, expected: set[str]) -> list[str]:
    """Move the model's embeddings to `saved.embeddings`; return other unexpected tensors.

    PEFT writes those of an adapted head and of a resized vocabulary, and reads them.
    """
    unknown = []
    places = {without_wrapper(name): each for name, each in embeddings_of(model).items()}
    for name in sorted(set(saved.tensors) - expected):
        key = without_wrapper(name)
        if key in places:
            _require_like(saved, key, "the embedding", saved.tensors[name], places[key])
            part_of(places[key], saved.tensors[name], "from_pretrained")  # may refuse the division
            saved.embeddings[key] = saved.tensors.pop(name)
        elif name.replace(".modules_to_save.", ".") in expected:
            del saved.tensors[name]  # PEFT's second name of a copy
        else:
            unknown.append(name)
    return unknown


def _require_like(
    saved: SavedAdapter, path: str, name: str, tensor: torch.Tensor, values: torch.Tensor
) -> None:
    if tensor.shape != values.shape:
        raise _mismatch(
            saved,
            path,
            f"{name} has shape {list(tensor.shape)}, the model has {list(values.shape)}",
        )
    if tensor.dtype != values.dtype and not {tensor.dtype, values.dtype} <= {*FACTOR_DTYPES}:
        raise _mismatch(saved, path, f"{name} is of {tensor.dtype}, the model has {values.dtype}")


def _mismatch(saved: SavedAdapter, path: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"from_pretrained: {str(saved.folder)!r} does not fit at module {path!r}: {what}; nothing "
        "was loaded"
    )
