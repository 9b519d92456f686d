"""Count torch operations and waits of the host: real ones by the profiler, fake ones by a mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._C import (
    _dispatch_get_all_op_names,
    _dispatch_has_kernel_for_dispatch_key,
    _len_torch_dispatch_stack,
)
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

READS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero}
COPIES = {aten._to_copy, aten.copy_}
_NAMES = set(_dispatch_get_all_op_names())


class Counted(TorchDispatchMode):
    """Count what is dispatched below autograd while the mode is active.

    Attributes:
        operations: calls that torch does not mark as views.
        waits: reads of numbers of another device than the CPU, and copies from it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.waits = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count the call, and make it."""
        del types
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if func.namespace == "aten" and not func.is_view:
            self.operations += 1
        arrives = isinstance(result, torch.Tensor) and result.device.type == "cpu"
        if (packet in READS or (packet in COPIES and arrives)) and _is_elsewhere(args):
            self.waits += 1
        return result


def _is_elsewhere(args: tuple[Any, ...]) -> bool:
    return any(isinstance(each, torch.Tensor) and each.device.type != "cpu" for each in args)


def counted(function: Callable[[], object]) -> tuple[int, int]:
    """Return the operations and the waits of one call of `function`.

    A dispatch mode is something that watches, for which other operations run than without it. So it
    counts only where a mode, that of fake tensors, is active anyway; a CPU waits for nothing.
    """
    if _len_torch_dispatch_stack() == 0:
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            function()
        return sum(_operations(each) for each in profiled.events() if each.cpu_parent is None), 0
    with Counted() as mode:
        function()
    return mode.operations, mode.waits


def _operations(event: FunctionEvent) -> int:
    """Return how many operations an event consists of, as they are dispatched below autograd."""
    name = event.name.removeprefix("aten::")
    if name != event.name and hasattr(aten, name):
        packet = getattr(aten, name)
        overloads = [getattr(packet, each) for each in packet.overloads()]
        known = [each for each in overloads if each.name() in _NAMES]
        if known and not any(_is_composite(each) for each in known):
            return int(not all(each.is_view for each in known))
    return sum(map(_operations, event.cpu_children))


def _is_composite(overload: Any) -> bool:
    return bool(_dispatch_has_kernel_for_dispatch_key(overload.name(), "CompositeImplicitAutograd"))
