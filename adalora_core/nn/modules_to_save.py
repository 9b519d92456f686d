"""Modules that are trained beside the adapters, in full or in some rows, one copy per adapter."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from adalora_core.floor.peft_identity import SeenAsPeft
from adalora_core.nn.token_rows import TokenRows


class ModulesToSave(SeenAsPeft, nn.Module):
    """A frozen `original_module` and one trainable copy of it per adapter.

    Parameters are `<path>.modules_to_save.<adapter>.*`, as in PEFT.
    """

    seen_as = ("peft.utils.other", "ModulesToSaveWrapper")
    adapter_layer_names = ("modules_to_save",)
    other_param_names = ()

    def __init__(self, original_module: nn.Module) -> None:
        super().__init__()
        self.original_module = original_module
        original_module.requires_grad_(False)
        self.modules_to_save = nn.ModuleDict()
        self.active_adapter: str | None = None
        self.adapters_disabled = False
        self.merged_adapters: list[str] = []

    def add_adapter(self, name: str, rows: TokenRows | None = None) -> None:
        """Give the adapter `name` its own copy of the original module, or only some `rows`."""
        self.modules_to_save[name] = rows or copy.deepcopy(self.original_module)

    def delete_adapter(self, name: str) -> None:
        """Remove the copy of the adapter `name`."""
        if name in self.modules_to_save:
            del self.modules_to_save[name]
        if self.active_adapter == name:
            self.active_adapter = None

    def current(self) -> nn.Module:
        """Return the module that is called: the copy of the active adapter, or the original."""
        name = self.active_adapter
        if self.adapters_disabled or name is None or name not in self.modules_to_save:
            return self.original_module
        return self.modules_to_save[name]

    @torch.no_grad()
    def unloaded(self, *, merge: bool) -> nn.Module:
        """Return what stays in the model without adapters; `merge` writes rows into the weight."""
        current = self.current()
        if not isinstance(current, TokenRows):
            return current
        if merge:
            self.original_module.weight.copy_(current.weight)  # type: ignore[operator] # a parameter
        return self.original_module

    # --- what PEFT's functions ask its wrapper ----------------------------------------------------

    @property
    def active_adapters(self) -> list[str]:
        """The adapter whose copy is called, as a list."""
        return [] if self.active_adapter is None else [self.active_adapter]

    @property
    def disable_adapters(self) -> bool:
        """Whether the original module is called."""
        return self.adapters_disabled

    @property
    def _adapters(self) -> set[str]:
        return set(self.modules_to_save)

    def _get_available_adapters(self) -> set[str]:
        return self._adapters

    def adapter_state_dict_load_map(self, adapter_name: str) -> dict[str, str]:
        """Return the names in this module of the tensors in an adapter file."""
        if adapter_name not in self.modules_to_save:
            return {}
        names = self.modules_to_save[adapter_name].state_dict()
        return {name: f"modules_to_save.{adapter_name}.{name}" for name in names}

    def adapter_state_dict(self, adapter_name: str, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the tensors of an adapter out of the state dict of this module."""
        names = self.adapter_state_dict_load_map(adapter_name)
        return {name: state_dict[here] for name, here in names.items()}

    # --- calling ----------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the current module."""
        return self.current()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the current module; models read the `weight` of their heads."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "original_module" or "original_module" not in self._modules:
                raise
            return getattr(self.current(), name)
