"""Write an AdaLoRA adapter as a LoRA adapter with the same outputs.

`B · diag(E) · A · scale = B · (A · E · scale)`, so with `lora_A = A · E · scale`, `lora_B = B`, and
`lora_alpha = r` per module the outputs are equal. Servers that support only LoRA can use the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from adalora_core.config.model import AdaLoraConfig
from adalora_core.config.rules.runs import BudgetNotReached
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.files import locked, refuse_links_out
from adalora_core.floor.rank_pattern import TENSOR_PREFIX
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.sharding import are_sharded
from adalora_core.training.adapter import written_values
from adalora_core.training.adapter_file.folder import SavedAdapter, read_adapter
from adalora_core.training.adapter_file.lora import LoraFile, LoraModule, kernels_in
from adalora_core.training.adapter_file.tensors import collect_tensors, row_positions
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
        saved = read_adapter(source)
        kernels = kernels_in(saved)
    refuse_same(source, destination, "export_lora")
    warn_if_folder_is_unfinished(saved, "exported")
    write_lora(saved, destination, kernels=kernels, scales={}, pad_ranks=pad_ranks)


def warn_if_folder_is_unfinished(saved: SavedAdapter, what: str) -> None:
    """Warn of a save from the middle of a run, after a check of its factors.

    Raises:
        CheckpointError: factors are missing or do not fit together.
    """
    ranks = [len(rows) for rows in row_positions(saved).values()]
    kept, target = sum(ranks), AdapterSpec.of(saved.config).target_r * len(ranks)
    if saved.config.rank_pattern is not None and kept > target:
        seen = f"{str(saved.folder)!r} is {what} with {kept} triplets, target {target}"
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
    kernels = {path: layer.lora_kernel(path) for path, layer in adapter.layers.items()}
    scales = {path: layer.scale for path, layer in adapter.layers.items()}
    saved = SavedAdapter(
        Path(destination),
        adapter.config,
        {key.removeprefix(TENSOR_PREFIX): values for key, values in tensors.items()},
    )
    write_lora(saved, destination, kernels=kernels, scales=scales, pad_ranks=pad_ranks)


def write_lora(
    saved: SavedAdapter,
    destination: str | os.PathLike[str],
    *,
    kernels: Mapping[str, tuple[int, ...]],
    scales: Mapping[str, float],
    pad_ranks: bool = False,
) -> None:
    """Write `saved`, whose factors are taken out, as a LoRA adapter; see `modules_of`."""
    modules = modules_of(saved, kernels, scales)

    def factors(path: str) -> tuple[torch.Tensor, torch.Tensor]:
        _, A, B, E, scale = modules[path]
        # In float64, so that the file is as close as its dtype allows.
        return A.flatten(1).double() * E * scale, B.flatten(1)

    ranks = {path: len(each.A) for path, each in modules.items()}
    file = LoraFile(modules, ranks, saved.tensors, pad_ranks=pad_ranks)
    file.write(destination, lora_settings(saved.config), factors, "export_lora")


def modules_of(
    saved: SavedAdapter, kernels: Mapping[str, tuple[int, ...]], scales: Mapping[str, float]
) -> dict[str, LoraModule]:
    """Take the modules out of `saved`, whose tensors lose their factors.

    `kernels` are trailing dimensions of `lora_A`, see `AdaLoraLayer.lora_kernel`; `scales` differ
    from that of the configuration. Both are by path.
    """
    usual, modules = AdapterSpec.of(saved.config).scale, {}
    for path in saved.paths():
        A, E, B = (saved.tensors.pop(f"{path}.{factor}") for factor in FACTORS)
        if kernel := kernels.get(path):
            A = A.reshape(len(A), A.shape[1] // prod(kernel), *kernel)
            B = B.reshape(*B.shape, *[1] * len(kernel))
        names = f"{path}.lora_A.weight", f"{path}.lora_B.weight"
        modules[path] = LoraModule(names, A, B, E.double(), scales.get(path, usual))
    return modules


def lora_settings(config: AdaLoraConfig) -> dict[str, Any]:
    """Return the fields of `config` with the same meaning for LoRA."""
    values = written_values(config)
    return {field: values[field] for field in CARRIED_OVER}


def refuse_same(
    source: str | os.PathLike[str], destination: str | os.PathLike[str], command: str
) -> None:
    """Raise CheckpointError if what is written would replace what was read."""
    if Path(source).resolve() == Path(destination).resolve():
        raise CheckpointError(
            f"{command}: the LoRA adapter would replace the adapter that is read from "
            f"{str(source)!r}; name another folder to write to"
        )
