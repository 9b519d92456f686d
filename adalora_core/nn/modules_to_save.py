"""A module that is trained whole beside the adapter, as a copy."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from adalora_core.nn.adapter_layer import DEFAULT_ADAPTER


class ModulesToSave(nn.Module):
    """A frozen `original_module` and its trainable copy, which is called unless `is_disabled`.

    Parameters are `<path>.modules_to_save.default.*`, as in PEFT.
    """

    def __init__(self, original_module: nn.Module) -> None:
        super().__init__()
        self.original_module = original_module
        original_module.requires_grad_(False)
        self.modules_to_save = nn.ModuleDict({DEFAULT_ADAPTER: copy.deepcopy(original_module)})
        self.is_disabled = False

    @property
    def trained(self) -> nn.Module:
        """The copy."""
        return self.modules_to_save[DEFAULT_ADAPTER]

    @property
    def current(self) -> nn.Module:
        """The module that is called."""
        return self.original_module if self.is_disabled else self.trained

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the current module."""
        return self.current(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the current module; models read the `weight` of their heads."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in {"original_module", "modules_to_save"}:
                raise
            return getattr(self.current, name)
