"""Read adapters of the Hugging Face Hub, and push adapters to it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from adalora_core.errors import CheckpointError, MissingExtraError
from adalora_core.training.adapter_file.commit import (
    CONFIG_NAME,
    LEGACY_WEIGHTS_NAME,
    WEIGHTS_NAME,
    digest_of_weights,
    state_path,
)
from adalora_core.training.model_card import CARD_NAME, add_tags

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

_ID = re.compile(r"(?!\.)[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def adapter_folder(
    source: str | os.PathLike[str],
    *,
    with_state: bool,
    subfolder: str | None = None,
    revision: str | None = None,
    token: bool | str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """Return the folder `source` if there is one, or else download the adapter of that Hub id.

    Args:
        source: a folder, or the id of a model of the Hub.
        with_state: also download the training state, if there is one.
        subfolder: folder of the adapter inside `source`.
        revision: branch, tag or commit of the Hub; all files are those of one commit.
        token: token of the Hub; None means the one of the login.
        cache_dir: where downloads are kept; None means the default of `huggingface_hub`.
        local_files_only: use what was downloaded before, and never the network.
        force_download: download again what is there.

    Raises:
        CheckpointError: `source` looks like an id, and the Hub has no such adapter.
    """
    folder = Path(source, subfolder or "")
    if Path(source).exists() or not isinstance(source, str) or not _ID.fullmatch(source):
        return folder
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise CheckpointError(
            f"from_pretrained: {source!r} is not a folder here, and an id of the Hub needs the "
            "package 'huggingface_hub'; install it with: pip install huggingface_hub"
        ) from error

    def download(name: str, revision: str | None) -> Path:
        path = hf_hub_download(
            source,
            name,
            subfolder=subfolder or None,
            revision=revision,
            token=token,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            local_files_only=local_files_only,
            force_download=force_download,
        )
        return Path(path)

    try:
        folder = download(CONFIG_NAME, revision).parent
        commit = _commit_of(folder) or revision
        try:
            download(WEIGHTS_NAME, commit)
        except EntryNotFoundError:
            download(LEGACY_WEIGHTS_NAME, commit)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"from_pretrained: {source!r} is neither a folder here nor an adapter of the Hub that "
            f"can be read: {error}\nIf a folder was meant: there is none at "
            f"{str(Path(source).absolute())!r}; correct the path"
        ) from error
    if with_state:
        with contextlib.suppress(EntryNotFoundError):  # A finished run has none.
            download(state_path(folder, digest_of_weights(folder)).name, commit)
    return folder


def _commit_of(folder: Path) -> str | None:
    """Return the commit of a folder in the cache of the Hub."""
    return next((part for part in reversed(folder.parts) if _COMMIT.fullmatch(part)), None)


def push_folder(
    save: Callable[[Path], None],
    repo_id: str,
    *,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tags: Sequence[str] | None = None,
) -> Any:
    """Upload what `save` writes into a folder; see `AdaLoraModel.push_to_hub`.

    A model card that the repository has is updated, not replaced.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "transformers", "push_to_hub") from error
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None and not revision.startswith("refs/pr"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with contextlib.suppress(EntryNotFoundError):  # A new repository has no card.
            card = hf_hub_download(repo_id, CARD_NAME, revision=revision, token=token)
            (folder / CARD_NAME).write_bytes(Path(card).read_bytes())
        save(folder)
        if not any(folder.rglob(WEIGHTS_NAME)):
            return None  # Another process writes.
        add_tags(folder, tags or ())
        return api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message or "Upload adapter",
            commit_description=commit_description,
            revision=revision,
            create_pr=create_pr,
        )
