"""Replace PEFT's methods by the overrides, for one model or for all, and restore them."""

from __future__ import annotations

from typing import Any, TypeVar

import peft
from peft import PeftModel
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.adalora.model import AdaLoraModel
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from adalora_core.bridge import adapters, injected, layers
from adalora_core.bridge import model as models
from adalora_core.bridge.configurations import BuiltConfigOverrides
from adalora_core.bridge.layers import OVERRIDES, LayerOverrides, adalora_layers
from adalora_core.bridge.model import is_adalora
from adalora_core.bridge.tuner import BuiltTunerOverrides, TunerOverrides, built, replaced
from adalora_core.nn.wrapping import leave_fast_path, offloading_hook
from adalora_core.training.host import TUNER, Host, register
from adalora_core.training.run.reporting import refuse_adapted

Module = TypeVar("Module", bound=nn.Module)

_INSTALLED: dict[type, type] = {
    peft.AdaLoraConfig: BuiltConfigOverrides,
    PeftModel: models.BuiltModelOverrides,
    AdaLoraModel: BuiltTunerOverrides,
    AdaLoraLayer: LayerOverrides,
    **OVERRIDES,
}
"""Classes of PEFT and their overrides after `install()`."""

_ABSENT = object()


def install() -> None:
    """Bridge every AdaLoRA model that PEFT builds from now on in this process.

    A second call changes nothing. For models built before, call `attach`.
    """
    if replaced:
        return
    for target, overrides in _INSTALLED.items():
        for name, member in _methods_of(overrides).items():
            replaced[target, name] = target.__dict__.get(name, _ABSENT)
            setattr(target, name, member)


def uninstall() -> None:
    """Restore PEFT's methods, for models built since `install()` too."""
    while replaced:
        (target, name), member = replaced.popitem()
        if member is _ABSENT:
            delattr(target, name)
        else:
            setattr(target, name, member)
    for tuner in list(built):
        if not isinstance(tuner, injected.Attached):
            adapters.return_to_peft(tuner)
    built.clear()


def attach(model: Module) -> Module:
    """Give a model of PEFT the ops and the allocator of this package, in place.

    The model stays an instance of its classes, with the same parameters, names, files and methods,
    and keeps its state. It also gets the methods `finalize()`, `orthogonality_penalty()`,
    `add_orthogonality_gradient_()`, `leave_penalty_out_of_loss()`, `run_report()` and
    `compact(optimizer)`. A second call changes nothing.

    A module into which `peft.inject_adapter_in_model`, or `add_adapter` of transformers, diffusers
    or sentence-transformers, has put adapters also gets `update_and_allocate(step)`, and
    `load_training_state(folder)` for what `save_pretrained` leaves beside an unfinished run.

    An adapter whose `init_lora_weights` is "lora" is drawn anew, since PEFT has given it another
    start, unless it was trained or loaded.

    Args:
        model: a `PeftModel`, or a module that contains one or has injected adapters.

    Returns:
        `model`.

    Raises:
        TypeError: `model` has no AdaLoRA adapters of PEFT, or several models with such adapters.
        ValueError: the factors are beside offloaded base layers, and have no values.
        RunError: its base model is adapted twice, or its `rankallocator` is not PEFT's own.
        ParallelismError: an adapter has to be drawn anew, and is divided over processes already.

    Example:
        >>> import peft, torch
        >>> from adalora_core.bridge import attach, detach
        >>> base = torch.nn.Sequential(torch.nn.Linear(4, 4))
        >>> config = peft.AdaLoraConfig(target_modules=["0"], init_r=4, target_r=4, total_step=9)
        >>> model = attach(peft.get_peft_model(base, config))
        >>> isinstance(model, peft.PeftModel), type(model).__name__
        (True, 'PeftModel')
    """
    if is_attached(model):
        return model
    if is_adalora(model):
        _attach_tuner(model.base_model, TunerOverrides)
        plain = type(model).forward is PeftModel.forward
        injected.override(model, models.PlainModelOverrides if plain else models.ModelOverrides)
        register(model)
    else:
        _attach_inside(model)
    return model


def _attach_inside(model: nn.Module) -> None:
    inside = _models_inside(model)
    tuner = injected.tuner_inside(model) if not inside else None
    if len(inside) == 1:
        attach(inside[0])
        vars(model)[TUNER] = inside[0].base_model
        injected.override(model, injected.InjectedOverrides)
    elif tuner is not None:
        _attach_tuner(tuner, injected.InjectedTunerOverrides)
        injected.add_methods(model, tuner)
    else:
        raise TypeError(
            "attach: expected a peft.PeftModel with AdaLoRA adapters, or a module that PEFT has "
            f"injected them into, got {type(getattr(model, 'base_model', model)).__name__}"
        )


def _models_inside(module: Any) -> list[Any]:
    parts = module.modules() if isinstance(module, nn.Module) else ()
    return [each for each in parts if is_adalora(each)]


def _attach_tuner(tuner: TunerOverrides, overrides: type) -> None:
    _refuse_nested(tuner)
    adapters.refuse_changed_allocator(tuner, "attach")
    for path, layer in adalora_layers(tuner.model):
        is_offloaded = offloading_hook(layer.get_base_layer()) is not None
        if is_offloaded and any(each.is_meta for each in layer.lora_A.values()):
            raise ValueError(
                f"attach: accelerate offloads the base layer of {path}, and PEFT has put the "
                "factors on the meta device, where they have no values; change the import to "
                "adalora_core.peft before the adapter is added, or add it before the model is "
                "dispatched"
            )
    configs = adapters.configs_of(tuner)
    layers.start_fresh_adapters(tuner, configs)
    injected.override(tuner, overrides)
    tuner.peft_config = configs
    for _, layer in list(adalora_layers(tuner.model)):
        injected.override(layer, OVERRIDES.get(type(layer), LayerOverrides))
        for name in layer.lora_A:
            layer.ranknum[name].requires_grad_(False).fill_(configs[name].init_r)
            vars(layer).setdefault(layers.INITIAL_RANKS, {})[name] = configs[name].init_r
    leave_fast_path(tuner.model, AdaLoraLayer)
    adapters.state_of(tuner)
    adapters.report_faults(tuner)


def _refuse_nested(tuner: Host) -> None:
    """Refuse a tuner whose base model is a model of PEFT, or whose layers another tuner adapted."""
    known = dict(adalora_layers(tuner.model))
    for path, module in tuner.model.named_modules():
        if isinstance(module, PeftModel | BaseTuner):
            refuse_adapted(module)
        others = path in known and set(module.lora_A) - set(adapters.configs_of(tuner))
        if others or isinstance(module, injected.Attached):
            refuse_adapted(module)


def detach(model: Module) -> Module:
    """Undo `attach`: PEFT's methods act on the model again, in its present state.

    Triplets that `compact` has cut out come back as zeros, since PEFT's methods need parameters of
    `init_r` triplets; train on with a new optimizer.

    Raises:
        TypeError: `model` has no AdaLoRA adapters of PEFT, or is a module that was not attached.
    """
    tuner = _tuner_of(model)
    if tuner is None:
        raise TypeError(f"detach: expected a model that was attached, got {type(model).__name__}")
    if is_attached(model):
        adapters.return_to_peft(tuner)
        inside = [tuner.model, *(layer for _, layer in adalora_layers(tuner.model))]
        if not is_adalora(model):
            inside += _models_inside(model)
            injected.remove_methods(model)
        for module in (model, tuner, *inside):
            injected.restore(module)
    return model


def is_attached(model: object) -> bool:
    """Return whether `model` is attached."""
    return isinstance(_tuner_of(model), injected.Attached)


def _tuner_of(model: object) -> Any:
    """Return the tuner of a model of PEFT or of an attached module, else None."""
    return model.base_model if is_adalora(model) else getattr(model, "__dict__", {}).get(TUNER)


def _methods_of(overrides: type) -> dict[str, Any]:
    """Return the functions and properties of `overrides` and its bases in this package."""
    ours = [each for each in overrides.__mro__ if each.__module__.startswith("adalora_core.")]
    members = (pair for cls in reversed(ours) for pair in vars(cls).items())
    kinds = (property, classmethod)
    return {name: each for name, each in members if callable(each) or isinstance(each, kinds)}
