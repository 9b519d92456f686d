"""The lossless training checkpoint beside an adapter: `adalora_state.safetensors` and `.json`.

PEFT's files hold the kept triplets alone; to go on as if a run had not stopped, dropped triplets,
the averages and the step are needed as well. Version 1 of the format:

- `adalora_state.json`: `version`, `adapter` (a hash of what training depends on), `step`,
  `target_reached`, `skipped_entries`, `history`, `positions`.
- `adalora_state.safetensors`: per module `<path>.lora_{A,E,B}`, whole, and `smoothed.<...>` and
  `uncertainty.<...>` of each while there are averages; `mask` after the first allocation;
  `rank_history`, the ranks after each allocation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from adalora_core.allocation import AllocationReport
from adalora_core.budget import Phase
from adalora_core.errors import CheckpointError
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.sharding import divided_like, whole
from adalora_core.training.adapter import spec_of
from adalora_core.training.checkpoint import encode_tensors

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from adalora_core.adapter_spec import AdapterSpec
    from adalora_core.allocation import RankAllocator
    from adalora_core.training.adapter import Adapter
    from adalora_core.training.checkpoint import SavedAdapter

STATE_VERSION = 1
STATE_NAME = "adalora_state.json"
STATE_WEIGHTS_NAME = "adalora_state.safetensors"
_FIELDS = {"adapter", "step", "target_reached", "skipped_entries", "positions", "history"}
STATE_FILES = (STATE_NAME, STATE_WEIGHTS_NAME)


class TrainingState:
    """A training checkpoint, read into memory and checked.

    Attributes:
        step: the last optimizer step taken.
        positions: rows of each module, as indices of its original triplets.
        tensors: factors, averages and mask.
    """

    def __init__(self, values: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        self.values = values
        self.tensors = tensors
        self.positions: dict[str, list[int]] = values["positions"]
        self.step: int | None = values["step"]

    def factors(self) -> dict[str, torch.Tensor]:
        """Return the whole factors, under the names that the adapter file gives the kept ones."""
        return {
            f"{path}.{factor}": self.tensors[f"{path}.{factor}"]
            for path in self.positions
            for factor in FACTORS
        }


def run_is_unfinished(adapter: Adapter) -> bool:
    """Return whether training of `adapter` has begun and its last step has not been taken."""
    allocator = adapter.allocator
    if allocator is None or allocator.last_step is None:
        return False
    return allocator.last_step + 1 < allocator.schedule.total_step


def encode_state(adapter: Adapter) -> dict[str, bytes]:
    """Return the two files of the training checkpoint of `adapter`, `{name: content}`."""
    allocator = _allocator_of(adapter)
    tensors: dict[str, torch.Tensor] = {}
    for path, layer in adapter.layers.items():
        for factor in FACTORS:
            tensors[f"{path}.{factor}"] = whole(getattr(layer, factor)[adapter.name])
    statistics = allocator.statistics
    averages = {"smoothed": statistics.smoothed, "uncertainty": statistics.uncertainty}
    for kind, each in averages.items():
        parameters = allocator.parameters() if each else []
        for name, parameter, average in zip(_factor_names(adapter), parameters, each, strict=False):
            tensors[f"{kind}.{name}"] = whole(divided_like(parameter, average))
    if allocator.mask is not None:
        tensors["mask"] = allocator.mask
    tensors["rank_history"] = allocator.ranks_over_time.rows()
    return {
        STATE_WEIGHTS_NAME: encode_tensors(tensors),
        STATE_NAME: json.dumps(progress(adapter), sort_keys=True).encode(),
    }


def progress(adapter: Adapter) -> dict[str, Any]:
    """Return what there is to know of a run beside its tensors, as JSON values."""
    allocator = _allocator_of(adapter)
    return {
        "version": STATE_VERSION,
        "adapter": fingerprint(adapter.spec, list(adapter.layers)),
        "step": allocator.last_step,
        "target_reached": allocator.target_reached,
        "skipped_entries": allocator.statistics.skipped_entries,
        "positions": adapter.positions,
        "history": [
            [each.step, each.phase.value, each.budget, each.allocated, each.skipped_entries]
            for each in allocator.history
        ],
    }


def restore_progress(allocator: RankAllocator, values: dict[str, Any]) -> None:
    """Bring `allocator` to where `values` were taken with `progress`."""
    allocator.last_step = values["step"]
    allocator.target_reached = bool(values["target_reached"])
    allocator.statistics.skipped_entries = int(values["skipped_entries"])
    allocator.history = [
        AllocationReport(step, Phase(phase), budget, allocated, skipped)
        for step, phase, budget, allocated, skipped in values["history"]
    ]


def fingerprint(spec: AdapterSpec, paths: list[str]) -> str:
    """Return a hash of what a run must not change on its way: its numbers and its modules."""
    described = dataclasses.asdict(spec) | {"modules": sorted(paths)}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def read_state(folder: Path) -> TrainingState | None:
    """Read the training checkpoint of `folder`, None if it has none.

    Raises:
        CheckpointError: it is damaged, incomplete or of another version.
    """
    path = folder / STATE_NAME
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_bytes())
        version = values["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, f"it is not a training state ({error!r})") from error
    if version != STATE_VERSION:
        raise _unreadable(path, f"expected version {STATE_VERSION}, got {version!r}")
    if missing := sorted(_FIELDS - set(values)):
        raise _unreadable(path, f"{missing} missing")
    try:
        tensors = load_file(folder / STATE_WEIGHTS_NAME)
    except (SafetensorError, OSError) as error:
        raise _unreadable(folder / STATE_WEIGHTS_NAME, str(error)) from error
    return TrainingState(values, tensors)


def check_state(state: TrainingState, saved: SavedAdapter) -> None:
    """Compare a training state with the adapter beside it, before a model is changed.

    Raises:
        CheckpointError: they are of different runs.
    """
    if state.values["adapter"] != fingerprint(spec_of(saved.config), list(state.positions)):
        raise CheckpointError(
            "training state: the configuration is not the one of the saved run, so the schedule "
            "would jump; restore adapter_config.json, or delete adalora_state.json to begin the "
            "allocation anew"
        )
    for name, sliced in saved.tensors.items():
        path, _, factor = name.rpartition(".")
        if factor not in FACTORS:
            continue
        whole = state.tensors.get(name)
        axis = 1 if factor == "lora_B" else 0
        shape = list(sliced.shape)
        shape[axis] = len(state.positions.get(path, ()))
        if whole is None or list(whole.shape) != shape:
            raise CheckpointError(
                f"training state: {name} should have shape {shape}, got "
                f"{None if whole is None else list(whole.shape)}; it and the adapter beside it are "
                "of different runs"
            )
    if "rank_history" not in state.tensors:
        raise CheckpointError("training state: rank_history is missing")
    averages = [name for name in state.tensors if name.startswith(("smoothed.", "uncertainty."))]
    if averages and len(averages) != 2 * len(state.factors()):
        raise CheckpointError("training state: some of the averages are missing")


def restore_allocator(adapter: Adapter, state: TrainingState) -> None:
    """Bring the allocator of `adapter` to where the checked `state` was taken."""
    allocator = _allocator_of(adapter)
    parameters = allocator.parameters()
    averages = []
    for kind in ("smoothed", "uncertainty"):
        found = [state.tensors.get(f"{kind}.{name}") for name in _factor_names(adapter)]
        averages.append(
            [
                average.to(parameter.device)
                for average, parameter in zip(found, parameters, strict=True)
                if average is not None
            ]
        )
    allocator.statistics.restore(*averages)
    mask = state.tensors.get("mask")
    allocator.mask = None if mask is None else mask.to(parameters[0].device)
    allocator.ranks_over_time.restore(state.tensors["rank_history"])
    restore_progress(allocator, state.values)


def _factor_names(adapter: Adapter) -> list[str]:
    return [f"{path}.{factor}" for path in adapter.layers for factor in FACTORS]


def _allocator_of(adapter: Adapter) -> RankAllocator:
    if adapter.allocator is None:
        raise ValueError(f"training state: the adapter {adapter.name!r} is frozen and has none")
    return adapter.allocator


def _unreadable(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"training state: {str(path)!r} cannot be used: {why}")
