"""What changes in PEFT's adapted layers: the op, and a scale that stays what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.adalora.layer import AdaLoraLayer, SVDLinear
from torch import nn

from adalora_core.adapter_spec import SCALE_EPSILON
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.nn.wrapping import is_transformers_conv1d
from adalora_core.ops import svd_linear

if TYPE_CHECKING:
    from collections.abc import Iterator

INITIAL_RANKS = "_adalora_initial_ranks"
"""Attribute of a bridged layer: `{adapter: init_r}`, the divisor of its scale."""

_peft_move = AdaLoraLayer._move_adapter_to_device_of_base_layer  # noqa: SLF001 - PEFT's own hook
_peft_forward = SVDLinear.forward


class LayerOverrides:
    """Methods of every adapted layer of PEFT."""

    def _move_adapter_to_device_of_base_layer(
        self: Any, adapter_name: str, device: torch.device | None = None
    ) -> None:
        """Move the factors as PEFT does, and keep the divisor of the scale out of training.

        PEFT makes a new parameter of it when the base model is not in float32, and trains it.
        """
        _peft_move(self, adapter_name, device)
        if adapter_name in self.ranknum:
            self.ranknum[adapter_name].requires_grad_(False)
            if round(float(self.ranknum[adapter_name])) == self.r[adapter_name]:
                remember_initial_rank(self, adapter_name, self.r[adapter_name])


class LinearOverrides:
    """Methods of PEFT's `SVDLinear`."""

    def forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Apply the base layer and the active adapters to `x` `[..., in]`."""
        if INITIAL_RANKS not in self.__dict__ or self.disable_adapters or self.merged:
            output: torch.Tensor = _peft_forward(self, x, *args, **kwargs)
            return output
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        names = [name for name in self.active_adapters if name in self.lora_A]
        if len(names) == 1:
            base = self.base_layer
            # Only these two are known not to save their output for backward.
            plain = type(base) is nn.Linear or is_transformers_conv1d(base)
            return _add_adapter(self, names[0], result, x, inplace=plain)
        if names:
            # Among themselves first: then their order does not show in the rounding.
            zero = torch.zeros_like(result)
            products = [_add_adapter(self, name, zero, x, inplace=False) for name in names]
            result = result + sum(products[1:], products[0])
        return result


def _add_adapter(
    layer: Any, name: str, output: torch.Tensor, x: torch.Tensor, *, inplace: bool
) -> torch.Tensor:
    return svd_linear(
        output,
        x,
        layer.lora_A[name],
        layer.lora_E[name],
        layer.lora_B[name],
        layer.scaling[name] / (layer.__dict__[INITIAL_RANKS][name] + SCALE_EPSILON),
        dropout=_dropout_of(layer.lora_dropout[name]),
        inplace=inplace,
    )


def _dropout_of(module: nn.Module) -> float:
    return module.p if isinstance(module, nn.Dropout) and module.training else 0.0


def remember_initial_rank(layer: Any, name: str, rank: int) -> None:
    """Mark `layer` as bridged for the adapter `name`."""
    layer.__dict__.setdefault(INITIAL_RANKS, {})[name] = rank


def forget_initial_ranks(model: nn.Module) -> None:
    """Give every layer of `model` back to PEFT's forward."""
    for _, layer in adalora_layers(model):
        layer.__dict__.pop(INITIAL_RANKS, None)


def adalora_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield path and layer of everything that PEFT has adapted, in the model's order."""
    for path, module in model.named_modules():
        if isinstance(module, AdaLoraLayer):
            yield path, module


def set_rank(layer: Any, name: str, rank: int) -> None:
    """Give the factors of `layer` room for `rank` triplets, all of them zero.

    The parameters stay the same objects: an optimizer may hold them already.
    """
    for factor in FACTORS:
        parameter = getattr(layer, factor)[name]
        shape = list(parameter.shape)
        axis = 1 if factor == "lora_B" else 0
        if shape[axis] != rank:
            shape[axis] = rank
            parameter.grad = None
            parameter.data = parameter.data.new_zeros(shape)
