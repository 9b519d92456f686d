"""SVDConv2d: a frozen convolution plus ΔW = B · diag(E) · A over its flattened kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from adalora_core.nn.adapter_layer import AdaLoraLayer

if TYPE_CHECKING:
    import torch
    from torch import nn


class SVDConv2d(AdaLoraLayer):
    """`nn.Conv2d` with adapters; A is `[r, in/groups · kh · kw]`, B is `[out, r]`.

    `y = base(x) + Σ_adapters scale · conv2d(drop(x), B diag(E) A)` with the stride, padding (mode
    included), dilation and groups of the base layer. PEFT agrees for one group and zero padding;
    it cannot build grouped ones.
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
        columns = 1
        for size in window:
            columns *= size
        return columns, rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the base layer and the active adapters to `x` `[N, in, H, W]`."""
        adapters = self._adapters_to_apply()
        result: torch.Tensor = self.base_layer(x)
        for name in adapters:
            if name in self.lora_A:
                result = result + self._adapter_output(name, x).to(result.dtype)
        return result

    def _adapter_output(self, name: str, x: torch.Tensor) -> torch.Tensor:
        base = self.base_layer
        factor_a, factor_b = self.lora_A[name], self.lora_B[name]
        x = x.to(factor_a.dtype)
        if self.training and self.dropout[name] > 0:
            x = functional.dropout(x, self.dropout[name])
        filters = factor_a * self.lora_E[name] * self.scale[name]
        if base.groups > 1 or self.rank(name) == 0:
            kernel = (factor_b @ filters).reshape(base.weight.shape)
            output: torch.Tensor = base._conv_forward(x, kernel, None)  # noqa: SLF001 - padding_mode
            return output
        # Two thin convolutions: r filters of the base's window, then a 1x1 mix to `out` channels.
        thin = base._conv_forward(x, filters.reshape(-1, *base.weight.shape[1:]), None)  # noqa: SLF001
        return functional.conv2d(thin, factor_b[:, :, None, None])

    def delta_weight(self, name: str) -> torch.Tensor:
        """Return `scale · B diag(E) A` in the shape of the kernel, `[out, in/groups, kh, kw]`."""
        return super().delta_weight(name).reshape(self.base_layer.weight.shape)
