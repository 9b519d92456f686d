"""Probe whole models and their files; see feature_probes.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

from probe_setting import (
    load,
    make,
    need_bridge,
    need_equal,
    outputs,
    train,
)

from adalora_core.training.lora_export import export_folder

# --- model ----------------------------------------------------------------------------------------


def export_lora(library: str) -> None:
    """Write plain LoRA from the files of a model, as `adalora export-lora` does."""
    need_bridge()
    model = train(make(library))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder, "adapter"))
        export_folder(Path(folder, "adapter"), folder)
        need_equal(outputs(load("peft", folder)), outputs(model))
