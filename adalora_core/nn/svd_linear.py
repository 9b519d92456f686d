"""SVDLinear: a frozen `[..., in] -> [..., out]` layer plus B · diag(E) · A (paper equation 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from adalora_core.nn.adapter_layer import AdaLoraLayer, Product
from adalora_core.ops import adapted_linear, svd_linear


def plus_products(
    output: torch.Tensor, x: torch.Tensor, products: Sequence[Product], *, inplace: bool
) -> torch.Tensor:
    """Return `output` `[..., out]` of a base layer plus the products of `x` `[..., in]`.

    Several products are summed before they are added, so that rounding does not depend on their
    order. A single one is written into `output` if `inplace`.
    """
    if len(products) == 1:
        A, E, B, scale, dropout = products[0]
        return svd_linear(output, x, A, E, B, scale, dropout=dropout, inplace=inplace)
    if not products:
        return output
    zero = torch.zeros_like(output)
    terms = [svd_linear(zero, x, A, E, B, s, dropout=p) for A, E, B, s, p in products]
    return output + sum(terms[1:], terms[0])


def is_hooked(base_layer: nn.Module) -> bool:
    """Return whether a hook may hold the output of `base_layer`, which must then stay as it is."""
    hooks = base_layer.__dict__  # nn.Module has no public way to read them
    return bool(
        hooks["_forward_hooks"]
        or hooks["_backward_hooks"]
        or hooks["_backward_pre_hooks"]
        or torch_module._has_any_global_hook()  # noqa: SLF001 - torch has no public way
    )


def adapted_output(
    base_layer: nn.Module,
    x: torch.Tensor,
    products: Sequence[Product],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    keeps_output: bool,
) -> torch.Tensor:
    """Return the output of `base_layer` for `x` `[..., in]` plus the products of the adapters.

    `keeps_output`: whether the base layer may save its output for backward. `args` and `kwargs` are
    the other arguments of the base layer.
    """
    if len(products) == 1 and not (args or kwargs) and type(base_layer) is nn.Linear:
        parameters = base_layer._parameters  # noqa: SLF001 - as torch's own way, but quick
        weight, bias = parameters.get("weight"), parameters.get("bias")
        is_frozen = weight is not None and not (
            weight.requires_grad or (bias is not None and bias.requires_grad)
        )
        entries = base_layer.__dict__  # is a call of it its product and nothing else?
        if is_frozen and not (
            entries["_forward_pre_hooks"] or "forward" in entries or is_hooked(base_layer)
        ):
            A, E, B, scale, dropout = products[0]
            return adapted_linear(x, weight, bias, A, E, B, scale, dropout=dropout)  # type: ignore[arg-type] # it is there
    inplace = not (keeps_output or is_hooked(base_layer))
    return plus_products(base_layer(x, *args, **kwargs), x, products, inplace=inplace)


class SVDLinear(AdaLoraLayer):
    """Any frozen module that maps `[..., in] -> [..., out]`, with an adapter.

    `y = base(x) + scale · ((drop(x) Aᵀ) ⊙ Eᵀ) Bᵀ` with
    `scale = lora_alpha / (init_r + 1e-5)`.

    Args:
        base_layer: `nn.Linear`, transformers' `Conv1D`, or any module of that shape.
        in_features: last dimension of the input.
        out_features: last dimension of the output.
        transposed_weight: whether the base weight is `[in, out]`, as in `Conv1D`.
        keeps_output: whether the base layer may save its output for backward; the adapter then
            adds out of place.

    Example:
        >>> import torch
        >>> from adalora_core.floor.adapter_spec import AdapterSpec
        >>> layer = SVDLinear(torch.nn.Linear(4, 3), in_features=4, out_features=3)
        >>> layer.add_adapter(AdapterSpec(init_r=2))
        >>> layer(torch.ones(5, 4)).shape
        torch.Size([5, 3])
    """

    lora_kernel = ()

    def __init__(
        self,
        base_layer: nn.Module,
        *,
        in_features: int,
        out_features: int,
        transposed_weight: bool = False,
        keeps_output: bool = False,
    ) -> None:
        super().__init__(base_layer)
        self.in_features = in_features
        self.out_features = out_features
        self.transposed_weight = transposed_weight
        self.keeps_output = keeps_output

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Apply the base layer and the adapter to `x` `[..., in]`."""
        base: Any = self._modules["base_layer"]
        keeps_output = self.keeps_output
        return adapted_output(base, x, self._products(), args, kwargs, keeps_output=keeps_output)

    def delta_weight(self) -> torch.Tensor:
        """Return `scale · B diag(E) A` as `[out, in]`, or transposed like the base weight."""
        delta = super().delta_weight()
        return delta.T if self.transposed_weight else delta
