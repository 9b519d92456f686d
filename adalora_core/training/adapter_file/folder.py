"""Read a folder in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from adalora_core.errors import CheckpointError
from adalora_core.training.configuration import checked_config

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from adalora_core.contract import AdaLoraConfig

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
LEGACY_WEIGHTS_NAME = "adapter_model.bin"
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


def read_adapter(folder: str | os.PathLike[str]) -> SavedAdapter:
    """Read and check an adapter folder.

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
    config_path = folder / CONFIG_NAME
    if not config_path.is_file():
        raise CheckpointError(f"from_pretrained: {str(folder)!r} holds no {CONFIG_NAME}")
    config = checked_config(config_path)
    tensors = {}
    for name, tensor in _read_tensors(folder).items():
        if not name.startswith(TENSOR_PREFIX):
            raise CheckpointError(
                f"from_pretrained: unexpected tensor {name!r} in {str(folder)!r}; PEFT's names "
                f"start with {TENSOR_PREFIX!r}"
            )
        tensors[name.removeprefix(TENSOR_PREFIX)] = tensor
    return SavedAdapter(folder, config, tensors)


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS_NAME
    if path.is_file():
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"from_pretrained: {str(path)!r} is not a whole safetensors file ({error}); it "
                "was cut short or is of another kind; copy it again"
            ) from error
    legacy = folder / LEGACY_WEIGHTS_NAME
    if legacy.is_file():
        return _read_legacy(legacy)
    raise CheckpointError(
        f"from_pretrained: {str(folder)!r} holds neither {WEIGHTS_NAME} nor {LEGACY_WEIGHTS_NAME}"
    )


def _read_legacy(path: Path) -> dict[str, torch.Tensor]:
    try:
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
