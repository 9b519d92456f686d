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


def together(library: str) -> None:
    """Let two adapters add up."""
    model = two(library)
    model.base_model.set_adapter(["default", "other"])
    need(list(model.base_model.active_adapters) == ["default", "other"], "one is active")


def together_by_model(library: str) -> None:
    """Let two adapters add up with the method of the model."""
    model = two(library)
    model.set_adapter(["default", "other"])
    need(list(model.active_adapters) == ["default", "other"], "one is active")


def deleted(library: str) -> None:
    """Delete an adapter and add one with its name."""
    model = two(library)
    model.delete_adapter("other")
    need("other" not in model.peft_config, "still there")
    model.add_adapter("other", frozen_config(library))


def other_head(library: str) -> None:
    """Switch the copies of modules that are trained whole with the adapter."""
    model = train(make(library, modules_to_save=["head"]))
    before = outputs(model)
    model.add_adapter("other", config_of(library, modules_to_save=["head"], inference_mode=True))
    model.set_adapter("other")
    need(not torch.equal(outputs(model), before), "the head stays")
    model.set_adapter("default")
    need_equal(outputs(model), before)


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


def merges_one(library: str) -> None:
    """Merge an adapter by name."""
    model = two(library)
    before = outputs(model)
    model.merge_adapter(adapter_names=["default"])
    need_equal(outputs(model), before)


def unloads_one(library: str) -> None:
    """Merge an adapter by name and unload all."""
    model = two(library)
    before = outputs(model)
    need_equal(outputs(model.merge_and_unload(adapter_names=["default"])), before)


def safe(library: str) -> None:
    """Refuse to merge what is not finite, and leave the weights as they were."""
    model = train(make(library))
    layer = model.base_model.model.first
    before = layer.base_layer.weight.detach().clone()
    layer.lora_E["default"].data.fill_(torch.nan)
    try:
        model.merge_adapter(safe_merge=True)
    except ValueError:
        need_equal(layer.base_layer.weight, before, 0.0)
        return
    raise AssertionError("merged")


def difference(library: str) -> None:
    """Show the product that a merge adds."""
    model = train(make(library)).eval()
    layer = model.base_model.model.first
    before = layer.base_layer.weight.detach().clone()
    expected = layer.get_delta_weight("default")
    model.merge_adapter()
    need_equal(layer.base_layer.weight - before, expected)


def scaled(library: str) -> None:
    """Scale an adapter and go back."""
    model = train(make(library))
    layer = model.base_model.model.first
    before = outputs(model)
    layer.scale_layer(0.5)
    need(not torch.equal(outputs(model), before), "nothing changes")
    layer.unscale_layer()
    need_equal(outputs(model), before)


def rescaled(library: str) -> None:
    """Scale all adapters for a while with PEFT's function."""
    from peft.helpers import rescale_adapter_scale

    model = train(make(library))
    before = outputs(model)
    with rescale_adapter_scale(model, 0.5):
        need(not torch.equal(outputs(model), before), "nothing changes")
    need_equal(outputs(model), before)


def lora_of_any_rank(library: str) -> None:
    """Write an approximation of a chosen rank as LoRA, with PEFT's function."""
    from peft import convert_to_lora

    convert_to_lora(train(make(library)), 2)


# --- names ----------------------------------------------------------------------------------------


def state_dicts(library: str) -> None:
    """Carry an adapter from model to model as a dictionary."""
    module = importlib.import_module(library)
    model = train(make(library), range(2))  # nothing is dropped yet
    state = module.get_peft_model_state_dict(model)
    other = make(library)
    module.set_peft_model_state_dict(other, state)
    need_equal(outputs(other), outputs(model))


def status(library: str) -> None:
    """Report the adapters of each layer and of the model."""
    module = importlib.import_module(library)
    model = two(library)
    layers, whole = module.get_layer_status(model), module.get_model_status(model)
    need([each.active_adapters for each in layers] == [["default"]] * 2, "another answer")
    need(whole.available_adapters == ["default", "other"], "another answer")


def counts(library: str) -> None:
    """Count the trained parameters."""
    learns, total = make(library).get_nb_trainable_parameters()
    need(0 < learns < total, "another answer")


def known_to_peft(library: str) -> None:
    """Be an instance of PEFT's class of models."""
    from peft import PeftModel

    need(isinstance(make(library), PeftModel), "no instance")


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


def constructor(library: str) -> None:
    """Wrap a model with the constructor of the class."""
    module = importlib.import_module(library)
    cls = getattr(module, {"peft": "PeftModel", "adalora_core": "AdaLoraModel"}[library])
    train(cls(Small(), config_of(library), "default"))


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


def faster_b(library: str) -> None:
    """Make LoRA+'s optimizer, with another learning rate for B."""
    from peft.optimizers import create_loraplus_optimizer

    create_loraplus_optimizer(make(library), torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16)


def inputs_as_they_are(library: str) -> None:
    """Leave the dtype of inputs as it is, with PEFT's function."""
    from peft.helpers import disable_input_dtype_casting

    with disable_input_dtype_casting(make(library)):
        pass
