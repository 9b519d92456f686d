"""Put adapted layers and trained copies into a base model, offloaded ones and encoders included."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from torch import nn

from adalora_core.floor.errors import TargetError
from adalora_core.nn.adapter_layer import DEFAULT_ADAPTER, AdaLoraLayer
from adalora_core.nn.svd_conv2d import SVDConv2d
from adalora_core.nn.svd_linear import SVDLinear

_SIZES = (("in_features", "out_features"), ("infeatures", "outfeatures"), ("nx", "nf"))
"""Attributes with the sizes of modules `[..., in] -> [..., out]`, quantised ones included."""


def wrap_layer(module: nn.Module, path: str) -> AdaLoraLayer:
    """Return an adapted layer around the module `path`, or raise a TargetError.

    Supported are `nn.Linear`, transformers' `Conv1D`, `nn.Conv2d`, and any frozen module that maps
    `[..., in] -> [..., out]` and has both sizes as attributes (as quantised linears do).
    """
    if isinstance(module, AdaLoraLayer):
        return module
    if isinstance(module, nn.Conv2d):
        return SVDConv2d(module)
    sizes = linear_sizes(module)
    if sizes is None:
        raise TargetError(
            f"Target module {path!r} ({type(module).__name__}) is not supported: expected "
            "torch.nn.Linear, Conv1D, torch.nn.Conv2d or a module that maps [..., in] to "
            "[..., out] and has in_features and out_features; leave it out of target_modules or "
            "name it in exclude_modules"
        )
    return SVDLinear(
        module,
        in_features=sizes[0],
        out_features=sizes[1],
        transposed_weight=is_transformers_conv1d(module),
        keeps_output=may_keep_output(module),
    )


def linear_sizes(module: nn.Module) -> tuple[int, int] | None:
    """Return `(in, out)` of a module that maps `[..., in] -> [..., out]`, None for any other."""
    if isinstance(module, nn.Embedding | nn.Bilinear):
        return None
    for names in _SIZES:
        sizes = tuple(getattr(module, name, None) for name in names)
        if all(isinstance(size, int) and size > 0 for size in sizes):
            return sizes  # type: ignore[return-value]  # both are int by the test above
    return None


def may_keep_output(module: nn.Module) -> bool:
    """Return whether `module` may save its output for backward; two kinds are known not to."""
    return type(module) is not nn.Linear and not is_transformers_conv1d(module)


def is_transformers_conv1d(module: nn.Module) -> bool:
    """Return whether `module` is transformers' `Conv1D`, without importing transformers."""
    return any(
        cls.__name__ == "Conv1D" and cls.__module__.startswith("transformers.")
        for cls in type(module).__mro__
    )


class ModulesToSave(nn.Module):
    """A frozen `original_module` and its trainable copy, which is called unless `is_disabled`.

    Parameters are `<path>.modules_to_save.default.*`, as in PEFT.
    """

    def __init__(self, original_module: nn.Module) -> None:
        super().__init__()
        self.original_module = original_module
        original_module.requires_grad_(False)
        self.modules_to_save = nn.ModuleDict({DEFAULT_ADAPTER: copy.deepcopy(original_module)})
        self.is_disabled = False

    @property
    def trained(self) -> nn.Module:
        """The copy."""
        return self.modules_to_save[DEFAULT_ADAPTER]

    @property
    def current(self) -> nn.Module:
        """The module that is called."""
        return self.original_module if self.is_disabled else self.trained

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the current module."""
        return self.current(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the current module; models read the `weight` of their heads."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in {"original_module", "modules_to_save"}:
                raise
            return getattr(self.current, name)


def leave_fast_path(model: nn.Module, adapted: type) -> None:
    """Keep torch's encoders in `model` from the fast path, where a layer inside is adapted.

    In eval mode torch computes such a layer by one operation, which reads the weights of the linear
    layers inside and never calls them. A module inside that has a hook keeps torch from doing so.
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


def offloading_hook(module: nn.Module) -> Any:
    """Return the hook that takes the weights of `module` away after each forward, or None.

    accelerate's `AlignDevicesHook` leaves parameters without values on the meta device, and loads
    the values before each forward. accelerate need not be installed.
    """
    hook = vars(module).get("_hf_hook")
    hooks = getattr(hook, "hooks", [hook])  # several in a row, or one
    return next((each for each in hooks if getattr(each, "offload", None) is True), None)


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
