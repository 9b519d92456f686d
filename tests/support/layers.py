"""Layers with an adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adalora_core.floor.adapter_spec import AdapterSpec


def with_adapter(layer: Any, spec: AdapterSpec, **options: Any) -> Any:
    """Return `layer` with an adapter of `spec`; `options` are those of `add_adapter`."""
    layer.add_adapter(spec, **options)
    return layer
