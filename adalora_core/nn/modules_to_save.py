"""Modules that are trained in full beside the adapters, one copy per adapter."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn


class ModulesToSave(nn.Module):
    """A frozen `original_module` and one trainable copy of it per adapter.

    Parameters are `<path>.modules_to_save.<adapter>.*`, as in PEFT.
    """

    def __init__(self, original_module: nn.Module) -> None:
        super().__init__()
        self.original_module = original_module
        original_module.requires_grad_(False)
        self.modules_to_save = nn.ModuleDict()
        self.active_adapter: str | None = None
        self.adapters_disabled = False

    def add_adapter(self, name: str) -> None:
        """Give the adapter `name` its own copy of the original module."""
        self.modules_to_save[name] = copy.deepcopy(self.original_module)

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
