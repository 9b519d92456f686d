"""Make an `AdaLoraModel` an instance of PEFT's `PeftModel` wherever PEFT is imported.

Trainer, TRL, accelerate and PEFT's functions ask `isinstance(model, peft.PeftModel)` before they
save an adapter without its base, shift labels, or accept a quantised base.
"""

from __future__ import annotations

import sys
from typing import Any

_SEEN: dict[tuple[type, type], type] = {}
"""The classes made so far, by class of this package and class of PEFT."""


class SeenAsPeftModel:
    """Base of models that `isinstance` takes for PEFT's, while every attribute stays their own.

    `isinstance` asks `type(model)` and then `model.__class__`. Attributes are looked up in the type
    alone. PEFT is never imported: the answer is found when the question is asked, so a model made
    before the import is an instance too.
    """

    @property
    def __class__(self) -> type:
        """The type of the model; with PEFT imported, a class that also derives from `PeftModel`."""
        own, seen = type(self), getattr(sys.modules.get("peft"), "PeftModel", None)
        # PEFT may be half imported, or be something else of this name.
        return _seen_class(own, seen) if isinstance(seen, type) else own

    @__class__.setter
    def __class__(self, cls: type) -> None:
        # fully_shard derives a class from `model.__class__` and assigns it.
        object.__dict__["__class__"].__set__(self, cls)


class _Absent:
    """An attribute of PEFT's class that instances do not have; they ask `__getattr__` instead."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        raise AttributeError(self._name)


def _seen_class(own: type, seen: type) -> type:
    if issubclass(own, seen):
        return own
    if (own, seen) not in _SEEN:
        namespace: dict[str, Any] = {
            name: _Absent(name)
            for name in dir(seen)
            if not name.startswith("__") and not hasattr(own, name)
        }
        namespace |= {"__module__": own.__module__, "__doc__": own.__doc__}
        _SEEN[own, seen] = type(own.__name__, (own, seen), namespace)
    return _SEEN[own, seen]
