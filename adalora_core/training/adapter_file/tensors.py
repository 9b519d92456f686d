"""Convert between the modules of a tuner and the tensors of an adapter file.

A file is compared with itself and with the model before the model is changed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adalora_core.config.model import AdaLoraConfig
from adalora_core.config.rules.runs import FileLacksTrainedWeights
from adalora_core.floor.errors import CheckpointError, ParallelismError, TargetError
from adalora_core.floor.escaping import visible
from adalora_core.floor.rank_pattern import SINGULAR_VALUES_SUFFIX, TENSOR_PREFIX, RankPattern
from adalora_core.nn import AdaLoraLayer, ModulesToSave
from adalora_core.nn.adapter_layer import FACTORS, MOST_TRIPLETS, training_dtype
from adalora_core.nn.wrapping import wrap_layer
from adalora_core.sharding import fill, whole
from adalora_core.training import targets as selection
from adalora_core.training.adapter import Adapter
from adalora_core.training.adapter_file.folder import SavedAdapter
from adalora_core.training.compaction import keep_rows
from adalora_core.training.tuner import AdaLoraTuner

KERNELS = "lora_kernels"
"""The entry of the metadata with the `lora_kernel` of each layer that is not linear."""
_WRAPPER = re.compile(r"\.(?:base_layer|original_module)\.")
"""What the names of parameters of the base model lack."""


def collect_tensors(
    tuner: AdaLoraTuner, adapter: Adapter, pattern: RankPattern | None
) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors under the names of PEFT's files, without dropped triplets.

    A `pattern` of None keeps all triplets. Every process has to gather those of a divided model.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path, layer in adapter.layers.items():
        factors = {each: whole(getattr(layer, each)[adapter.name].detach()) for each in FACTORS}
        if pattern is not None:
            factors = keep_rows(factors, adapter.rows_in(pattern, path))
        tensors |= {f"{path}.{factor}": values for factor, values in factors.items()}
    for path, module in tuner.saved_modules():
        for name, values in module.trained.state_dict().items():
            tensors[f"{path}.{name}"] = whole(values)
    tensors |= {name: whole(each) for name, each in tuner.bias_parameters()}
    _warn_if_resized(adapter, tuner.model)
    return {f"{TENSOR_PREFIX}{name}": values for name, values in tensors.items()}


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


def _warn_if_resized(adapter: Adapter, model: Any) -> None:
    """Warn of a vocabulary of another size than where `model` comes from, outside of the file."""
    pretrained = pretrained_name(adapter.config, model)
    config: Any = getattr(model, "config", None)
    size = getattr(config, "vocab_size", None)
    before = size
    if size and pretrained:
        # Only models of transformers know the size of theirs.
        with contextlib.suppress(OSError, ValueError, AttributeError, NotImplementedError):
            if not isinstance(model.get_input_embeddings(), ModulesToSave):
                before = type(config).from_pretrained(pretrained, local_files_only=True).vocab_size
    if before != size:
        seen = f"the vocabulary of the base model was resized from {before} to {size}, and the "
        seen += f"adapter {adapter.name!r} is saved without its embeddings"
        adapter.run.report(FileLacksTrainedWeights, seen)


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
    # Other tools leave the name of the adapter behind the suffix.
    pattern = (config.rank_pattern or {}).items()
    kept = {key.rpartition(SINGULAR_VALUES_SUFFIX)[0]: flags for key, flags in pattern}
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
            values = of_model.get(name, of_model.get(_WRAPPER.sub(".", name)))
            if values is not None:
                _require_like(saved, name, "bias", saved.tensors[name], values)
    _drop_others(model, saved, expected)


def _drop_others(model: nn.Module, saved: SavedAdapter, expected: set[str]) -> None:
    """Drop what PEFT writes beside an adapter, such as embeddings, if the model has equal values.

    Raises:
        CheckpointError: the model has other values, or no such module.
    """
    named = model.named_parameters(remove_duplicate=False)  # tied ones have several names
    of_model = {_WRAPPER.sub(".", name): each for name, each in named}
    for name in sorted(set(saved.tensors) - expected):
        values, place = saved.tensors.pop(name), of_model.get(_WRAPPER.sub(".", name))
        is_second_name = name.replace(".modules_to_save.", ".") in expected  # of a copy
        held = None if place is None else whole(place)
        if not is_second_name and (held is None or not held.equal(values.to(held))):
            raise CheckpointError(
                f"from_pretrained: the tensor {name!r} of {str(saved.folder)!r} is for a module "
                "that its configuration does not name, and the model has other values or no such "
                "tensor; PeftModel of adalora_core.peft loads resized embeddings"
            )


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
