"""Load the compiled core, and decide which calls it serves."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from adalora_core.floor.errors import BackendUnavailableError
from adalora_core.ops import _portable
from adalora_core.ops._cuda import core_of as _cuda_core_of

BACKENDS = ("native", "portable", "reference")
CHOICE = os.environ.get("ADALORA_BACKEND", "")
"""The only backend that serves, for tests and debugging; empty lets each call choose."""

_PLAIN_TYPES = (Tensor, Parameter)
"""Types that the core serves: the memory of a subclass may have another meaning."""


def _load() -> Any:
    """Return the compiled core; None in a pure install, or where another backend is chosen."""
    if CHOICE and CHOICE not in BACKENDS:
        raise BackendUnavailableError(
            f"ADALORA_BACKEND must be one of {', '.join(BACKENDS)}, got {CHOICE!r}"
        )
    if CHOICE in BACKENDS[1:]:
        return None
    try:
        core = importlib.import_module("adalora_core._cpu")
    except ImportError as error:
        try:
            wheel = metadata.distribution("adalora-core").read_text("WHEEL") or ""
        except metadata.PackageNotFoundError:
            wheel = ""
        if "Root-Is-Purelib: true" in wheel and not CHOICE:  # without a core on purpose
            return None
        raise BackendUnavailableError(
            f"the compiled core adalora_core._cpu cannot be loaded ({error}); this is a source "
            "tree that was not built, or a build for another Python: run 'pip install .' there "
            "(or set ADALORA_NATIVE=OFF to install without the compiled core)"
        ) from error
    try:
        core.connect()
    except (ImportError, ValueError) as error:  # of torch, or of ADALORA_CORE_ISA
        raise BackendUnavailableError(str(error)) from error
    return core


if TYPE_CHECKING:
    # Typed by the stub; it is None where `HAS_CORE` is false.
    from adalora_core import _cpu

    core = _cpu
else:
    core = _load()

HAS_CORE = core is not None
"""Whether the compiled core of the CPU is there; if not, the portable backend serves every call."""


def in_torch(op: str) -> Any:
    """Return the backend in torch's operations, for a call of `op` that the core does not serve."""
    if CHOICE == "native":
        raise BackendUnavailableError(
            f"{op}: ADALORA_BACKEND is 'native', and the compiled core does not serve these "
            "tensors; unset it, or see adalora env"
        )
    return importlib.import_module("adalora_core.reference") if CHOICE == "reference" else _portable


def compiles_for_core(tensors: Sequence[Tensor]) -> bool:
    """Return whether torch.compile is tracing a call that a registered op of the core serves.

    torch.export is not: its programs run where this package may be missing.
    """
    return (
        torch.compiler.is_compiling()
        # What is_exporting() returns; torch.compile takes that for true before torch 2.12.
        and not torch.compiler._is_exporting_flag  # noqa: SLF001
        and HAS_CORE
        and len(tensors) > 0
        and all(tensor.is_cpu for tensor in tensors)
    )


def serves(*tensors: Tensor) -> bool:
    """Return whether the compiled core takes these tensors; else `in_torch` does.

    The core takes plain tensors on the CPU, and on CUDA devices that its kernels were built for.
    Other devices, subclasses (DTensor, FakeTensor) and the wrappers of torch.func are not for it.
    Nor are CUDA tensors under torch.compile, which makes its own kernels.
    """
    if not HAS_CORE or torch._C._are_functorch_transforms_active():  # noqa: SLF001 - as Function.apply
        return False
    on_cpu = True
    for tensor in tensors:  # a loop, since every layer pays for it: half the time of two all()
        if type(tensor) not in _PLAIN_TYPES:
            return False
        on_cpu = on_cpu and tensor.is_cpu
    if on_cpu:
        return True
    return (
        all(tensor.is_cuda for tensor in tensors)
        and not torch.compiler.is_compiling()
        and core_of(tensors[0]) is not None
    )


def core_of(tensor: Tensor) -> Any:
    """Return the compiled module for the device of `tensor`, None without one."""
    return core if tensor.is_cpu else _cuda_core_of(tensor.get_device())
