"""Give a wrapper class the `forward` signature of the model that it wraps.

transformers' Trainer reads the signature of `model.forward` and of the class to decide which
columns of a dataset are inputs and which of them are labels.
"""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from torch import nn

Wrapper = TypeVar("Wrapper", bound=nn.Module)

_MADE: dict[tuple[type[nn.Module], type[nn.Module]], Any] = {}
"""The classes made so far: two models of one class share one wrapper class."""


def class_with_signature_of(cls: type[Wrapper], wrapped: type[nn.Module]) -> type[Wrapper]:
    """Return a subclass of `cls` whose `forward` shows the signature of `wrapped.forward`.

    The name, the docstring and pickling stay those of `cls`.
    """

    def forward(self: Wrapper, *args: Any, **kwargs: Any) -> Any:
        return cls.forward(self, *args, **kwargs)

    if (cls, wrapped) not in _MADE:
        forward.__doc__ = cls.forward.__doc__
        forward.__signature__ = inspect.signature(wrapped.forward)  # type: ignore[attr-defined]
        namespace = {
            "forward": forward,
            "__doc__": cls.__doc__,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            # Pickle finds classes by name, and this one is not in its module: build it again.
            "__reduce_ex__": lambda self, _: (_rebuild, (cls, wrapped), self.__dict__),
        }
        _MADE[cls, wrapped] = type(cls.__name__, (cls,), namespace)
    return _MADE[cls, wrapped]  # type: ignore[no-any-return]  # a subclass of cls


def _rebuild(cls: type[nn.Module], wrapped: type[nn.Module]) -> nn.Module:
    made = class_with_signature_of(cls, wrapped)
    return made.__new__(made)
