"""Override the methods of single instances, by classes that copy and pickle with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class Attached:
    """Base of the classes that `attach` makes.

    Attributes:
        wrapped: the class before.
    """

    wrapped: type


_classes: dict[tuple[type, type], type] = {}


def override(module: nn.Module, overrides: type) -> None:
    """Let the methods of `overrides` act on `module`, which stays an instance of its class."""
    _set_class(module, _attached_class(type(module), overrides))


def restore(module: Any) -> None:
    """Undo `override`."""
    if isinstance(module, Attached):
        _set_class(module, type(module).wrapped)


def _set_class(module: Any, cls: type) -> None:
    module.__class__ = cls


def _attached_class(cls: type, overrides: type) -> type:
    if (cls, overrides) not in _classes:
        namespace = {
            "wrapped": cls,
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            # Pickle finds classes by name, and this one is not in its module: build it again.
            "__reduce_ex__": lambda self, _: (_rebuild, (cls, overrides), self.__dict__),
        }
        _classes[cls, overrides] = type(cls.__name__, (overrides, Attached, cls), namespace)
    return _classes[cls, overrides]


def _rebuild(cls: type, overrides: type) -> Any:
    made: Any = _attached_class(cls, overrides)
    return made.__new__(made)
