"""SVDConv2d: a frozen convolution plus ΔW = B · diag(E) · A over its flattened kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from adalora_core.nn.adapter_layer import AdaLoraLayer, Product


def plus_convolutions(
    output: torch.Tensor, x: torch.Tensor, products: Sequence[Product], base: nn.Conv2d
) -> torch.Tensor:
    """Return `output` `[N, out, H, W]` of the convolution `base` plus those of the adapters.

    `x` is `[N, in, H, W]`, A `[r, in/groups · kh · kw]`, B `[out, r]`; stride, padding (mode
    included), dilation and groups are those of `base`.
    """
    terms = [_convolved(x, product, base).to(output.dtype) for product in products]
    return output + sum(terms[1:], terms[0]) if terms else output


def _convolved(x: torch.Tensor, product: Product, base: nn.Conv2d) -> torch.Tensor:
    A, E, B, scale, dropout = product
    x = x.to(A.dtype)
    if dropout > 0:
        x = functional.dropout(x, dropout)
    filters = A * E * scale
    if base.groups > 1 or A.nbytes == 0:  # unlike a shape, the bytes are a number in a trace too
        kernel = (B @ filters).reshape(base.weight.shape)
        output: torch.Tensor = base._conv_forward(x, kernel, None)  # noqa: SLF001 - padding_mode
        return output
    # Two thin convolutions: r filters of the base's window, then a 1x1 mix to `out` channels.
    thin = base._conv_forward(x, filters.reshape(-1, *base.weight.shape[1:]), None)  # noqa: SLF001
    return functional.conv2d(thin, B[:, :, None, None])


class SVDConv2d(AdaLoraLayer):
    """`nn.Conv2d` with an adapter; A is `[r, in/groups · kh · kw]`, B is `[out, r]`.

    `y = base(x) + scale · conv2d(drop(x), B diag(E) A)` with the stride, padding (mode
    included), dilation and groups of the base layer. PEFT agrees for one group and zero padding,
    and refuses several groups.
    """

    base_layer: nn.Conv2d

    def __init__(self, base_layer: nn.Conv2d) -> None:
        super().__init__(base_layer)
        self.in_features = base_layer.in_channels
        self.out_features = base_layer.out_channels

    @property
    def factor_shapes(self) -> tuple[int, int]:
        """`(in/groups · kh · kw, out)`."""
        rows, *window = self.base_layer.weight.shape
        return math.prod(window), rows

    @property
    def lora_kernel(self) -> tuple[int, ...] | None:
        """`(kh, kw)`; None for a convolution with groups, which LoRA cannot express."""
        return self.base_layer.kernel_size if self.base_layer.groups == 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the base layer and the adapter to `x` `[N, in, H, W]`."""
        result: torch.Tensor = self.base_layer(x)
        return plus_convolutions(result, x, self._products(), self.base_layer)

    def delta_weight(self) -> torch.Tensor:
        """Return `scale · B diag(E) A` in the shape of the kernel, `[out, in/groups, kh, kw]`."""
        return super().delta_weight().reshape(self.base_layer.weight.shape)
