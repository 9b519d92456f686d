"""Ask whether something records or transforms torch's operations while they are called."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active, _get_tracing_state, _len_torch_dispatch_stack
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad
from torch.compiler import is_compiling


def is_watched() -> bool:
    """Return whether a call has to consist of torch's operations, with nothing written in place.

    torch.compile, torch.func, a dispatch mode (make_fx, selective checkpointing), torch.jit.trace
    and forward-mode AD see neither a call of the core nor a write into what they keep.
    """
    return (
        is_compiling()  # first, since a compiler refuses the other questions
        or _are_functorch_transforms_active()
        or _len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0  # noqa: SLF001 - torch has no public way
        or _get_tracing_state() is not None
    )


def is_recorded(grad: Tensor) -> bool:
    """Return the same for a backward pass that was given `grad`, which may be a batch of them."""
    return torch.is_grad_enabled() or is_watched() or is_legacy_batchedtensor(grad)
