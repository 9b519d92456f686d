"""Reach the weights of a layer that accelerate keeps on the CPU or on disk between two forwards.

Its hook `AlignDevicesHook` leaves parameters without values on the meta device, and loads the
values from a map before each forward. accelerate need not be installed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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


def refuse_offloaded(model: nn.Module) -> None:
    """Refuse a base model of which accelerate offloads weights."""
    for path, module in model.named_modules():
        if offloading_hook(module) is not None:
            raise TargetError(
                f"get_peft_model: accelerate offloads the weights of {path or 'the model'!r}; "
                "keep the whole model on devices, or adapt it with adalora_core.peft"
            )
