"""Count torch operations and waits of the host, on real tensors and on fake ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable

aten = torch.ops.aten

READS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero}
COPIES = {aten._to_copy, aten.copy_}


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
    """Return the operations and the waits of one call of `function`."""
    with Counted() as mode:
        function()
    return mode.operations, mode.waits
