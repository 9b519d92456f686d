"""Convert between the modules of a tuner and the tensors of an adapter file.

A file is compared with itself and with the model before the model is changed.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from adalora_core.config.model import AdaLoraConfig
from adalora_core.floor import rank_pattern
from adalora_core.floor.errors import CheckpointError, ParallelismError, TargetError
from adalora_core.floor.escaping import visible
from adalora_core.floor.rank_pattern import SINGULAR_VALUES_SUFFIX, TENSOR_PREFIX, RankPattern
from adalora_core.nn import AdaLoraLayer, ModulesToSave
from adalora_core.nn.adapter_layer import FACTORS, MOST_TRIPLETS, training_dtype
from adalora_core.nn.wrapping import wrap_layer
from adalora_core.sharding import fill, part_of, whole
from adalora_core.training import targets as selection
from adalora_core.training.adapter import Adapter
from adalora_core.training.adapter_file.folder import SavedAdapter
from adalora_core.training.compaction import keep_rows
from adalora_core.training.tuner import AdaLoraTuner

Saved = bool | Literal["auto"]
"""PEFT's `save_embedding_layers`: "auto" saves embeddings whose vocabulary was resized."""

KERNELS = "lora_kernels"
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
        held = {factor: getattr(layer, factor)[adapter.name].detach() for factor in FACTORS}
        factors = {n: taken(f"{path}.{n}.{adapter.name}", each) for n, each in held.items()}
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


def encoded_kernels(layers: Mapping[str, AdaLoraLayer]) -> dict[str, str]:
    """Return the metadata of the weights of an adapter: the kernels of layers that are not linear.

    Their factors look like those of a linear layer. A layer that cannot be LoRA has null.
    """
    kernels: dict[str, tuple[int, ...] | None] = {}
    for path, layer in layers.items():
        try:
            kernel = layer.lora_kernel(path)
        except TargetError:
            kernels[path] = None
        else:
            kernels |= {path: kernel} if kernel else {}
    return {KERNELS: json.dumps(kernels)} if kernels else {}


def pretrained_name(config: AdaLoraConfig, model: nn.Module) -> str | None:
    """Return the folder or the id of the Hub that the base model was loaded from, if known."""
    return config.base_model_name_or_path or getattr(model, "name_or_path", None) or None


def load_tensors(
    tuner: AdaLoraTuner, adapter: Adapter, saved: SavedAdapter, *, autocast: bool
) -> None:
    """Give the modules of `adapter` the values of a file that passed the checks.

    With `autocast`, factors are float32 on a base of lower precision.
    """
    for path, layer in adapter.layers.items():
        device, dtype = layer.base_device_and_dtype()
        dtype = training_dtype(dtype) if autocast else dtype
        found = {factor: saved.tensors[f"{path}.{factor}"] for factor in FACTORS}
        layer.set_factors(**{n: each.to(device, dtype, copy=True) for n, each in found.items()})
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


# --- checks, before a model is changed -----------------------------------------------------------

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
            kept[rank_pattern.module_path(key, name if found else None)] = flags
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
            what = f"rank_pattern keeps {len(places)} triplets, the tensors hold {rank}"
            raise _mismatch(saved, path, what)
        positions[path] = places if len(places) == rank else list(range(rank))
    if kept:
        what = "rank_pattern names it, the file has no tensors of it"
        raise _mismatch(saved, next(iter(kept)), what)
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
            what = f"{factor} has shape {list(tensor.shape)}, not 2 dimensions"
            raise _mismatch(saved, path, what)
        shapes[factor] = tuple(tensor.shape)
    rank = shapes["lora_E"][0]
    if shapes["lora_E"] != (rank, 1) or shapes["lora_A"][0] != rank or shapes["lora_B"][1] != rank:
        found = ", ".join(f"{factor} {list(shape)}" for factor, shape in shapes.items())
        raise _mismatch(saved, path, f"ranks disagree: {found}")
    return rank


def targets_in(
    model: nn.Module, saved: SavedAdapter, positions: dict[str, list[int]]
) -> selection.Targets:
    """Return the modules of `model` that the file is for, after comparing both.

    Raises:
        CheckpointError: a module or a whole-trained tensor is missing on one side, or has another
            shape.
    """
    known = {path for path, _ in selection.candidates(model)}
    if missing := [path for path in positions if path not in known]:
        raise _mismatch(saved, missing[0], "the model has no such module")
    layers = {path: _layer_at(model, saved, path) for path in positions}
    if saved.config.target_modules is not None:
        wanted = selection.resolve_targets(model, saved.config)
        if missing := [path for path in wanted if path not in positions]:
            what = "target_modules includes it, the file has no tensors of it"
            raise _mismatch(saved, missing[0], what)
    # In the model's order: ties between scores go by position.
    in_order = {path: layers[path] for path, _ in model.named_modules() if path in layers}
    targets = selection.Targets(in_order, selection.resolve_saved_modules(model, saved.config))
    _check_other_tensors(model, saved, targets)
    return targets


def _layer_at(model: nn.Module, saved: SavedAdapter, path: str) -> AdaLoraLayer:
    try:
        layer = wrap_layer(model.get_submodule(path), path)
    except TargetError as error:
        raise _mismatch(saved, path, f"the model cannot take it ({error})") from error
    columns, rows = layer.factor_shapes
    A, B = saved.tensors[f"{path}.lora_A"], saved.tensors[f"{path}.lora_B"]
    if (A.shape[1], len(B)) != (columns, rows):
        found = f"{A.shape[1]} -> {len(B)}, the model has {columns} -> {rows}"
        raise _mismatch(saved, path, f"the file is for a layer {found}")
    return layer


def _check_other_tensors(model: nn.Module, saved: SavedAdapter, targets: selection.Targets) -> None:
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
        what = f"{name} has shape {list(tensor.shape)}, the model has {list(values.shape)}"
        raise _mismatch(saved, path, what)
    if tensor.dtype != values.dtype and not {tensor.dtype, values.dtype} <= {*FACTOR_DTYPES}:
        raise _mismatch(saved, path, f"{name} is of {tensor.dtype}, the model has {values.dtype}")


def _mismatch(saved: SavedAdapter, path: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"from_pretrained: {str(saved.folder)!r} does not fit at module {path!r}: {what}; nothing "
        "was loaded"
    )
