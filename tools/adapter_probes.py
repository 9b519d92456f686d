"""Probe names, merging and several adapters; see feature_probes.py."""

from __future__ import annotations

from typing import Any

import torch
from file_probes import frozen_config
from probe_setting import llama, load, make, need, need_equal, outputs, train
from target_probes import IDS, LANGUAGE, config_of


def two(library: str) -> Any:
    """Return a model with a trained adapter and one that does not learn."""
    model = train(make(library))
    model.add_adapter("other", frozen_config(library))
    return model


# --- several adapters -----------------------------------------------------------------------------


def together_by_model(library: str) -> None:
    """Let two adapters add up with the method of the model."""
    model = two(library)
    model.set_adapter(["default", "other"])
    need(list(model.active_adapters) == ["default", "other"], "one is active")


def mixed_batch(library: str) -> None:
    """Use another adapter for each row of a batch."""
    model = make(library, llama(), **LANGUAGE).eval()
    model.add_adapter("other", config_of(library, inference_mode=True, **LANGUAGE))
    model(input_ids=IDS.repeat(2, 1), adapter_names=["default", "other"])


def swapped(library: str) -> None:
    """Give a loaded adapter the values of another file."""
    import tempfile

    expected = train(make(library))
    with tempfile.TemporaryDirectory() as folder:
        expected.save_pretrained(folder)
        model = load(library, folder)
        for name, values in model.named_parameters():
            if ".lora_E." in name:
                values.data.zero_()
        model.load_adapter(folder, "default")
        need_equal(outputs(model), outputs(expected))


def hotswapped(library: str) -> None:
    """Swap in place with PEFT's function for compiled models."""
    import tempfile

    from peft.utils.hotswap import hotswap_adapter

    expected = train(make(library))
    with tempfile.TemporaryDirectory() as folder:
        expected.save_pretrained(folder)
        model = load(library, folder)
        hotswap_adapter(model, folder, "default")
        need_equal(outputs(model), outputs(expected))


# --- merging --------------------------------------------------------------------------------------


def scaled(library: str) -> None:
    """Scale an adapter and go back."""
    model = train(make(library))
    layer = model.base_model.model.first
    before = outputs(model)
    layer.scale_layer(0.5)
    need(not torch.equal(outputs(model), before), "nothing changes")
    layer.unscale_layer()
    need_equal(outputs(model), before)


def lora_of_any_rank(library: str) -> None:
    """Write an approximation of a chosen rank as LoRA, with PEFT's function."""
    from peft import convert_to_lora

    convert_to_lora(train(make(library)), 2)


# --- names ----------------------------------------------------------------------------------------


def late_sensitivity(library: str) -> None:
    """Read the sensitivities for the first time after `zero_grad()`."""
    model = train(make(library), range(10))
    need(bool(model.base_model.rankallocator.ipt), "empty")


class Asked:
    """An allocator that a script has put around another one."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.steps = inner, []

    def __getattr__(self, name: str) -> Any:
        """Look everything else up in the inner one."""
        return getattr(self.inner, name)

    def update_and_allocate(self, model: Any, step: int, **options: Any) -> Any:
        """Note the step and pass it on."""
        self.steps.append(step)
        return self.inner.update_and_allocate(model, step, **options)


def replaced_allocator(library: str) -> None:
    """Put an allocator of one's own in place."""
    model = make(library)
    own = model.base_model.rankallocator = Asked(model.base_model.rankallocator)
    train(model, range(3))
    need(own.steps == [0, 1, 2], "not asked")
