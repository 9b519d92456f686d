"""Probe whole models and their files; see feature_probes.py."""

from __future__ import annotations

import copy
import importlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from probe_setting import (
    BRIDGED,
    SETTINGS,
    Small,
    llama,
    load,
    make,
    need,
    need_budget,
    need_equal,
    outputs,
    round_trip,
    train,
)

from adalora_core.training.lora_export import export_folder

# --- model ----------------------------------------------------------------------------------------


def evaluation_loss(library: str) -> None:
    """Evaluate with the task loss alone."""
    ids = torch.arange(8).reshape(1, 8)
    model = make(library, llama(), target_modules=["q_proj"], task_type="CAUSAL_LM").eval()
    extra = (model(input_ids=ids, labels=ids).loss - llama()(input_ids=ids, labels=ids).loss).item()
    need(abs(extra) < 1e-4, "the loss contains the penalty")


def labels_when_frozen(library: str) -> None:
    """Pass labels to a model with a loaded adapter."""
    ids = torch.arange(8).reshape(1, 8)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
        make(library, llama(), **settings).save_pretrained(folder)
        load(library, folder, llama())(input_ids=ids, labels=ids)


def default_targets(library: str) -> None:
    """Adapt a known architecture without naming modules."""
    make(library, llama(), target_modules=None)


def token_rows(library: str) -> None:
    """Train some rows of an embedding."""
    make(library, llama(), target_modules=["q_proj"], trainable_token_indices=[1])


def mixed(library: str) -> None:
    """Combine AdaLoRA with LoRA."""
    module = importlib.import_module(library)
    torch.manual_seed(1)
    config = module.AdaLoraConfig(**SETTINGS)
    model = module.get_peft_model(Small(), config, mixed=True)
    model.add_adapter("other", module.LoraConfig(target_modules=["first"]))


def merge(library: str) -> None:
    """Merge, safely, and unload."""
    model = train(make(library))
    before = outputs(model)
    need_equal(outputs(copy.deepcopy(model).merge_and_unload(safe_merge=True)), before)


def unmerge(library: str) -> None:
    """Merge and unmerge."""
    model = train(make(library))
    before = outputs(model)
    model.merge_adapter()
    model.unmerge_adapter()
    need_equal(outputs(model), before)


def disable(library: str) -> None:
    """Switch adapters off for a while, and unload them."""
    torch.manual_seed(1)
    base = Small()
    expected = outputs(base)
    model = train(make(library, base))
    with model.disable_adapter():
        need_equal(outputs(model), expected)
    need_equal(outputs(model.unload()), expected)


def several_for_inference(library: str) -> None:
    """Load two adapters and switch."""
    with tempfile.TemporaryDirectory() as folder:
        train(make(library)).save_pretrained(folder)
        model = load(library, folder)
        before = outputs(model)
        model.load_adapter(folder, "other")
        model.set_adapter("other")
        need_equal(outputs(model), before)


def adapter_name(library: str) -> None:
    """Use an adapter name that is a part of a module's path."""
    round_trip(library, train(make(library)), adapter_name="second")


def second_generation(library: str) -> None:
    """Train a loaded adapter again, save it, load it."""
    with tempfile.TemporaryDirectory() as folder:
        train(make(library, target_r=3)).save_pretrained(folder)
        model = train(load(library, folder, is_trainable=True), range(4))
        round_trip(library, model)


def between_allocations(library: str) -> None:
    """Save between two allocations; the loaded model must compute the same."""
    round_trip(library, train(make(library, deltaT=7, tinit=0, tfinal=0), range(26)))


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


def save_and_load(library: str, model: Any) -> None:
    """Save, load, compare."""
    round_trip(library, model)


def met(library: str, model: Any) -> None:
    """Check the budget."""
    del library
    need_budget(model)


def exchanged(library: str) -> None:
    """Read what the other library wrote."""
    other = {"peft": "adalora_core", "adalora_core": "peft"}[library]
    model = train(make(other))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        need_equal(outputs(load(library, folder)), outputs(model))


def pattern_with_name(library: str) -> None:
    """Read a rank pattern whose keys end in the adapter's name."""
    import json
    from pathlib import Path

    model = train(make(library))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        path = Path(folder) / "adapter_config.json"
        values = json.loads(path.read_text())
        pattern = values["rank_pattern"].items()
        values["rank_pattern"] = {f"{key}.default": kept for key, kept in pattern}
        path.write_text(json.dumps(values))
        need_equal(outputs(load(library, folder)), outputs(model))


def scale(library: str) -> None:
    """Scale by lora_alpha / (init_r + 1e-5), after pruning and reloading too."""
    model = train(make(library, Small().double()), dtype=torch.float64)
    layer = model.base_model.model.first
    found = (
        layer.scale["default"]
        if library == "adalora_core"
        else (layer.scaling["default"] / (layer.ranknum["default"].item() + 1e-5))
    )
    need(abs(found - 8 / (4 + 1e-5)) < 1e-9, "the optimizer has changed the scale")
