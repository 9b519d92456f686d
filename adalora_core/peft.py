"""Re-export PEFT's public names, with the bridge installed: `from adalora_core.peft import ...`.

A script that trains AdaLoRA with PEFT changes the module that it imports from, and nothing else.
Every public name is the object of the installed PEFT, so that `isinstance` and files agree with
code that imports `peft` itself. Submodules are PEFT's as well: `adalora_core.peft.utils` is
`peft.utils`.

The import calls `adalora_core.bridge.install()`, which acts on the whole process: every
AdaLoRA model that PEFT builds afterwards has the ops and the allocator of this package, no matter
which module built it. `adalora_core.bridge.uninstall()` undoes it.

Raises:
    MissingExtraError: PEFT is not installed.
    UnsupportedPeftError: the bridge does not fit the installed release.

Example:
    >>> import torch
    >>> from adalora_core.peft import AdaLoraConfig, PeftModel, get_peft_model
    >>> base = torch.nn.Sequential(torch.nn.Linear(4, 4))
    >>> config = AdaLoraConfig(target_modules=["0"], init_r=4, target_r=2, total_step=9)
    >>> isinstance(get_peft_model(base, config), PeftModel)
    True
    >>> from adalora_core.bridge import uninstall
    >>> uninstall()
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from adalora_core.bridge import install

_peft = import_module("peft")

if TYPE_CHECKING:
    from types import ModuleType

    from peft import *  # noqa: F403 - for editors and type checkers; `__getattr__` does the work

__all__ = _peft.__all__
__path__: list[str] = []  # a module with a path may have submodules


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_peft, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_peft)})


def _name_in_peft(name: str) -> str | None:
    inside = f"{__name__}."
    return f"peft.{name.removeprefix(inside)}" if name.startswith(inside) else None


class _Aliases:
    """A finder, which gives PEFT's module itself for a name below this one, never a copy."""

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        name, loader = _name_in_peft(fullname), self
        return ModuleSpec(fullname, loader) if name and find_spec(name) else None  # type: ignore[arg-type] # a duck

    def create_module(self, _: ModuleSpec) -> None:
        """Let the import system make an empty module, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(str(_name_in_peft(module.__name__)))


sys.meta_path.insert(0, _Aliases())  # before that of files, which would load a file a second time
install()
