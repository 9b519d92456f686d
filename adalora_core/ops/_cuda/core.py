"""Which devices the compiled kernels serve; found out when the first tensor of a device comes."""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import TYPE_CHECKING

from adalora_core.errors import BackendUnavailableError

if TYPE_CHECKING:
    from adalora_core import _cuda


@functools.cache
def _module() -> _cuda | None:  # type: ignore[valid-type] # the stub types the module
    """Return the module; None where it was not built."""
    try:
        module = importlib.import_module("adalora_core._cuda")
    except ModuleNotFoundError:
        return None
    try:
        module.connect()
    except ImportError as error:
        raise BackendUnavailableError(str(error)) from error
    return module


@functools.cache
def core_of(device: int) -> _cuda | None:  # type: ignore[valid-type] # the stub types the module
    """Return the module if it has kernels that run on CUDA device `device`, else None.

    Warns once for each device that the kernels were built for another machine.
    """
    module = _module()
    problem = "" if module is None else module.problem_of(device)
    if problem:
        warnings.warn(
            f"adalora_core: the CUDA kernels cannot run on cuda:{device}, the reference in torch "
            f"serves it: {problem}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return module
