"""Replace the save in a folder so that an interruption at any moment leaves the old one or the new.

A save is the adapter's weights, its configuration and, while a run is unfinished, its training
state. The weights decide which save a folder holds. State and configuration are found by the digest
of the weights: `adalora_state.<digest>.safetensors`, and `adapter_config.<digest>.json` from the
moment that a configuration is replaced until the folder is complete again.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.files import locked, rename, staged, sync_folder

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
LEGACY_WEIGHTS_NAME = "adapter_model.bin"
_STATE = "adalora_state.{}.safetensors"
_KEPT_CONFIG = "adapter_config.{}.json"
_DIGITS = 16
_ANY_DIGEST = "[0-9a-f]" * _DIGITS


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
    contents = {weights_path: weights, current: config}
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
        for each in _kept_configs(folder):
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
    """Return the file with the configuration of the weights in `folder`.

    Raises:
        CheckpointError: there is none.
    """
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


def is_interrupted(folder: Path) -> bool:
    """Return whether a save into `folder` was interrupted."""
    return bool(_kept_configs(folder))


def _kept_config(folder: Path, digest: str) -> Path:
    return folder / _KEPT_CONFIG.format(digest[:_DIGITS])


def _kept_configs(folder: Path) -> list[Path]:
    return list(folder.glob(_KEPT_CONFIG.format(_ANY_DIGEST)))


def _holds(path: Path, content: bytes) -> bool:
    """Return whether a file with `content` may stay at `path`: it is there, or nothing is."""
    if not path.is_file():
        return not os.path.lexists(path)
    return path.stat().st_size == len(content) and path.read_bytes() == content
