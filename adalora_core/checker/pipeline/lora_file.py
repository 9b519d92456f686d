"""Look at what is beside the configuration of a saved adapter: tensors of LoRA, a state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.config.fields.table import LORA, PEFT_TYPE
from adalora_core.config.rules.base import Finding
from adalora_core.config.rules.runs import TensorsDoNotFit
from adalora_core.floor.regular_files import is_link_out, read_start

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block

CONFIG_NAME = "adapter_config.json"
_POINTER = b"version "
"""How a file of Git LFS begins that names its content, where a checkout left that out."""


def is_empty_config(raw: bytes, name: str) -> bool:
    """Return whether a file is that of a saved adapter by its name, and holds nothing."""
    return Path(name).name == CONFIG_NAME and raw.strip() in {b"", b"{}"}


def is_untyped(name: str | None, block: Block) -> bool:
    """Return whether a saved adapter names its method by `type`, which PEFT does not read."""
    is_saved = Path(name or "").name == CONFIG_NAME and block.layout == "flat" and not block.path
    return is_saved and str(block.root.get("type")).upper() == PEFT_TYPE


def has_state(name: str | None) -> bool:
    """Return whether a training state is beside the file: its adapter is one in mid-run."""
    path = Path(name or "")
    return path.name == CONFIG_NAME and any(path.parent.glob("adalora_state.*.safetensors"))


def file_findings(name: str | None, blocks: Sequence[Block]) -> Iterator[Finding]:
    """Yield the faults of the tensors beside the file with configurations of LoRA, if any."""
    path = Path(name or "")
    if path.name != CONFIG_NAME or [(each.path, each.method) for each in blocks] != [((), LORA)]:
        return
    # Imported for saved adapters only: the modules take time.
    from adalora_core.checker.plan.adapter_tensors import RULES, WEIGHTS, SavedLora

    file = path.with_name(WEIGHTS)
    try:
        if file.exists() and (is_link_out(file) or read_start(file, len(_POINTER)) == _POINTER):
            return
        faults = SavedLora(path.parent, blocks[0].values).faults()
    except OSError:
        return
    except ValueError as error:
        if not path.with_name("adapter_model.bin").exists():
            message, hint = f"the tensors cannot be read: {error}", "save the adapter again"
            yield Finding(TensorsDoNotFit, (), message, hint=hint)
        return
    for each in faults:
        rule, severity = RULES[each.kind], each.severity
        yield Finding(rule, (), each.message, severity=severity, hint=each.hint)
