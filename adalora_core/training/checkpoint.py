"""Adapter folders in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

Everything is read and checked before a model is touched, and written under temporary names before
anything is replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from adalora_core.contract import AdaLoraConfig, check_config
from adalora_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
LEGACY_WEIGHTS_NAME = "adapter_model.bin"
TENSOR_PREFIX = "base_model.model."


@dataclass(slots=True)
class SavedAdapter:
    """An adapter folder, read into memory.

    Attributes:
        folder: where it was.
        config: its validated configuration.
        tensors: as in the file, without the prefix `base_model.model.`.
    """

    folder: Path
    config: AdaLoraConfig
    tensors: dict[str, torch.Tensor]

    def paths(self) -> list[str]:
        """Return the adapted modules that the file speaks of."""
        return [name.removesuffix(".lora_A") for name in self.tensors if name.endswith(".lora_A")]


def read_adapter(folder: str | os.PathLike[str]) -> SavedAdapter:
    """Read and check an adapter folder.

    Raises:
        CheckpointError: a file is missing, truncated or foreign.
        ConfigError: the configuration breaks the contract.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"from_pretrained: expected a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, but "
            f"{str(folder)!r} is {'a file' if folder.exists() else 'not there'}; models on a hub "
            "have to be downloaded first"
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


def checked_config(source: Path | dict[str, Any]) -> AdaLoraConfig:
    """Return the configuration if nothing in it breaks the contract.

    Advice on the schedule (findings of severity warning) was given when it was written.

    Raises:
        ConfigError: it breaks the contract.
    """
    report = check_config(source, runtime="adalora-core")
    report.raise_if_errors()
    config = report.config
    assert config is not None  # noqa: S101 - a report without errors has one
    return config


def checked_copy(config: AdaLoraConfig) -> AdaLoraConfig:
    """Return a copy of `config` after running the whole contract again: fields can be assigned.

    Raises:
        ConfigError: it breaks the contract by now.
        TypeError: it is not an AdaLoraConfig.
    """
    if not isinstance(config, AdaLoraConfig):
        raise TypeError(
            f"peft_config: expected adalora_core.AdaLoraConfig, got "
            f"{type(config).__module__}.{type(config).__name__}; build it with adalora_core"
        )
    return checked_config(config.to_json_dict())


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS_NAME
    if path.is_file():
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"from_pretrained: {str(path)!r} is not a whole safetensors file ({error}); it was "
                "cut short or is something else; copy it again"
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
        # torch.load raises pickle, zip, runtime and value errors, by what is wrong with the file.
        raise CheckpointError(
            f"from_pretrained: {str(path)!r} cannot be read as weights ({error}); save the adapter "
            "as safetensors"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in tensors.values()
    ):
        raise CheckpointError(f"from_pretrained: {str(path)!r} holds no {{name: tensor}} mapping")
    return tensors


def write_files(
    folder: str | os.PathLike[str], contents: Mapping[str, bytes], *, remove: Iterable[str] = ()
) -> None:
    """Write several files into `folder` so that an interruption leaves the old ones or the new.

    All are written under temporary names first; then they are renamed in the order of `contents`.
    Files named in `remove` are deleted just before.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the old files are untouched.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    staged: list[tuple[str, Path]] = []
    try:
        for name, data in contents.items():
            handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
            staged.append((temporary, folder / name))
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; an adapter is as readable as any other file.
            Path(temporary).chmod(0o666 & ~_umask())
        for name in remove:
            (folder / name).unlink(missing_ok=True)
        while staged:
            temporary, final = staged[0]
            Path(temporary).replace(final)
            staged.pop(0)
    finally:
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def encode_config(values: Mapping[str, Any]) -> bytes:
    """Return the bytes of an `adapter_config.json`, keys sorted, as PEFT writes it."""
    return json.dumps(values, indent=2, sort_keys=True, allow_nan=False).encode()


def encode_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the bytes of a safetensors file; every tensor is copied out of shared storage."""
    independent = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
    }
    data: bytes = save(independent, metadata={"format": "pt"})
    return data
