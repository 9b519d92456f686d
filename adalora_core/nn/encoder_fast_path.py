"""Let torch's `nn.TransformerEncoderLayer` call its adapted layers in eval mode too.

In eval mode torch computes such a layer by one operation, which reads the weights of the linear
layers inside and never calls them: it would ignore their adapters. A module inside that has a hook
keeps torch from doing so.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def leave_fast_path(model: nn.Module, adapted: type) -> None:
    """Keep torch's encoders in `model` from the fast path, where a layer inside is adapted.

    An encoder also stops making nested tensors of padded batches, which the other path cannot
    compute. Other models get no hook.
    """
    for module in model.modules():
        is_encoder = isinstance(module, nn.TransformerEncoder)
        if not is_encoder and not isinstance(module, nn.TransformerEncoderLayer):
            continue
        if not any(isinstance(each, adapted) for each in module.modules()):
            continue
        if _places(module) or (is_encoder and not getattr(module, "use_nested_tensor", False)):
            continue
        if is_encoder:
            module.use_nested_tensor = False  # type: ignore[assignment] # a flag, not a module
        module.register_forward_pre_hook(_stay_off_fast_path)


def return_to_fast_path(model: nn.Module) -> None:
    """Undo `leave_fast_path`."""
    for module in model.modules():
        for place in _places(module):
            del module._forward_pre_hooks[place]  # noqa: SLF001 - copies have no handles
            if isinstance(module, nn.TransformerEncoder):
                module.use_nested_tensor = True


def _places(module: nn.Module) -> list[int]:
    hooks = module._forward_pre_hooks.items()  # noqa: SLF001 - copies have no handles
    return [place for place, hook in hooks if hook is _stay_off_fast_path]


def _stay_off_fast_path(_module: nn.Module, _inputs: Any) -> None:
    """Do nothing: that a hook is there is what torch asks."""
