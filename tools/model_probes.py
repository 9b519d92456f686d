"""Probe whole models and their files; see feature_probes.py."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

import torch
from probe_setting import (
    BRIDGED,
    SETTINGS,
    Small,
    load,
    make,
    need_equal,
    outputs,
    train,
)

from adalora_core.training.lora_export import export_folder

# --- model ----------------------------------------------------------------------------------------


def mixed(library: str) -> None:
    """Combine AdaLoRA with LoRA."""
    module = importlib.import_module(library)
    torch.manual_seed(1)
    config = module.AdaLoraConfig(**SETTINGS)
    model = module.get_peft_model(Small(), config, mixed=True)
    model.add_adapter("other", module.LoraConfig(target_modules=["first"]))


def export_lora(library: str) -> None:
    """Write plain LoRA: by the model's method, or from its files with `adalora export-lora`."""
    if library == "peft" and not BRIDGED:
        raise NotImplementedError("no such function")
    model = train(make(library))
    with tempfile.TemporaryDirectory() as folder:
        if library == "adalora_core":
            model.export_lora(folder)
        else:
            model.save_pretrained(Path(folder, "adapter"))
            export_folder(Path(folder, "adapter"), folder)
        need_equal(outputs(load("peft", folder)), outputs(model))
