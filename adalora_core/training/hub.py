"""Describe an adapter in a model card, and share adapters on the Hub."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from adalora_core.floor.errors import CheckpointError, MissingExtraError
from adalora_core.floor.files import write_file
from adalora_core.floor.limits import DEFAULT_LIMITS
from adalora_core.floor.regular_files import read_within
from adalora_core.training.adapter_file.folder import (
    CONFIG_NAME,
    LEGACY_WEIGHTS_NAME,
    WEIGHTS_NAME,
    digest_of_weights,
    state_path,
)

if TYPE_CHECKING:
    import os

    from torch import nn

    from adalora_core.config.model import AdaLoraConfig

_ID = re.compile(r"(?!\.)[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")

CARD_NAME = "README.md"

_FRONT_MATTER = re.compile(r"---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)

_HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}", re.ASCII)

_TEXT = """
# AdaLoRA adapter{of_base}

An adapter with adaptive ranks: {init_r} triplets per matrix at the start of the training, and a
budget of {target_r} on average at its end. `adapter_config.json` has the settings, and its
`rank_pattern` the triplets that are kept.

Both libraries load it on top of the base model:

```python
from adalora_core import AdaLoraModel

model = AdaLoraModel.from_pretrained(base_model, "this repository or folder")
```

```python
from peft import PeftModel

model = PeftModel.from_pretrained(base_model, "this repository or folder")
```
"""


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

    All files are those of one commit, the training state among them `with_state`. The other options
    are those of `huggingface_hub`.

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
        # In the cache of the Hub the folder has the name of the commit.
        parts = reversed(folder.parts)
        commit = next((part for part in parts if _COMMIT.fullmatch(part)), revision)
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


def push_folder(
    save: Callable[[Path], None],
    repo_id: str,
    *,
    private: bool | None,
    token: bool | str | None,
    revision: str | None,
    tags: Sequence[str] | None,
    **commit: Any,
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
        _update(folder, {}, set(tags or ()), {}, "")
        return api.upload_folder(repo_id=repo_id, folder_path=folder, revision=revision, **commit)


def write_card(folder: Path, config: AdaLoraConfig, base: nn.Module) -> None:
    """Write the card of an adapter, or update the metadata of the card in `folder`.

    The text of an existing card stays. A card whose metadata cannot be read stays as it is.
    """
    base_name = _base_name(config, base)
    tags = {"adalora", *(getattr(base, "model_tags", None) or ())}
    if type(base).__module__.partition(".")[0] == "transformers":
        tags.add("transformers")
    metadata: dict[str, Any] = {"library_name": "peft"}
    if base_name:
        metadata["base_model"] = base_name
        tags.add(f"base_model:adapter:{base_name}")
    defaults = {"pipeline_tag": "text-generation"} if config.task_type == "CAUSAL_LM" else {}
    _update(folder, metadata, tags, defaults, _text(config, base, base_name))


def _update(
    folder: Path, metadata: dict[str, Any], tags: set[str], defaults: dict[str, Any], text: str
) -> None:
    path = folder / CARD_NAME
    try:
        before = read_within(path, DEFAULT_LIMITS.file_bytes) if path.is_file() else b""
    except ValueError:  # larger than any card
        return
    old, text = _split(before.decode("utf-8", "replace"), text)
    if old is None:
        return
    found = old.get("tags") or []
    known = [found] if isinstance(found, str) else list(found)
    values = defaults | old | metadata
    values["tags"] = [*known, *sorted(tags - set(known))]
    header = yaml.safe_dump(values, sort_keys=True, allow_unicode=True)
    content = f"---\n{header}---\n{text}".encode()
    if content != before:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(path, content)


def _split(card: str, text: str) -> tuple[dict[str, Any] | None, str]:
    """Return metadata and text of `card`, or `text` if there is no card; None if unreadable."""
    if not card:
        return {}, text
    header = _FRONT_MATTER.match(card)
    if header is None:
        return {}, card
    try:
        values = yaml.safe_load(header[1])
    except yaml.YAMLError:
        return None, card
    return (values or {}) if isinstance(values or {}, dict) else None, card[header.end() :]


def _base_name(config: AdaLoraConfig, base: nn.Module) -> str | None:
    """Return the id of the base model; a path is of use to nobody else, and a text may be HTML."""
    name = config.base_model_name_or_path or getattr(base, "name_or_path", None)
    if not isinstance(name, str) or not _HUB_ID.fullmatch(name) or Path(name).exists():
        return None
    return name


def _text(config: AdaLoraConfig, base: nn.Module, base_name: str | None) -> str:
    of_base = f" for {base_name}" if base_name else ""
    text = _TEXT.format(of_base=of_base, init_r=config.init_r, target_r=config.target_r)
    settings = getattr(getattr(base, "config", None), "quantization_config", None)
    if settings is not None:
        values = settings if isinstance(settings, dict) else settings.to_dict()
        text += "\n## Training procedure\n\nThe base model was quantised with:\n\n"
        text += "".join(f"- {name}: {value}\n" for name, value in values.items())
    return text
