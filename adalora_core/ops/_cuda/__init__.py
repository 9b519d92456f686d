"""Calls of `adalora_core._cuda`, the compiled kernels for NVIDIA GPUs.

Outputs and intermediate results are torch tensors, so torch's allocator owns all memory. Kernels
run on torch's current stream and nothing waits for them.

Here they are loaded, after one question per device whether they can run there.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

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


def update_importance(
    core: Any,
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None] | None,
    smoothed: Sequence[Tensor] | Tensor,
    uncertainty: Sequence[Tensor] | Tensor,
    beta1: float,
    beta2: float,
    scores: Tensor | None,
) -> Tensor:
    """Enqueue the update, and return a tensor that will hold the number of skipped entries."""
    skipped = torch.zeros((), dtype=torch.int64, device=parameters[0].device)
    partials = None
    if scores is not None:
        room = core.score_room(parameters)
        partials = torch.empty(room, dtype=torch.float64, device=skipped.device)
    written = [smoothed, uncertainty, scores]
    rest = (beta1, beta2, scores, partials, skipped)
    if core.update_importance(parameters, gradients, smoothed, uncertainty, *rest):
        return skipped
    # A tensor is strided: the kernels work on copies.
    if gradients is None:
        gradients = [each.grad for each in parameters]
    dense = [_dense(each) for each in written]
    if not core.update_importance(
        _dense(parameters), _dense(gradients), *dense[:2], beta1, beta2, dense[2], *rest[3:]
    ):
        raise RuntimeError("update_importance: the kernels do not serve contiguous copies")
    for target, source in zip(written, dense, strict=True):
        _copy_back(target, source)
    return skipped


def _dense(tensors: Any) -> Any:
    if isinstance(tensors, Tensor):
        return tensors.contiguous()
    return None if tensors is None else [_dense(each) for each in tensors]


def _copy_back(target: Any, source: Any) -> None:
    if isinstance(target, Tensor):
        if target is not source:
            target.copy_(source)
    elif target is not None:
        for each, copied in zip(target, source, strict=True):
            _copy_back(each, copied)
