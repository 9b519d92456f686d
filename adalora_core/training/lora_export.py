"""Write an AdaLoRA adapter as a LoRA adapter with a rank for each module.

`B · diag(E) · A · scale = B · (A · E · scale)`, so with `lora_A = A · E · scale`, `lora_B = B`, and
`lora_alpha = r` per module the outputs are equal. Servers that support only LoRA can use the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import distributed
from torch.nn import functional

from adalora_core.config.model import AdaLoraConfig
from adalora_core.config.rules.runs import BudgetNotReached
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.errors import CheckpointError, TargetError
from adalora_core.floor.files import locked, refuse_links_out
from adalora_core.floor.module_selection import lacks_all_of, saved_module_names, settings_of_ranks
from adalora_core.floor.rank_pattern import TENSOR_PREFIX
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.sharding import are_sharded
from adalora_core.training.adapter import written_values
from adalora_core.training.adapter_file import folder as folders
from adalora_core.training.adapter_file.folder import SavedAdapter
from adalora_core.training.adapter_file.tensors import KERNELS, collect_tensors, row_positions
from adalora_core.training.run.reporting import report
from adalora_core.training.run_end import warn_if_unfinished
from adalora_core.training.tuner import AdaLoraTuner

CARRIED_OVER = (
    "base_model_name_or_path", "bias", "fan_in_fan_out", "lora_dropout", "modules_to_save",
    "revision", "task_type", "trainable_token_indices",
)  # fmt: skip
"""Fields with the same meaning for LoRA."""


def export_folder(
    source: str | os.PathLike[str], destination: str | os.PathLike[str], *, pad_ranks: bool = False
) -> None:
    """Write the saved AdaLoRA adapter `source` as a LoRA adapter, from its files alone.

    Raises:
        CheckpointError: the folder is incomplete or damaged, factors are missing or do not fit
            together, no triplet is left, a layer cannot be LoRA, or both folders are the same.
        ConfigError: its configuration breaks the contract.
        OSError: `destination` cannot be written; nothing was replaced.
    """
    with locked(Path(source), shared=True):
        refuse_links_out(source)
        saved = folders.read_adapter(source)
        kernels = kernels_in(saved)
    if Path(source).resolve() == Path(destination).resolve():
        raise CheckpointError(
            "export_lora: the LoRA adapter would replace the adapter that is read from "
            f"{str(source)!r}; name another folder to write to"
        )
    _warn_if_unfinished(saved)
    modules = modules_of(saved, kernels, AdapterSpec.of(saved.config).scale)
    _write(saved, modules, destination, pad_ranks=pad_ranks)


def _warn_if_unfinished(saved: SavedAdapter) -> None:
    """Warn of a save from the middle of a run, after a check of its factors.

    Raises:
        CheckpointError: factors are missing or do not fit together.
    """
    ranks = [len(rows) for rows in row_positions(saved).values()]
    kept, target = sum(ranks), AdapterSpec.of(saved.config).target_r * len(ranks)
    if saved.config.rank_pattern is not None and kept > target:
        seen = f"{str(saved.folder)!r} is exported with {kept} triplets, target {target}"
        report({}, BudgetNotReached, seen)


def export_adapter(
    tuner: AdaLoraTuner, destination: str | os.PathLike[str], *, pad_ranks: bool = False
) -> None:
    """Write the adapter of `tuner` as a LoRA adapter; see `AdaLoraModel.export_lora`.

    With a sharded model every process has to call it; the first process writes.
    """
    adapter = tuner.adapter
    warn_if_unfinished(adapter, "exported")
    adapter.drop_again()
    tensors = collect_tensors(tuner, adapter, adapter.rank_pattern(live=True))
    if are_sharded(adapter.factors()[0]) and distributed.get_rank() != 0:
        return
    kernels = {path: layer.lora_kernel for path, layer in adapter.layers.items()}
    tensors = {key.removeprefix(TENSOR_PREFIX): values for key, values in tensors.items()}
    saved = SavedAdapter(Path(destination), adapter.config, tensors)
    modules = modules_of(saved, kernels, adapter.spec.scale)
    _write(saved, modules, destination, pad_ranks=pad_ranks)


def _write(
    saved: SavedAdapter,
    modules: Mapping[str, LoraModule],
    destination: str | os.PathLike[str],
    *,
    pad_ranks: bool,
) -> None:
    """Write the modules as a LoRA adapter, which is put together in memory.

    With `pad_ranks` every module gets the largest rank, with rows and columns of zeros: some
    loaders divide the one `lora_alpha` of the file by the rank of each module.

    Raises:
        CheckpointError: no rank is left, a factor is beyond the range of its dtype, or tensors of
            `modules_to_save` are missing.
        OSError: the folder cannot be written; nothing was replaced.
    """
    ranks = {path: len(each.A) for path, each in modules.items()}
    if pad_ranks:
        ranks = {path: rank and max(ranks.values()) for path, rank in ranks.items()}
    if not any(ranks.values()):
        raise CheckpointError(
            "export_lora: no triplet is left in any module, so there is nothing to export"
        )
    tensors = {}
    for name, each in saved.tensors.items():
        # The name of a base layer is that of the module where that has no adapter.
        path, inside, last = name.rpartition(".base_layer.")
        tensors[f"{path}.{last}" if inside and not ranks.get(path) else name] = each
    settings = lora_settings(saved.config)
    whole = saved_module_names(settings.get("modules_to_save"), settings.get("task_type"))
    if lacks_all_of(whole, tensors):
        raise CheckpointError(
            f"export_lora: the adapter holds no tensor of modules_to_save {whole}, without which "
            "PEFT cannot load it; save the adapter again"
        )
    for path, rank in ranks.items():
        if rank:
            tensors |= _factors(path, modules[path], rank)
    fixed = {"peft_type": "LORA", "inference_mode": True, "init_lora_weights": True}
    patterns = settings_of_ranks(ranks, lambda rank: rank)
    config = folders.encode_config({**settings, **fixed, **patterns})
    weights = folders.encode_tensors({TENSOR_PREFIX + n: each for n, each in tensors.items()})
    folders.commit(Path(destination), weights, config)


def _factors(path: str, module: LoraModule, rank: int) -> dict[str, torch.Tensor]:
    """Return the factors of a module as they are written, by their names."""
    names, of_A, of_B, E, scale = module
    missing = rank - len(of_A)
    # In float64, so that the file is as close as its dtype allows.
    A = functional.pad(of_A.flatten(1).double() * E * scale, (0, 0, 0, missing))
    B = functional.pad(of_B.flatten(1), (0, missing))
    A = A.reshape(-1, *of_A.shape[1:]).to(of_A.dtype)
    B = B.reshape(len(B), -1, *of_B.shape[2:])
    if not (A.isfinite().all() and B.isfinite().all()):
        raise CheckpointError(
            f"export_lora: the product of factors and scale of {path!r} is beyond the range of "
            f"{of_A.dtype}; the adapter cannot be written as LoRA in this dtype"
        )
    return dict(zip(names, (A, B), strict=True))


def modules_of(
    saved: SavedAdapter, kernels: Mapping[str, tuple[int, ...] | None], scale: float
) -> dict[str, LoraModule]:
    """Take the modules, and with them their factors, out of `saved`.

    `kernels` are trailing dimensions of `lora_A` by path, see `AdaLoraLayer.lora_kernel`.

    Raises:
        TargetError: a layer cannot be LoRA.
    """
    modules = {}
    for path in saved.paths():
        A, E, B = (saved.tensors.pop(f"{path}.{factor}") for factor in FACTORS)
        if (kernel := kernels.get(path, ())) is None:
            raise TargetError(
                f"{path!r} is a convolution with groups or a layer of a type of its own, "
                "which LoRA cannot express; merge the adapter, or name the module in "
                "exclude_modules"
            )
        if kernel:
            A = A.reshape(len(A), A.shape[1] // prod(kernel), *kernel)
            B = B.reshape(*B.shape, *[1] * len(kernel))
        names = f"{path}.lora_A.weight", f"{path}.lora_B.weight"
        modules[path] = LoraModule(names, A, B, E.double(), scale)
    return modules


def lora_settings(config: AdaLoraConfig) -> dict[str, Any]:
    """Return the fields of `config` with the same meaning for LoRA."""
    values = written_values(config)
    return {field: values[field] for field in CARRIED_OVER}


class LoraModule(NamedTuple):
    """An adapted module, whose change is `scale · B · diag(E) · A`.

    A is `[rank, ...]`, B `[out, rank, ...]`; a LoRA file holds them under the two names.
    """

    names: tuple[str, str]
    A: torch.Tensor
    B: torch.Tensor
    E: torch.Tensor
    scale: float


def kernels_in(saved: SavedAdapter) -> dict[str, tuple[int, ...] | None]:
    """Return the kernels that `encoded_kernels` has written into the weights.

    Raises:
        CheckpointError: the kernels do not fit the factors.
    """
    path = folders.weights_in(saved.folder)
    if path is None or path.name != folders.WEIGHTS_NAME:
        return {}
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(KERNELS, "{}")
    try:
        found = json.loads(text).items()
        kernels = {module: tuple(map(int, each)) if each else None for module, each in found}
        for module, kernel in kernels.items():
            # One row, since no row fits every kernel.
            columns = saved.tensors[f"{module}.lora_A"].shape[1]
            torch.empty(1, columns, device="meta").reshape(1, -1, *(kernel or ()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, RuntimeError):
        raise CheckpointError(
            f"the kernels in {str(path)!r} do not fit its factors; save the adapter again"
        ) from None
    return kernels
