"""Read a folder in PEFT's format, and encode the two files that a save puts there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from adalora_core.errors import CheckpointError
from adalora_core.training.adapter_file.commit import (
    CONFIG_NAME,
    LEGACY_WEIGHTS_NAME,
    WEIGHTS_NAME,
    config_in,
    weights_in,
)
from adalora_core.training.adapter_file.pickled import check_unpacked_size
from adalora_core.training.configuration import checked_config

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from adalora_core.contract import AdaLoraConfig

TENSOR_PREFIX = "base_model.model."


@dataclass(slots=True)
class SavedAdapter:
    """An adapter folder, read into memory.

    Attributes:
        folder: path of the folder.
        config: the validated configuration.
        tensors: the tensors of the file, without the prefix `base_model.model.` in their names.
    """

    folder: Path
    config: AdaLoraConfig
    tensors: dict[str, torch.Tensor]

    def paths(self) -> list[str]:
        """Return the paths of the adapted modules in the file."""
        return [name.removesuffix(".lora_A") for name in self.tensors if name.endswith(".lora_A")]


def read_adapter(
    folder: str | os.PathLike[str], config: Mapping[str, Any] | None = None
) -> SavedAdapter:
    """Read and check an adapter folder.

    Args:
        folder: the folder.
        config: the configuration if the folder may lack it.

    Raises:
        CheckpointError: a file is missing, truncated or of another kind.
        ConfigError: the configuration breaks the contract.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"from_pretrained: expected a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, but "
            f"{str(folder)!r} is {'a file' if folder.exists() else 'not there'}; download "
            "models of a hub first"
        )
    if config is None or (folder / CONFIG_NAME).is_file():
        checked = checked_config(config_in(folder))
    else:
        checked = checked_config(dict(config))
    tensors = {}
    for name, tensor in _read_tensors(folder).items():
        if not name.startswith(TENSOR_PREFIX):
            raise CheckpointError(
                f"from_pretrained: unexpected tensor {name!r} in {str(folder)!r}; PEFT's names "
                f"start with {TENSOR_PREFIX!r}"
            )
        tensors[name.removeprefix(TENSOR_PREFIX)] = tensor
    return SavedAdapter(folder, checked, tensors)


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    path = weights_in(folder)
    if path is None:
        raise CheckpointError(
            f"from_pretrained: {str(folder)!r} holds neither {WEIGHTS_NAME} nor "
            f"{LEGACY_WEIGHTS_NAME}"
        )
    if path.name == LEGACY_WEIGHTS_NAME:
        return _read_legacy(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"from_pretrained: {str(path)!r} is not a whole safetensors file ({error}); it was cut "
            "short or is of another kind; copy it again"
        ) from error


def _read_legacy(path: Path) -> dict[str, torch.Tensor]:
    try:
        check_unpacked_size(path)
        # weights_only: the file may not run code.
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load raises pickle, zip, runtime and value errors, depending on the damage.
        raise CheckpointError(
            f"from_pretrained: {str(path)!r} cannot be read as weights ({error}); save the adapter "
            "as safetensors"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in tensors.values()
    ):
        raise CheckpointError(f"from_pretrained: {str(path)!r} holds no {{name: tensor}} mapping")
    return tensors


def encode_config(values: Mapping[str, Any]) -> bytes:
    """Return the bytes of an `adapter_config.json` with sorted keys, as PEFT writes it."""
    return json.dumps(values, indent=2, sort_keys=True, allow_nan=False).encode()


def encode_tensors(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of a safetensors file; every tensor is copied out of shared storage."""
    independent = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
    }
    data: bytes = save(independent, metadata=dict(metadata or {"format": "pt"}))
    return data
