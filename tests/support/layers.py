"""Layers with active adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adalora_core.floor.adapter_spec import AdapterSpec


def with_adapters(layer: Any, spec: AdapterSpec, *names: str, **options: Any) -> Any:
    """Return `layer`, an adapter layer, with the adapters `names` or "default" added and active."""
    names = names or ("default",)
    for name in names:
        layer.add_adapter(name, spec, **options)
    layer.active_adapters = names
    return layer
