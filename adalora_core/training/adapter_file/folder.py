"""Read a save in PEFT's format, and replace it so that an interruption leaves the old or the new.

A save is the adapter's weights, its configuration and, while a run is unfinished, its training
state. The weights decide which save a folder holds. State and configuration are found by the digest
of the weights: `adalora_state.<digest>.safetensors`, and `adapter_config.<digest>.json` from the
moment that a configuration is replaced until the folder is complete again.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from adalora_core.config.fields.table import as_written
from adalora_core.config.model import AdaLoraConfig, config_of, read_config
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import is_inside, locked, object_in, rename, staged, sync_folder
from adalora_core.floor.rank_pattern import TENSOR_PREFIX
from adalora_core.nn.adapter_layer import DEFAULT_ADAPTER, FACTORS

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
LEGACY_WEIGHTS_NAME = "adapter_model.bin"
_STATE = "adalora_state.{}.safetensors"
_KEPT_CONFIG = "adapter_config.{}.json"
_DIGITS = 16
_ANY_DIGEST = "[0-9a-f]" * _DIGITS

MOST_DIMENSIONS = 8
MOST_SHARED = 4
"""How many times the size of its file all tensors may fill: tied weights have several names."""
DAMAGED = (SafetensorError, RuntimeError, TypeError)
"""Errors of safetensors and of torch, which it asks for tensors of any shape in a header."""


@dataclass(slots=True)
class SavedAdapter:
    """An adapter folder, read into memory; names of tensors have no prefix `base_model.model.`."""

    folder: Path
    config: AdaLoraConfig
    tensors: dict[str, torch.Tensor]

    def paths(self) -> list[str]:
        """Return the paths of the modules that the file has a factor of."""
        names = [name.rpartition(".") for name in self.tensors]
        return list(dict.fromkeys(path for path, _, factor in names if factor in FACTORS))


def read_adapter(
    folder: str | os.PathLike[str],
    fallback: Mapping[str, Any] | None = None,
    *,
    config: AdaLoraConfig | None = None,
    **changes: Any,
) -> SavedAdapter:
    """Read and check an adapter folder.

    `config` is used instead of the file, and `fallback` where there is none. `changes` are values
    in place of those of the file.

    Raises:
        CheckpointError: a file is missing, truncated or of another kind.
        ConfigError: the configuration breaks the contract.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"from_pretrained: expected a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, but "
            f"{str(folder)!r} is {'a file' if folder.exists() else 'not there'}; PeftModel of "
            "adalora_core.peft loads from the Hub"
        )
    if config is None:
        is_there = fallback is None or (folder / CONFIG_NAME).is_file()
        values = dict(fallback or {}) | changes
        path = config_in(folder) if is_there else folder
        if is_there and object_in(path).get("peft_type") == "LORA":
            raise CheckpointError(
                f"from_pretrained: {str(folder)!r} holds a LoRA adapter; PeftModel.from_pretrained "
                "of adalora_core.peft loads it"
            )
        config = read_config(path, **changes) if is_there else config_of(values)
    return SavedAdapter(folder, config, tensors_in(folder))


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the weights in `folder`, without the prefix of PEFT's names."""
    tensors = {}
    for name, tensor in read_tensors(folder).items():
        if not name.startswith(TENSOR_PREFIX):
            raise CheckpointError(
                f"from_pretrained: unexpected tensor {name!r} in {str(folder)!r}; PEFT's names "
                f"start with {TENSOR_PREFIX!r}"
            )
        if tensor.dim() > MOST_DIMENSIONS:  # torch computes with 64 at most
            raise CheckpointError(
                f"from_pretrained: the tensor {name!r} in {str(folder)!r} has {tensor.dim()} "
                f"dimensions, more than the limit of {MOST_DIMENSIONS}"
            )
        tensors[name.removeprefix(TENSOR_PREFIX)] = tensor
    return tensors


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the weights in `folder`, by their names there."""
    path = weights_in(folder)
    if path is None:
        raise CheckpointError(
            f"from_pretrained: {str(folder)!r} holds neither {WEIGHTS_NAME} nor "
            f"{LEGACY_WEIGHTS_NAME}"
        )
    if path.name == WEIGHTS_NAME:
        tensors, other = mapped(path), folder / LEGACY_WEIGHTS_NAME
        if other.is_file() and not _are_equal(tensors, other):
            raise CheckpointError(
                f"from_pretrained: {LEGACY_WEIGHTS_NAME} and {WEIGHTS_NAME} in {str(folder)!r} "
                "hold other weights, and PEFT takes the latter; delete the one that is not meant"
            )
        return tensors
    return _of_pickle(path)


def _are_equal(tensors: dict[str, torch.Tensor], other: Path) -> bool:
    try:
        others = _of_pickle(other)
    except CheckpointError:
        return True  # nobody loads it
    are_equal = (each.equal(others[name]) for name, each in tensors.items())
    return tensors.keys() == others.keys() and all(are_equal)


def _of_pickle(path: Path) -> dict[str, torch.Tensor]:
    try:
        return _unpickled(path)
    except Exception as error:
        # The kinds of errors of zip and pickle files depend on the damage.
        raise CheckpointError(
            f"from_pretrained: {str(path)!r} cannot be read as weights "
            f"({visible(' '.join(str(error).split()))}); save the adapter as safetensors"
        ) from error


def _unpickled(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file of `torch.save`, as torch reads them; none is copied.

    Raises:
        ValueError: the file is older than zip archives, or holds more than dense tensors.
        Exception: of another kind, by the damage.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("expected a zip archive, as torch.save writes since release 1.6")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about kinds of tensors that are refused
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError("it holds no {name: tensor} mapping")
    for name, each in found.items():
        is_dense = type(each) in {torch.Tensor, torch.nn.Parameter} and not (
            each.layout != torch.strided or each.is_quantized or each.is_nested or each.is_meta
        )
        if not is_dense or min(each.shape, default=0) < 0:  # torch takes such shapes
            raise ValueError(f"{name!r} is not a dense tensor")
    if (filled := sum(each.nbytes for each in found.values())) > MOST_SHARED * path.stat().st_size:
        raise ValueError(f"its tensors share their memory: copies would fill {filled} bytes")
    return {name: each.detach() for name, each in found.items()}


def mapped(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file; they take memory while they are looked at."""
    try:
        return load_file(path)
    except (*DAMAGED, OSError) as error:
        raise CheckpointError(
            f"from_pretrained: {str(path)!r} is not a whole safetensors file "
            f"({visible(str(error))}); it was cut short or is of another kind; copy it again"
        ) from error


def folder_of(directory: str | os.PathLike[str], name: str) -> Path:
    """Return the folder of the adapter `name` in a save to `directory`.

    Raises:
        ValueError: it is not inside of `directory`: the name is a path, or a link leads out.
    """
    folder = Path(directory) / ("" if name == DEFAULT_ADAPTER else name)
    if is_inside(folder, directory):
        return folder
    raise ValueError(
        f"save_pretrained: the folder of the adapter {name!r} is not inside of "
        f"{str(directory)!r}: the name is a path, or a link leads out; rename the adapter, or "
        "remove the link"
    )


def encode_config(values: Mapping[str, Any]) -> bytes:
    """Return the bytes of an `adapter_config.json` with sorted keys, as PEFT writes it."""
    return json.dumps(as_written(values), indent=2, sort_keys=True, allow_nan=False).encode()


def encode_tensors(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of a safetensors file; every tensor is copied out of shared storage."""
    independent = {n: each.detach().cpu().contiguous().clone() for n, each in tensors.items()}
    data: bytes = save(independent, metadata=dict(metadata or {"format": "pt"}))
    return data


def commit(
    folder: Path,
    weights: bytes,
    config: bytes,
    state: bytes | None = None,
    *,
    weights_name: str = WEIGHTS_NAME,
) -> None:
    """Replace the save in `folder`, which is created if missing.

    Until the weights are renamed the folder holds the old save, and from then on the new one. In
    between there may be no `adapter_config.json`, so no reader takes the weights of one save with
    the configuration of the other. Other commits into the folder wait, and so does a reader that
    locks it.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the old save is as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    current, weights_path = folder / CONFIG_NAME, folder / weights_name
    digest = hashlib.sha256(weights).hexdigest()
    kept, new_state = _kept_config(folder, digest), state_path(folder, digest)
    contents: dict[Path, bytes] = {weights_path: weights, current: config}
    if state is not None:
        contents[new_state] = state
    with locked(folder), staged(contents) as temporary:
        old = _kept_config(folder, digest_of_weights(folder))
        try:
            if not _holds(current, config):
                rename(current, old)
            rename(temporary[current], kept)
            if state is not None:
                rename(temporary[new_state], new_state)
            sync_folder(folder)
            rename(temporary[weights_path], weights_path)
        except OSError:
            if old != kept:
                kept.unlink(missing_ok=True)
                new_state.unlink(missing_ok=True)
            if old.exists():
                rename(old, current)
            raise
        sync_folder(folder)
        # States first: one of another save is a mistake unless a kept configuration is beside it.
        for each in states_in(folder):
            if each != new_state or state is None:
                each.unlink()
        rename(kept, current)
        for each in kept_configs(folder):
            each.unlink()
        sync_folder(folder)


def digest_of_weights(folder: Path) -> str:
    """Return the SHA-256 of the weights in `folder`; of nothing if there are none."""
    path = weights_in(folder)
    if path is None:
        return hashlib.sha256().hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_in(folder: Path) -> Path | None:
    """Return the file with the weights in `folder`, None without one."""
    paths = (folder / name for name in (WEIGHTS_NAME, LEGACY_WEIGHTS_NAME))
    return next((path for path in paths if path.is_file()), None)


def config_in(folder: Path) -> Path:
    """Return the file with the configuration of the weights in `folder`; there has to be one."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        path = _kept_config(folder, digest_of_weights(folder))
    if not path.is_file():
        raise CheckpointError(
            f"from_pretrained: {str(folder)!r} holds no {CONFIG_NAME}; name the folder that "
            "save_pretrained wrote"
        )
    return path


def state_path(folder: Path, digest: str) -> Path:
    """Return where the training state that completes the weights of a digest is."""
    return folder / _STATE.format(digest[:_DIGITS])


def states_in(folder: Path) -> list[Path]:
    """Return the training states in `folder`, whatever weights they complete."""
    return sorted(folder.glob(_STATE.format(_ANY_DIGEST)))


def _kept_config(folder: Path, digest: str) -> Path:
    return folder / _KEPT_CONFIG.format(digest[:_DIGITS])


def kept_configs(folder: Path) -> list[Path]:
    """Return the configurations in `folder` that an interrupted save has left."""
    return list(folder.glob(_KEPT_CONFIG.format(_ANY_DIGEST)))


def _holds(path: Path, content: bytes) -> bool:
    """Return whether a file with `content` may stay at `path`: it is there, or nothing is."""
    if not path.is_file():
        return not os.path.lexists(path)
    return path.stat().st_size == len(content) and path.read_bytes() == content
