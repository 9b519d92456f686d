"""Replace PEFT's methods by the overrides, for one model or for all, and restore them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peft import AdaLoraConfig, PeftModel
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.adalora.model import AdaLoraModel
from peft.tuners.tuners_utils import BaseTuner

from adalora_core.integrations.peft.adapters import configs_of, report_unmatched, state_of
from adalora_core.integrations.peft.allocator import refuse_changed_allocator
from adalora_core.integrations.peft.building import (
    BuiltConfigOverrides,
    BuiltModelOverrides,
    BuiltTunerOverrides,
    built,
    register,
)
from adalora_core.integrations.peft.handing_back import hand_back
from adalora_core.integrations.peft.layers import (
    OVERRIDES,
    ConvolutionOverrides,
    LayerOverrides,
    LinearOverrides,
    adalora_layers,
    store_initial_rank,
)
from adalora_core.integrations.peft.model import ModelOverrides, PlainModelOverrides, is_adalora
from adalora_core.integrations.peft.tuner import TunerOverrides
from adalora_core.training.run.forwards import refuse_adapted

if TYPE_CHECKING:
    from torch import nn

_INSTALLED: dict[type, type] = {
    AdaLoraConfig: BuiltConfigOverrides,
    PeftModel: BuiltModelOverrides,
    AdaLoraModel: BuiltTunerOverrides,
    AdaLoraLayer: LayerOverrides,
    **OVERRIDES,
}
"""Classes of PEFT and their overrides after `install()`."""

_ABSENT = object()
_replaced: list[tuple[type, str, Any]] = []
"""What `install()` has replaced: class, name, and the class's own member."""


def install() -> None:
    """Bridge every AdaLoRA model that PEFT builds from now on in this process.

    A second call changes nothing. For models built before, call `attach`.
    """
    if _replaced:
        return
    for target, overrides in _INSTALLED.items():
        for name, member in _methods_of(overrides).items():
            _replaced.append((target, name, target.__dict__.get(name, _ABSENT)))
            setattr(target, name, member)


def uninstall() -> None:
    """Restore PEFT's methods, for models built since `install()` too."""
    while _replaced:
        target, name, member = _replaced.pop()
        if member is _ABSENT:
            delattr(target, name)
        else:
            setattr(target, name, member)
    for tuner in list(built):
        if not is_attached_tuner(tuner):
            hand_back(tuner)
    built.clear()


def attach(model: PeftModel) -> PeftModel:
    """Give a model of PEFT the ops and the allocator of this package, in place.

    The model stays an instance of its classes, with the same parameters, names, files and methods,
    and keeps its state. It also gets the methods `finalize()`, `orthogonality_penalty()` and
    `compact(optimizer)`. A second call changes nothing.

    Returns:
        `model`.

    Raises:
        TypeError: `model` is not a `PeftModel` with AdaLoRA adapters.
        RunError: its base model is adapted twice, or its `rankallocator` is not PEFT's own.

    Example:
        >>> import peft, torch
        >>> from adalora_core.integrations.peft import attach, detach
        >>> base = torch.nn.Sequential(torch.nn.Linear(4, 4))
        >>> config = peft.AdaLoraConfig(target_modules=["0"], init_r=4, target_r=4, total_step=9)
        >>> model = attach(peft.get_peft_model(base, config))
        >>> isinstance(model, peft.PeftModel), type(model).__name__
        (True, 'PeftModel')
    """
    if not is_adalora(model):
        raise TypeError(
            "attach: expected a peft.PeftModel with AdaLoRA adapters, got "
            f"{type(getattr(model, 'base_model', model)).__name__}"
        )
    tuner: Any = model.base_model
    if is_attached_tuner(tuner):
        return model
    _refuse_nested(tuner)
    refuse_changed_allocator(tuner, "attach")
    plain = type(model).forward is PeftModel.forward
    _override(model, PlainModelOverrides if plain else ModelOverrides)
    _override(tuner, TunerOverrides)
    configs = configs_of(tuner)
    for _, layer in list(adalora_layers(tuner.model)):
        _override(layer, _ATTACHED.get(OVERRIDES.get(type(layer)), LayerOverrides))
        for name in layer.lora_A:
            layer.ranknum[name].requires_grad_(False).fill_(configs[name].init_r)
            store_initial_rank(layer, name, configs[name].init_r)
    state_of(tuner)
    report_unmatched(tuner)
    register(model)
    return model


def _refuse_nested(tuner: Any) -> None:
    """Refuse a tuner whose base model is a model of PEFT, or whose layers another tuner adapted."""
    layers = dict(adalora_layers(tuner.model))
    for path, module in tuner.model.named_modules():
        if isinstance(module, PeftModel | BaseTuner):
            refuse_adapted(module)
        if path in layers and set(module.lora_A) - set(configs_of(tuner)):
            refuse_adapted(module)


def detach(model: PeftModel) -> PeftModel:
    """Undo `attach`: PEFT's methods act on the model again, in its present state.

    Raises:
        TypeError: `model` is not a `PeftModel` with AdaLoRA adapters.
    """
    if not is_adalora(model):
        raise TypeError(f"detach: expected a model that was attached, got {type(model).__name__}")
    tuner: Any = model.base_model
    if is_attached_tuner(tuner):
        hand_back(tuner)
        modules: list[Any] = [model, tuner, *(layer for _, layer in adalora_layers(tuner.model))]
        for module in modules:
            if isinstance(module, _Attached):
                _set_class(module, type(module).wrapped)
    return model


def is_attached(model: Any) -> bool:
    """Return whether `model` is attached."""
    return is_adalora(model) and is_attached_tuner(model.base_model)


def is_attached_tuner(tuner: Any) -> bool:
    """Return whether `tuner` is the tuner of an attached model."""
    return isinstance(tuner, _Attached)


def _methods_of(overrides: type) -> dict[str, Any]:
    """Return the functions and properties of `overrides`, inherited ones included."""
    members: dict[str, Any] = {}
    for cls in reversed(overrides.__mro__[:-1]):
        members |= {
            name: each
            for name, each in vars(cls).items()
            if callable(each) or isinstance(each, (property, classmethod))
        }
    return members


# --- classes of single instances ------------------------------------------------------------------


class _AttachedLinearOverrides(LinearOverrides, LayerOverrides):
    """The overrides of PEFT's linear layers, which `install()` puts on two classes."""


class _AttachedConvolutionOverrides(ConvolutionOverrides, LayerOverrides):
    """The overrides of PEFT's convolutions, which `install()` puts on two classes."""


_ATTACHED: dict[type | None, type] = {
    LinearOverrides: _AttachedLinearOverrides,
    ConvolutionOverrides: _AttachedConvolutionOverrides,
}


class _Attached:
    """Base of the classes that `attach` makes.

    Attributes:
        wrapped: PEFT's class.
    """

    wrapped: type


_classes: dict[tuple[type, type], type] = {}


def _override(module: nn.Module, overrides: type) -> None:
    _set_class(module, _attached_class(type(module), overrides))


def _set_class(module: Any, cls: type) -> None:
    module.__class__ = cls


def _attached_class(cls: type, overrides: type) -> type:
    if (cls, overrides) not in _classes:
        namespace = {
            "wrapped": cls,
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            # Pickle finds classes by name, and this one is not in its module: build it again.
            "__reduce_ex__": lambda self, _: (_rebuild, (cls, overrides), self.__dict__),
        }
        _classes[cls, overrides] = type(cls.__name__, (overrides, _Attached, cls), namespace)
    return _classes[cls, overrides]


def _rebuild(cls: type, overrides: type) -> Any:
    made: Any = _attached_class(cls, overrides)
    return made.__new__(made)
