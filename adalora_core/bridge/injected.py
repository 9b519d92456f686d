"""Override the methods of single instances, and serve adapters that PEFT injected into a module."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from itertools import compress
from pathlib import Path
from typing import Any

import peft
from peft.tuners.adalora.layer import RankAllocator
from peft.tuners.adalora.model import AdaLoraModel
from torch import nn

from adalora_core.bridge.adapters import resume, see_loaded, sync_patterns, trained_adapters
from adalora_core.bridge.layers import adalora_layers, watch_states
from adalora_core.bridge.model import checked_save, commit_staged
from adalora_core.bridge.tuner import TunerOverrides
from adalora_core.floor.errors import CheckpointError
from adalora_core.training.adapter import Adapter
from adalora_core.training.host import TUNER, add_penalty, check_forward
from adalora_core.training.model import class_like
from adalora_core.training.saving import Save


class InjectedTunerOverrides(TunerOverrides):
    """Methods of a tuner that `attach` makes for injected adapters."""

    @property
    def training(self) -> bool:
        """Whether the module is in training mode: nobody calls `train()` of the tuner."""
        return bool(self.model.training)

    @training.setter
    def training(self, _: bool) -> None:
        pass

    @property
    def active_adapters(self) -> list[str]:  # type: ignore[override]
        """The active adapters of the layers: libraries activate adapters there."""
        _, layer = next(adalora_layers(self.model))
        return list(layer.active_adapters)


class InjectedOverrides:
    """Methods of a module that contains injected adapters, after `attach`."""

    def load_training_state(self, folder: str | Path) -> None:
        """Continue the run that `save_pretrained` has saved in `folder`.

        Raises:
            CheckpointError: the training state is missing or of another run; nothing was changed.
        """
        tuner = vars(self)[TUNER]
        for adapter in trained_adapters(tuner):
            _, state = checked_save(Path(folder), adapter.name, adapter.config, with_state=True)
            if state is None:
                raise CheckpointError(f"{str(folder)!r} holds no training state")
            resume(tuner, adapter.name, state)


def _method_of_tuner(name: str) -> Any:
    method = getattr(TunerOverrides, name)

    @functools.wraps(method)
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return getattr(vars(self)[TUNER], name)(*args, **kwargs)

    return call


for _name in (
    "bind_total_step", "update_and_allocate", "orthogonality_penalty",
    "add_orthogonality_gradient_", "leave_penalty_out_of_loss", "run_report", "finalize", "compact",
):  # fmt: skip
    setattr(InjectedOverrides, _name, _method_of_tuner(_name))


class RootOverrides(InjectedOverrides):
    """Methods of the module that PEFT injected adapters into, after `attach`."""

    @property
    def peft_config(self) -> dict[str, Any]:
        """The configurations, with updated rank patterns."""
        if TUNER in vars(self):
            sync_patterns(vars(self)[TUNER])
        if "peft_config" not in vars(self):
            raise AttributeError("peft_config")
        return vars(self)["peft_config"]  # type: ignore[no-any-return]

    @peft_config.setter
    def peft_config(self, value: dict[str, Any]) -> None:
        vars(self)["peft_config"] = value

    @peft_config.deleter
    def peft_config(self) -> None:
        del vars(self)["peft_config"]


for _name in ("resize_modules_by_rank_pattern", "resize_state_dict_by_rank_pattern"):
    setattr(RootOverrides, _name, _method_of_tuner(_name))


class PretrainedOverrides(RootOverrides):
    """Methods of such a module that has a `save_pretrained`, as models of transformers have."""

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """Save as the library does, and add the training state while a run is unfinished.

        Libraries that save whole models and not adapters get no training state.
        `save_training_state=True` marks a checkpoint of an unfinished run, and `False` leaves the
        state out.
        """
        folder, writes = Path(save_directory), kwargs.get("is_main_process", True)
        with_state = kwargs.pop("save_training_state", None)
        with _saving(vars(self)[TUNER], folder, with_state) as (save, adapters):
            parent: Any = super()
            result = parent.save_pretrained(save_directory, *args, **kwargs)
        for adapter in adapters if writes and not save.gathers else ():
            commit_staged(save, folder, folder, adapter)
        return result


class DiffusersOverrides(PretrainedOverrides):
    """Methods of such a module that has a `save_lora_adapter`, as models of diffusers have."""

    def save_lora_adapter(self, *args: Any, **kwargs: Any) -> Any:
        """Save as diffusers does; the file holds what the model computes."""
        with _saving(vars(self)[TUNER], Path(), None):
            parent: Any = super()
            return parent.save_lora_adapter(*args, **kwargs)


@contextlib.contextmanager
def _saving(
    tuner: TunerOverrides, folder: Path, with_state: bool | None
) -> Iterator[tuple[Save, list[Adapter]]]:
    """Judge the trained adapters, and let the configurations show what the model computes."""
    adapters = trained_adapters(tuner)
    save = Save(tuner.model, adapters, folder, with_state=with_state)
    for adapter in adapters:
        adapter.config.rank_pattern = adapter.rank_pattern(live=True)
    try:
        with tuner.saving():
            yield save, adapters
    finally:
        for adapter in adapters:
            adapter.sync_pattern()


def tuner_inside(module: Any) -> Any:
    """Return a tuner of PEFT around the one part of `module` with injected adapters, or None.

    The constructor of PEFT would inject the adapters once more.
    """
    parts = module.modules() if isinstance(module, nn.Module) else ()
    adapted = [each for each in parts if next(adalora_layers(each), None)]
    owned = [(vars(each).get("peft_config") or {}).values() for each in adapted]
    is_root = [any(isinstance(each, peft.AdaLoraConfig) for each in configs) for configs in owned]
    roots = [*compress(adapted, is_root)]
    if len(roots) != 1:
        return None
    tuner, (root,) = AdaLoraModel.__new__(AdaLoraModel), roots
    nn.Module.__init__(tuner)
    tuner.model, configs = root, vars(root)["peft_config"]
    tuner.peft_config = configs
    tuner.targeted_module_names = [path for path, _ in adalora_layers(root)]
    for name, config in configs.items():
        if not config.inference_mode:
            tuner.trainable_adapter_name = name
            tuner.rankallocator = RankAllocator(root, config, name)
    return tuner


def add_methods(module: nn.Module, tuner: TunerOverrides) -> None:
    """Give `module` the methods of its attached `tuner`, and let its losses contain the penalty."""
    root, overrides = tuner.model, RootOverrides
    if hasattr(root, "save_pretrained"):
        overrides = PretrainedOverrides
    if hasattr(root, "save_lora_adapter"):
        overrides = DiffusersOverrides
    for each in {id(each): each for each in (root, module)}.values():
        # Past `nn.Module.__setattr__`: as a submodule the tuner would contain itself.
        vars(each)[TUNER] = tuner
        override(each, overrides if each is root else InjectedOverrides)
    watch_states(root)
    root.register_load_state_dict_post_hook(_after_load)
    root.register_forward_pre_hook(_before_forward, with_kwargs=True)
    root.register_forward_hook(_after_forward, with_kwargs=True)


def remove_methods(module: Any) -> None:
    """Undo `add_methods`, but for the classes."""
    root = vars(module)[TUNER].model
    for hooks, options in (
        (root._forward_pre_hooks, root._forward_pre_hooks_with_kwargs),  # noqa: SLF001 - of torch
        (root._forward_hooks, root._forward_hooks_with_kwargs),  # noqa: SLF001
    ):
        for key, each in list(hooks.items()):
            if each in (_before_forward, _after_forward):
                del hooks[key], options[key]
    for each in (root, module):
        vars(each).pop(TUNER, None)


def _before_forward(root: Any, _args: Any, _kwargs: Any) -> None:
    check_forward(vars(root)[TUNER])


def _after_load(root: Any, keys: Any) -> None:
    if TUNER in vars(root):
        see_loaded(vars(root)[TUNER], keys)


def _after_forward(root: Any, _args: Any, kwargs: Any, outputs: Any) -> Any:
    return add_penalty(vars(root)[TUNER], outputs, kwargs)


class Attached:
    """Base of the classes that `attach` makes; `wrapped` is the class before."""

    wrapped: type


def override(module: Any, overrides: type) -> None:
    """Let the methods of `overrides` act on `module`, which stays an instance of its class."""
    module.__class__ = _attached_class(type(module), overrides)


def restore(module: Any) -> None:
    """Undo `override`."""
    if isinstance(module, Attached):
        module.__class__ = type(module).wrapped


def _attached_class(cls: type, overrides: type) -> type:
    return class_like(cls, (overrides, Attached, cls), _attached_class, overrides, wrapped=cls)
