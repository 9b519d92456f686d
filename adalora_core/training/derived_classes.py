"""Derive classes that keep the name, the docstring and the pickling of another class."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

_made: dict[tuple[Callable[..., type], type, type], type] = {}
"""The results of `class_like`: two models of one class share one wrapper class."""


def class_with_signature_of(cls: type[nn.Module], wrapped: type[nn.Module]) -> Any:
    """Return a subclass of `cls` whose `forward` shows the signature of `wrapped.forward`.

    The name, the docstring and pickling stay those of `cls`.
    """

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return cls.forward(self, *args, **kwargs)

    forward.__doc__ = cls.forward.__doc__
    forward.__signature__ = inspect.signature(wrapped.forward)  # type: ignore[attr-defined]
    return class_like(cls, (cls,), class_with_signature_of, wrapped, forward=forward)


def class_like(
    cls: type, bases: tuple[type, ...], make: Callable[..., type], other: type, **members: Any
) -> type:
    """Return the class of `make(cls, other)`, which has the name of `cls`; it is made once."""
    key = make, cls, other
    if key not in _made:
        namespace = {
            **members,
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            # Pickle finds classes by name, and this one is not in its module: build it again.
            "__reduce_ex__": lambda self, _: (_rebuild, key, self.__dict__),
        }
        _made[key] = type(cls.__name__, bases, namespace)
    return _made[key]


def _rebuild(make: Callable[..., type], cls: type, other: type) -> Any:
    made: Any = make(cls, other)
    return made.__new__(made)
