"""The training state: what a resumed run needs beside the adapter file, in one file.

PEFT's files hold the kept triplets alone. A resumed run that equals the uninterrupted one needs the
dropped triplets, the averages and the progress as well. `adalora_state.<digest>.safetensors`, where
`<digest>` begins the SHA-256 of the adapter's weights, holds by module path and factor:

- `dropped.<path>.lora_{A,E,B}`: the dropped triplets of a module that has some;
- `smoothed.<path>.lora_{A,E,B}` and `uncertainty.<...>`: the averages, while there are some;
- `mask.<path>` and `ranks.<path>`: the kept rows, and the rank after each allocation.

The metadata holds the other values as a JSON text: `digest` (of the file, see `encode_file`),
`version`, `weights` (the whole digest of the weights), `config` (the configuration of the same
save), `run`, `step`, `target_reached`, `skipped_entries`, `positions` and `history`; and
`importance_criterion`, if it is not the default.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from adalora_core.allocation.criteria import keeps_averages
from adalora_core.allocation.statistics import average_dtype
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.escaping import visible
from adalora_core.floor.rank_pattern import RankPattern
from adalora_core.sharding import part_of
from adalora_core.training.adapter import Adapter
from adalora_core.training.adapter_file import folder as files
from adalora_core.training.training_state import contents
from adalora_core.training.training_state.contents import require

STATE_VERSION = 4
_BY_MODULE = {"mask": torch.bool, "ranks": torch.int16}
"""Values of the progress that are stored as tensors."""

_KEY = "adalora_state"

_DIGEST = re.compile(rb'"adalora_state":"\{\\"digest\\":\\"([0-9a-f]{64})\\"')
"""The digest in the file: the first value of a JSON text in the metadata, another JSON text."""

_ZEROS = "0" * 64

_LENGTH_BYTES = 8


@dataclass(slots=True)
class TrainingState:
    """A training state, read into memory.

    `values` are those of its metadata, after `complete` the whole progress; their `config` is the
    content of `adapter_config.json` of the same save, and their `positions` are the original
    triplets that the rows of each module are. The factors of all
    triplets, named as in the adapter file, and `{kind: {path.factor: values}}` of the averages are
    empty before.
    """

    path: Path
    values: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    factors: dict[str, torch.Tensor] = field(default_factory=dict)
    averages: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)

    def complete(self, saved: files.SavedAdapter, in_file: dict[str, list[int]]) -> None:
        """Check the state against the adapter beside it, and add the triplets of that adapter.

        `in_file`: which original triplets of each module the adapter file holds.
        """
        try:
            pattern, of_save = saved.config.rank_pattern, self.values["config"].get("rank_pattern")
            what = "rank_pattern of adapter_config.json"
            require(pattern == of_save, what, "the saved one", pattern)
            rest = dict(self.tensors)
            for kind, dtype in _BY_MODULE.items():
                names = [name for name in rest if name.startswith(f"{kind}.")]
                taken = {name: contents.take(rest, name, dtype).tolist() for name in names}
                self.values[kind] = {name.partition(".")[2]: each for name, each in taken.items()}
            contents.check_progress(self.values, AdapterSpec.of(saved.config), in_file)
            positions = self.values["positions"]
            self.factors = contents.joined_factors(rest, saved.tensors, positions, in_file)
            for path, flags in self.values["mask"].items():
                kept = {row for row, flag in zip(positions[path], flags, strict=True) if flag}
                what = "only triplets that are in the adapter file"
                require(kept <= set(in_file[path]), f"mask of {path}", what, flags)
            self.averages = contents.take_averages(rest, self.factors)
            has_averages = bool(self.averages[contents.AVERAGES[0]])
            is_due = self.values["step"] is not None and not self.values["target_reached"]
            is_due = is_due and keeps_averages(contents.saved_criterion(self.values))
            require(has_averages or not is_due, "averages", "some before the final phase", None)
            require(not rest, "the tensors", "no others", sorted(rest))
        except ValueError as error:
            raise _unusable(self.path, error) from error


def encode_state(
    adapter: Adapter, pattern: RankPattern | None, weights: bytes, config: bytes
) -> bytes:
    """Return the file of the training state of `adapter`, for the adapter file of the same save.

    That file has the triplets of `pattern`, all if it is None, as `weights`, and `config` beside
    it.
    """
    values = contents.progress(adapter)
    tensors = contents.dropped_factors(adapter, pattern)
    tensors |= contents.averages_of(contents.allocator_of(adapter))
    for kind, dtype in _BY_MODULE.items():
        for path, entries in values.pop(kind).items():
            tensors[f"{kind}.{path}"] = torch.tensor(entries, dtype=dtype)
    values |= {
        "version": STATE_VERSION,
        "weights": hashlib.sha256(weights).hexdigest(),
        "config": json.loads(config),
    }
    return encode_file(values, tensors)


def read_state(folder: Path) -> TrainingState | None:
    """Return the training state that completes the weights in `folder`, None without one.

    Raises:
        CheckpointError: the state is damaged or of another version, or all that there are complete
            other weights.
    """
    digest = files.digest_of_weights(folder)
    path = files.state_path(folder, digest)
    if not path.is_file():
        others = [each.name for each in files.states_in(folder)]
        # An interrupted save may leave the state of the save that it would have made.
        if others and not files.kept_configs(folder):
            raise CheckpointError(
                f"training state: {' and '.join(others)} in {str(folder)!r} completes other "
                "weights than the ones beside it, so they are of different runs or steps; restore "
                "its weights, or delete it to start a new allocation"
            )
        return None
    try:
        values, tensors = decode_file(path.read_bytes())
        version = values.get("version") if isinstance(values, dict) else None
        require(version == STATE_VERSION, "version", str(STATE_VERSION), version)
        own = {contents.CRITERION, contents.AUTOMATIC} & values.keys()
        contents.check_fields(values, {"version", "weights", "config", *contents.PROGRESS, *own})
        criterion = values.get(contents.CRITERION, "")
        require(isinstance(criterion, str), contents.CRITERION, "a string", criterion)
        automatic = values.get(contents.AUTOMATIC, True)
        require(automatic is True, contents.AUTOMATIC, "true", automatic)
        require(values["weights"] == digest, "weights", f"the digest {digest}", values["weights"])
        require(isinstance(values["config"], dict), "config", "a mapping", values["config"])
    except (ValueError, OSError) as error:
        raise _unusable(path, error) from error
    return TrainingState(path, values, tensors)


def restore_allocator(adapter: Adapter, state: TrainingState) -> None:
    """Restore the allocator of `adapter` from `state`, after `complete`."""
    allocator = contents.allocator_of(adapter)
    names = contents.factor_names(adapter.layers)
    averages = (
        [
            part_of(each, values[name], name).to(each.device, average_dtype(each.dtype))
            for name, each in zip(names, allocator.parameters(), strict=True)
            if values
        ]
        for values in (state.averages[kind] for kind in contents.AVERAGES)
    )
    allocator.statistics.restore(*averages)
    contents.restore_progress(allocator, state.values)
    adapter.run.automatic.resumes = contents.AUTOMATIC in state.values


def _unusable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"training state: {str(path)!r} cannot be used: {error}. Restore the file, or delete it to "
        "start a new allocation"
    )


def encode_file(values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the bytes of the file.

    Its digest is the SHA-256 of these bytes, with zeros in place of the digest.
    """
    text = json.dumps({"digest": _ZEROS, **values}, separators=(",", ":"))
    data = files.encode_tensors(tensors, {_KEY: text})
    start, end = _place_of_digest(data)
    return data[:start] + hashlib.sha256(data).hexdigest().encode() + data[end:]


def decode_file(data: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return values and tensors: the inverse of `encode_file`; a ValueError for other bytes."""
    start, end = _place_of_digest(data)
    digest = hashlib.sha256(data[:start] + _ZEROS.encode() + data[end:]).hexdigest()
    if digest.encode() != data[start:end]:
        raise ValueError("it is damaged: its bytes have another digest than the one that it names")
    try:
        tensors = load(data)
        values = json.loads(json.loads(_header(data))["__metadata__"][_KEY])
        del values["digest"]
    except (*files.DAMAGED, KeyError, ValueError) as error:
        raise ValueError(f"it is not a training state ({visible(str(error))})") from error
    return values, tensors


def _place_of_digest(data: bytes) -> tuple[int, int]:
    found = _DIGEST.search(_header(data))
    if found is None:
        raise ValueError("it is not a training state, or it is damaged: it names no digest")
    return _LENGTH_BYTES + found.start(1), _LENGTH_BYTES + found.end(1)


def _header(data: bytes) -> bytes:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    return data[_LENGTH_BYTES : _LENGTH_BYTES + length]
