"""SVDLinear: a frozen `[..., in] -> [..., out]` layer plus B · diag(E) · A (paper equation 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.nn.adapter_layer import AdaLoraLayer
from adalora_core.ops import svd_linear

if TYPE_CHECKING:
    import torch
    from torch import nn


class SVDLinear(AdaLoraLayer):
    """Any frozen module that maps `[..., in] -> [..., out]`, with adapters.

    `y = base(x) + Σ_adapters scale · ((drop(x) Aᵀ) ⊙ Eᵀ) Bᵀ` with
    `scale = lora_alpha / (init_r + 1e-5)`.

    Args:
        base_layer: `nn.Linear`, transformers' `Conv1D`, or any module of that shape.
        in_features: last dimension of the input.
        out_features: last dimension of the output.
        transposed_weight: the base weight is `[in, out]` (`Conv1D`), which merging must know.
        keeps_output: the base layer saves its output for backward, or it is not known: the adapter
            then adds out of place.

    Example:
        >>> import torch
        >>> from adalora_core.adapter_spec import AdapterSpec
        >>> layer = SVDLinear(torch.nn.Linear(4, 3), in_features=4, out_features=3)
        >>> layer.add_adapter("default", AdapterSpec(init_r=2))
        >>> layer.active_adapters = ("default",)
        >>> layer(torch.ones(5, 4)).shape
        torch.Size([5, 3])
    """

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
        """Apply the base layer and the active adapters to `x` `[..., in]`."""
        # First of all: it takes merged weights out of the base layer while adapters are disabled.
        adapters = self._adapters_to_apply()
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        for name in adapters:
            if name in self.lora_A:
                result = svd_linear(
                    result,
                    x,
                    self.lora_A[name],
                    self.lora_E[name],
                    self.lora_B[name],
                    self.scale[name],
                    dropout=self.dropout[name] if self.training else 0.0,
                    inplace=not (self.keeps_output or self._is_hooked()),
                )
        return result

    def _is_hooked(self) -> bool:
        """Return whether somebody else may hold the base layer's output, which must then stay."""
        hooks = vars(self.base_layer)  # nn.Module offers no public way to ask for them
        return bool(
            hooks["_forward_hooks"] or hooks["_backward_hooks"] or hooks["_backward_pre_hooks"]
        )

    def delta_weight(self, name: str) -> torch.Tensor:
        """Return `scale · B diag(E) A`, `[out, in]` (transposed if the base weight is)."""
        delta = super().delta_weight(name)
        return delta.T if self.transposed_weight else delta
