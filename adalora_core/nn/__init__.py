"""Adapted layers: a frozen base layer with an adapter beside it."""

from __future__ import annotations

from adalora_core.nn.adapter_layer import AdaLoraLayer
from adalora_core.nn.svd_conv2d import SVDConv2d
from adalora_core.nn.svd_linear import SVDLinear
from adalora_core.nn.wrapping import ModulesToSave, wrap_layer

__all__ = ["AdaLoraLayer", "ModulesToSave", "SVDConv2d", "SVDLinear", "wrap_layer"]
