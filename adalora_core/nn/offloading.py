"""Reach the weights of a layer that accelerate keeps on the CPU or on disk between two forwards.

Its hook `AlignDevicesHook` leaves parameters without values on the meta device, and loads the
values from a map before each forward. accelerate need not be installed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from adalora_core.floor.errors import TargetError


def offloading_hook(module: nn.Module) -> Any:
    """Return the hook that takes the weights of `module` away after each forward, or None."""
    hook = vars(module).get("_hf_hook")
    hooks = getattr(hook, "hooks", [hook])  # several in a row, or one
    return next((each for each in hooks if getattr(each, "offload", None) is True), None)


def execution_device(module: nn.Module) -> torch.device | None:
    """Return where the hook of an offloaded `module` computes; None for any other module."""
    hook = offloading_hook(module)
    return None if hook is None else torch.device(hook.execution_device)


@contextlib.contextmanager
def loaded(module: nn.Module) -> Iterator[None]:
    """Let the parameters of `module` have their values in the `with` block, if it is offloaded."""
    hook = offloading_hook(module)
    if hook is None:
        yield
        return
    hook.pre_forward(module)
    try:
        yield
    finally:
        hook.post_forward(module, None)


def set_weight(module: nn.Module, weight: torch.Tensor) -> None:
    """Replace the values of the weight of an offloaded module, inside `loaded`.

    As with PEFT, the tensors of the module are in memory from then on, also if they were on disk.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers()), "weight": weight}
    hook = offloading_hook(module)
    hook.weights_map = {name: each.detach().cpu() for name, each in tensors.items()}


def refuse_offloaded(
    model: nn.Module, targets: Iterable[str], saved: Iterable[str], bias: str
) -> None:
    """Refuse to train weights that lose their values after each forward.

    These are targets, modules trained whole, and what `bias` of the configuration means. A module
    around a target that loads the weights inside by their present names is refused too.
    """
    offloaded = {path: each for path, each in model.named_modules() if offloading_hook(each)}
    with_bias = [
        path for path, each in offloaded.items() if getattr(each, "bias", None) is not None
    ]
    trained = [
        *(path for path in offloaded for around in saved if f"{path}.".startswith(f"{around}.")),
        *(path for path in with_bias if bias == "all" or (bias == "lora_only" and path in targets)),
    ]
    for path in trained:
        raise TargetError(
            f"modules_to_save, bias: accelerate offloads the weights of {path!r}, which cannot be "
            "trained then; keep this module on a device in device_map, or train adapters alone"
        )
    whole = [path for path, each in offloaded.items() if offloading_hook(each).place_submodules]
    for path in targets:
        for around in whole:
            if around != path and f".{path}".startswith(f".{around}." if around else "."):
                raise TargetError(
                    f"target_modules: accelerate loads the weights of {path!r} together with those "
                    f"of {around or 'the model'!r}, so that it cannot be adapted; dispatch the "
                    "model without preload_module_classes"
                )
