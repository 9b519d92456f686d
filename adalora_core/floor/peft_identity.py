"""Make models, tuners and layers instances of PEFT's classes wherever PEFT is imported.

Trainer, TRL, accelerate and PEFT's functions ask `isinstance(model, peft.PeftModel)` before they
save an adapter without its base, shift labels, or accept a quantised base.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar

_SEEN: dict[tuple[type, type], type] = {}
"""The classes made so far, by class of this package and class of PEFT."""


class SeenAsPeft:
    """Base of classes whose instances `isinstance` takes for those of PEFT's class `seen_as`.

    `isinstance` asks `type(module)` and then `module.__class__`. Attributes are looked up in the
    type alone, so all of them stay those of this package. PEFT is never imported: the answer is
    found when the question is asked, so it also holds for what was made before the import.
    """

    seen_as: ClassVar[tuple[str, str]]

    @property
    def __class__(self) -> type:
        """The type; with PEFT imported, a class that also derives from PEFT's."""
        module, name = self.seen_as
        own, seen = type(self), getattr(sys.modules.get(module), name, None)
        # PEFT may be half imported, or be something else of this name.
        return self._seen_class(seen) if isinstance(seen, type) else own

    @__class__.setter
    def __class__(self, cls: type) -> None:
        # fully_shard derives a class from `module.__class__` and assigns it.
        object.__dict__["__class__"].__set__(self, cls)

    def _seen_class(self, seen: type) -> type:
        return _derived(type(self), seen)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle by type: pickle refuses `copyreg.__newobj__` where `__class__` is another."""
        parts: Any = super().__reduce_ex__(max(protocol, 2))
        return _new, *parts[1:]


def _new(cls: type, *arguments: Any) -> Any:
    return cls.__new__(cls, *arguments)


class _Absent:
    """An attribute of PEFT's class that instances do not have; they ask `__getattr__` instead."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        raise AttributeError(self._name)


def _derived(own: type, seen: type) -> type:
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


class ConfigSeenAsPeft(SeenAsPeft):
    """The same for classes of pydantic, from which no class with a base of PEFT can be derived."""

    def _seen_class(self, seen: type) -> type:
        own = type(self)
        if (own, seen) not in _SEEN:
            _SEEN[own, seen] = _StandIn(own.__name__, (seen,), {"own": own})
        return _SEEN[own, seen]


class _StandIn(type):
    """Make classes that derive from PEFT's, and are `own` when they are read or called."""

    def __getattribute__(cls, name: str) -> Any:
        return getattr(type.__getattribute__(cls, "own"), name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return type.__getattribute__(cls, "own")(*args, **kwargs)
