"""Calls of `adalora_core._cuda`, the compiled kernels for NVIDIA GPUs.

Outputs and intermediate results are torch tensors, so torch's allocator owns all memory. Kernels
run on torch's current stream and nothing waits for them.

Here they are loaded, after one question per device whether they can run there.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import TYPE_CHECKING

from adalora_core.floor.errors import BackendUnavailableError

if TYPE_CHECKING:
    from adalora_core import _cuda


@functools.cache
def _module() -> _cuda | None:  # type: ignore[valid-type] # the stub types the module
    """Return the compiled module, None where it was not built."""
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
    """Return the compiled module if its kernels run on CUDA device `device`, else None.

    A device that the kernels were not built for gets one warning.
    """
    module = _module()
    problem = "" if module is None else module.problem_of(device)
    if problem:
        warnings.warn(
            f"adalora_core: the CUDA kernels cannot run on cuda:{device}, so "
            f"torch's operations serve it: {problem}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return module
