"""Give adapted layers the names under which PEFT's layers show the same things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from adalora_core.floor.adapter_spec import scale_of

if TYPE_CHECKING:
    import torch
    from torch import nn


class LayerNames:
    """Names of PEFT's layers that are views of what an `AdaLoraLayer` holds."""

    base_layer: nn.Module
    lora_E: nn.ParameterDict  # noqa: N815 - the wire name
    lora_alpha: dict[str, float]
    scaling: dict[str, float]
    initial_rank: dict[str, int]
    active_adapters: Sequence[str]
    adapters_disabled: bool

    adapter_layer_names = ("lora_A", "lora_B", "lora_E")
    other_param_names = ("r", "lora_alpha", "scaling", "lora_dropout")

    @property
    def r(self) -> dict[str, int]:
        """Triplets of each adapter, dropped ones included."""
        return {name: int(values.shape[0]) for name, values in self.lora_E.items()}

    @property
    def scale(self) -> dict[str, float]:
        """The factor on the output of each adapter, `scaling / (init_r + 1e-5)`."""
        return {
            name: scale_of(self.scaling[name], self.initial_rank[name]) for name in self.scaling
        }

    @property
    def active_adapter(self) -> list[str]:
        """The adapters that act on the output of this layer."""
        return list(self.active_adapters)

    @property
    def disable_adapters(self) -> bool:
        """Whether no adapter acts on the output; `enable_adapters` changes it."""
        return self.adapters_disabled

    def enable_adapters(self, enabled: bool) -> None:
        """Let the active adapters act on the output of this layer, or none."""
        self.adapters_disabled = not enabled

    def get_base_layer(self) -> nn.Module:
        """Return the layer that was adapted."""
        return self.base_layer

    def get_delta_weight(self, adapter: str) -> torch.Tensor:
        """Return ΔW of an adapter in the layout of the base weight."""
        return self.delta_weight(adapter)  # type: ignore[no-any-return]

    def set_scale(self, adapter: str, scale: float) -> None:
        """Set the scale of an adapter to its initial scale times `scale`."""
        if adapter in self.scaling:
            self.scaling[adapter] = scale * self.lora_alpha[adapter]

    def scale_layer(self, scale: float) -> None:
        """Multiply the scale of every active adapter by `scale`."""
        for name in self.active_adapters:
            if name in self.scaling:
                self.scaling[name] *= scale

    def unscale_layer(self, scale: float | None = None) -> None:
        """Divide the scale of every active adapter by `scale`; None means the initial scale."""
        for name in self.active_adapters:
            if name in self.scaling:
                self.scaling[name] = (
                    self.lora_alpha[name] if scale is None else self.scaling[name] / scale
                )

    def __getattr__(self, name: str) -> Any:
        """Return a submodule or parameter."""
        # Not through nn.Module: every forward looks up the base layer and the factors here.
        modules = self.__dict__.get("_modules", {})
        if name in modules:
            return modules[name]
        return super().__getattr__(name)  # type: ignore[misc]  # nn.Module's
