"""Write the model card of an adapter: `README.md`, with the metadata that the Hub reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from adalora_core.files import write_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from adalora_core.contract import AdaLoraConfig

CARD_NAME = "README.md"
_FRONT_MATTER = re.compile(r"---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_PIPELINES = {"CAUSAL_LM": "text-generation"}
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
_QUANTISATION = """
## Training procedure

The base model was quantised with:

"""


def write_card(folder: Path, config: AdaLoraConfig, base: nn.Module) -> None:
    """Write the card of an adapter, or update the metadata of the card in `folder`.

    The text of an existing card stays. A card whose metadata cannot be read stays as it is.

    Raises:
        OSError: the folder cannot be written.
    """
    base_name = _base_name(config, base)
    tags = {"adalora", *(getattr(base, "model_tags", None) or ())}
    if type(base).__module__.partition(".")[0] == "transformers":
        tags.add("transformers")
    metadata: dict[str, Any] = {"library_name": "peft"}
    if base_name:
        metadata["base_model"] = base_name
        tags.add(f"base_model:adapter:{base_name}")
    defaults = {"pipeline_tag": _PIPELINES.get(config.task_type or "")}
    _update(folder, metadata, tags, defaults, _text(config, base, base_name))


def add_tags(folder: Path, tags: Iterable[str]) -> None:
    """Add `tags` to the card in `folder`."""
    _update(folder, {}, set(tags), {}, "")


def _update(
    folder: Path, metadata: dict[str, Any], tags: set[str], defaults: dict[str, Any], text: str
) -> None:
    path = folder / CARD_NAME
    before = path.read_bytes() if path.is_file() else b""
    old, text = _split(before.decode("utf-8", "replace"), text)
    if old is None:
        return
    found = old.get("tags") or []
    known = [found] if isinstance(found, str) else list(found)
    values = {name: each for name, each in defaults.items() if each is not None} | old | metadata
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
        text += _QUANTISATION + "".join(f"- {name}: {value}\n" for name, value in values.items())
    return text
