"""Read a folder in PEFT's format, and encode the two files that a save puts there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from adalora_core.config.loading import config_of, read_config
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.escaping import visible
from adalora_core.floor.regular_files import is_inside
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.training.adapter_file.commit import (
    CONFIG_NAME,
    LEGACY_WEIGHTS_NAME,
    WEIGHTS_NAME,
    config_in,
    weights_in,
)
from adalora_core.training.adapter_file.pickled import MOST_DIMENSIONS, read_pickled
from adalora_core.training.compaction import TENSOR_PREFIX

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import torch

    from adalora_core.config.model import AdaLoraConfig

DEFAULT_ADAPTER = "default"
DAMAGED = (SafetensorError, RuntimeError, TypeError)
"""Errors of safetensors and of torch, which it asks for tensors of any shape in a header."""


@dataclass(slots=True)
class SavedAdapter:
    """An adapter folder, read into memory.

    Attributes:
        folder: path of the folder.
        config: the validated configuration.
        tensors: the tensors of the file, without the prefix `base_model.model.` in their names.
        embeddings: tensors of the base model's embeddings, by their names there; a comparison with
            the model moves them here.
    """

    folder: Path
    config: AdaLoraConfig
    tensors: dict[str, torch.Tensor]
    embeddings: dict[str, torch.Tensor] = field(default_factory=dict)

    def paths(self) -> list[str]:
        """Return the paths of the modules that the file has a factor of."""
        names = [name.rpartition(".") for name in self.tensors]
        return list(dict.fromkeys(path for path, _, factor in names if factor in FACTORS))


def read_adapter(
    folder: str | os.PathLike[str],
    fallback: Mapping[str, Any] | None = None,
    *,
    config: AdaLoraConfig | None = None,
) -> SavedAdapter:
    """Read and check an adapter folder.

    Args:
        folder: the folder.
        fallback: the configuration if the folder may lack it.
        config: the configuration to use instead of both.

    Raises:
        CheckpointError: a file is missing, truncated or of another kind.
        ConfigError: the configuration breaks the contract.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"from_pretrained: expected a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, but "
            f"{str(folder)!r} is {'a file' if folder.exists() else 'not there'}"
        )
    if config is None:
        is_there = fallback is None or (folder / CONFIG_NAME).is_file()
        config = read_config(config_in(folder)) if is_there else config_of(fallback or {})
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
    return SavedAdapter(folder, config, tensors)


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the weights in `folder`, by their names there.

    Raises:
        CheckpointError: there are none, or they are damaged.
    """
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
    except (*DAMAGED, OSError) as error:
        raise CheckpointError(
            f"from_pretrained: {str(path)!r} is not a whole safetensors file "
            f"({visible(str(error))}); it was cut short or is of another kind; copy it again"
        ) from error


def _read_legacy(path: Path) -> dict[str, torch.Tensor]:
    try:
        return read_pickled(path)
    except Exception as error:
        # The kinds of errors of zip and pickle files depend on the damage.
        raise CheckpointError(
            f"from_pretrained: {str(path)!r} cannot be read as weights ({visible(str(error))}); "
            "save the adapter as safetensors"
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
