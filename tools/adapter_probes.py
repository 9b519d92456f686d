"""Probe names, merging and several adapters; see feature_probes.py."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch
from file_probes import frozen_config
from probe_setting import Small, llama, load, make, need, need_equal, outputs, train
from target_probes import IDS, LANGUAGE, config_of

if TYPE_CHECKING:
    from collections.abc import Callable


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


def frozen(library: str) -> None:
    """Freeze an adapter and train it again."""
    model = make(library)
    for learns in (False, True):
        model.set_requires_grad("default", learns)
        found = {p.requires_grad for name, p in model.named_parameters() if ".lora_A." in name}
        need(found == {learns}, "not followed")


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


def status(library: str) -> None:
    """Report the adapters of each layer and of the model."""
    module = importlib.import_module(library)
    model = two(library)
    layers, whole = module.get_layer_status(model), module.get_model_status(model)
    need([each.active_adapters for each in layers] == [["default"]] * 2, "another answer")
    need(whole.available_adapters == ["default", "other"], "another answer")


def allocator_names(library: str) -> None:
    """Show the averages and the schedule of the allocator."""
    model = make(library)
    allocator = model.base_model.rankallocator
    train(model, range(10))
    need(bool(allocator.exp_avg_ipt and allocator.exp_avg_unc), "empty")
    need(allocator.budget_schedule(29)[0] == allocator.target_bgt, "another schedule")


def late_sensitivity(library: str) -> None:
    """Read the sensitivities for the first time after `zero_grad()`."""
    model = train(make(library), range(10))
    need(bool(model.base_model.rankallocator.ipt), "empty")


def classes_of_tasks(library: str) -> None:
    """Have a class of models for each task type."""
    module = importlib.import_module(library)
    module.PeftModelForCausalLM(llama(), config_of(library, **LANGUAGE))


def injected(library: str) -> None:
    """Put adapters into a model and leave it of its class."""
    module = importlib.import_module(library)
    base = Small()
    need(module.inject_adapter_in_model(config_of(library), base) is base, "another model")


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


def by_layer(method: str, *arguments: Any) -> Callable[[str], None]:
    """Return a probe that calls a method of a layer."""

    def run(library: str) -> None:
        getattr(make(library).base_model.model.first, method)(*arguments)

    return run


def injected_by_tuner(library: str) -> None:
    """Add an adapter with the method of the tuner."""
    model = make(library)
    model.peft_config["other"] = frozen_config(library)
    model.base_model.inject_adapter(model.get_base_model(), "other")


def masked(library: str) -> None:
    """Choose the kept triplets for a budget by hand."""
    model = make(library)
    allocator = model.base_model.rankallocator
    train(model, range(5))
    allocator.mask_to_budget(model.base_model.model, 4)


def base_state(library: str) -> None:
    """Return the weights of the base model under their own names."""
    module = importlib.import_module(library)
    found = module.get_base_model_state_dict(make(library))
    need(found.keys() == Small().state_dict().keys(), "other names")


def inputs_as_they_are(library: str) -> None:
    """Leave the dtype of inputs as it is, with PEFT's function."""
    from peft.helpers import disable_input_dtype_casting

    with disable_input_dtype_casting(make(library)):
        pass
