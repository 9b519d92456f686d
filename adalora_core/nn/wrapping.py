"""Choose the adapted layer for a module, or refuse the module."""

from __future__ import annotations

from torch import nn

from adalora_core.floor.errors import TargetError
from adalora_core.nn.adapter_layer import AdaLoraLayer
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
    if is_transformers_conv1d(module):
        # Early versions kept only nf; the weight is [in, out].
        rows, columns = next(iter(module.parameters())).shape
        return int(rows), int(columns)
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
