"""The training state beside an adapter file: `adalora_state.safetensors` and `.json`.

PEFT's files hold the kept triplets alone. A resumed run that equals the uninterrupted one needs the
dropped triplets, the averages and the step as well. Version 2 of the format:

- `adalora_state.json`: `version`, `adapter` (a hash of what training depends on), `kept` (a hash of
  the factors in the adapter file, which this one completes), `step`, `target_reached`,
  `skipped_entries`, `history`, `positions`.
- `adalora_state.safetensors`: per module with dropped triplets `dropped.<path>.lora_{A,E,B}`; while
  there are averages `smoothed.<dtype>.{first,last}` and `uncertainty.<dtype>.{first,last}`, see
  `tensors`; `mask` after the first allocation; `rank_history`, the ranks after each allocation.

Version 1, which is still read, holds `<path>.lora_{A,E,B}` of all triplets, and `smoothed.<...>`
and `uncertainty.<...>` of each.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from adalora_core.adapter_spec import AdapterSpec
from adalora_core.errors import CheckpointError
from adalora_core.nn.adapter_layer import FACTORS, TRIPLET_AXES
from adalora_core.training.files import encode_tensors
from adalora_core.training.training_state import tensors as state_tensors
from adalora_core.training.training_state.progress import (
    allocator_of,
    fingerprint,
    progress,
    restore_progress,
)
from adalora_core.training.training_state.tensors import AVERAGES, factor_names

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from adalora_core.rank_pattern import RankPattern
    from adalora_core.training.adapter import Adapter
    from adalora_core.training.adapter_file.folder import SavedAdapter

STATE_VERSION = 2
STATE_NAME = "adalora_state.json"
STATE_WEIGHTS_NAME = "adalora_state.safetensors"
STATE_FILES = (STATE_NAME, STATE_WEIGHTS_NAME)
_FIELDS = {"adapter", "step", "target_reached", "skipped_entries", "positions", "history"}
_FIELDS_OF_VERSION = {1: _FIELDS, 2: _FIELDS | {"kept"}}


class TrainingState:
    """A training state, read into memory.

    Attributes:
        values: the content of the JSON file.
        tensors: the content of the safetensors file.
        positions: rows of each module, as indices of its original triplets.
        factors: factors of all triplets, named as in the adapter file; empty before `complete`.
        averages: `{kind: one tensor per factor}`; empty before `complete`.
    """

    def __init__(self, values: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        self.values = values
        self.tensors = tensors
        self.positions: dict[str, list[int]] = values["positions"]
        self.factors: dict[str, torch.Tensor] = {}
        self.averages: dict[str, list[torch.Tensor]] = {}

    def complete(self, saved: SavedAdapter, in_file: dict[str, list[int]]) -> None:
        """Check the state against the adapter beside it, and add the triplets of that adapter.

        Args:
            saved: the adapter.
            in_file: which original triplets of each module the adapter file holds.

        Raises:
            CheckpointError: state and adapter are of different runs, or tensors are missing.
        """
        if self.values["adapter"] != fingerprint(
            AdapterSpec.of(saved.config), list(self.positions)
        ):
            raise CheckpointError(
                "training state: the configuration is not the one of the saved run, so the "
                "schedule would jump; restore adapter_config.json, or delete adalora_state.json to "
                "restart the allocation"
            )
        if "rank_history" not in self.tensors:
            raise CheckpointError("training state: rank_history is missing")
        names = factor_names(self.positions)
        if self.values["version"] == 1:
            self.factors = _whole_factors(self.tensors, saved, self.positions)
            self.averages = _whole_averages(self.tensors, names)
            return
        factors = state_tensors.joined_factors(self.tensors, saved.tensors, self.positions, in_file)
        if self.values["kept"] != state_tensors.digest_of(saved.tensors, in_file):
            raise CheckpointError(
                "training state: the adapter beside it has other values than when both were "
                "saved, so they are of different runs; delete adalora_state.json to restart the "
                "allocation"
            )
        self.averages = state_tensors.unpack_averages(self.tensors, factors, names)
        self.factors = factors


def _whole_factors(
    tensors: dict[str, torch.Tensor], saved: SavedAdapter, positions: dict[str, list[int]]
) -> dict[str, torch.Tensor]:
    for name, sliced in saved.tensors.items():
        path, _, factor = name.rpartition(".")
        if factor not in FACTORS:
            continue
        found = tensors.get(name)
        shape = list(sliced.shape)
        shape[TRIPLET_AXES[factor]] = len(positions.get(path, ()))
        if found is None or list(found.shape) != shape:
            raise CheckpointError(
                f"training state: {name} should have shape {shape}, got "
                f"{None if found is None else list(found.shape)}; the state and the adapter beside "
                "it are of different runs"
            )
    return {name: tensors[name] for name in factor_names(positions)}


def _whole_averages(
    tensors: dict[str, torch.Tensor], names: list[str]
) -> dict[str, list[torch.Tensor]]:
    wanted = {kind: [f"{kind}.{name}" for name in names] for kind in AVERAGES}
    found = [name in tensors for each in wanted.values() for name in each]
    if not any(found):
        return {kind: [] for kind in wanted}
    if not all(found):
        raise CheckpointError("training state: some of the averages are missing")
    return {kind: [tensors[name] for name in each] for kind, each in wanted.items()}


def run_is_unfinished(adapter: Adapter) -> bool:
    """Return whether `adapter` has made a step and not its last one."""
    allocator = adapter.allocator
    if allocator is None or allocator.last_step is None:
        return False
    return allocator.last_step + 1 < allocator.schedule.total_step


def encode_state(adapter: Adapter, pattern: RankPattern | None) -> dict[str, bytes]:
    """Return the two files of the training state of `adapter`, `{name: content}`.

    Args:
        adapter: the adapter.
        pattern: the triplets in the adapter file of the same save; None means all.
    """
    allocator = allocator_of(adapter)
    kept, dropped = state_tensors.split_factors(adapter, pattern)
    tensors = {f"{state_tensors.DROPPED}{name}": values for name, values in dropped.items()}
    tensors |= state_tensors.pack_averages(allocator)
    if allocator.mask is not None:
        tensors["mask"] = allocator.mask
    tensors["rank_history"] = allocator.ranks_over_time.rows()
    values = {
        **progress(adapter),
        "version": STATE_VERSION,
        "kept": state_tensors.digest_of(kept, adapter.layers),
    }
    return {
        STATE_WEIGHTS_NAME: encode_tensors(tensors),
        STATE_NAME: json.dumps(values, sort_keys=True).encode(),
    }


def read_state(folder: Path) -> TrainingState | None:
    """Return the training state in `folder`, None without one.

    Raises:
        CheckpointError: the state is damaged, incomplete or of another version.
    """
    path = folder / STATE_NAME
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_bytes())
        version = values["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, f"it is not a training state ({error!r})") from error
    if version not in _FIELDS_OF_VERSION:
        raise _unreadable(
            path, f"expected one of the versions {list(_FIELDS_OF_VERSION)}, got {version!r}"
        )
    if missing := sorted(_FIELDS_OF_VERSION[version] - set(values)):
        raise _unreadable(path, f"the fields {missing} are missing")
    try:
        tensors = load_file(folder / STATE_WEIGHTS_NAME)
    except (SafetensorError, OSError) as error:
        raise _unreadable(folder / STATE_WEIGHTS_NAME, str(error)) from error
    return TrainingState(values, tensors)


def restore_allocator(adapter: Adapter, state: TrainingState) -> None:
    """Restore the allocator of `adapter` from `state`, after `complete`."""
    allocator = allocator_of(adapter)
    devices = [each.device for each in allocator.parameters()]
    averages = (
        # There are no averages in the final phase.
        [each.to(device) for each, device in zip(state.averages[kind], devices, strict=False)]
        for kind in AVERAGES
    )
    allocator.statistics.restore(*averages)
    mask = state.tensors.get("mask")
    allocator.mask = None if mask is None else mask.to(devices[0])
    allocator.ranks_over_time.restore(state.tensors["rank_history"])
    restore_progress(allocator, state.values)


def _unreadable(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"training state: {str(path)!r} cannot be used: {why}")
