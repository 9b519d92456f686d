"""A stand-in for a second device: its tensors hold memory of the CPU, and mix with no others.

`python far_device.py FOLDER` resumes runs of models that are spread over it and the CPU. The script
needs a process of its own, since a device type stays once it is registered.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Self

import torch
from resumed_runs import NOT_SORTED, ONE_DTYPE, TWO_DTYPES, WAYS, Chain, Shape, check_resuming
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "far"
CPU = torch.device("cpu")
COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
BY_ENTRY = {torch.ops.aten._foreach_mul.List, torch.ops.aten._foreach_norm.Scalar}
"""Operations on lists whose entries may be on several devices."""


class Far(torch.Tensor):
    """A tensor on the far device.

    Attributes:
        near: the same entries on the CPU.
    """

    near: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near: torch.Tensor, device: torch.device) -> Self:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=device,
        )
        made.near = near
        return made

    def tolist(self) -> Any:
        return self.near.tolist()  # torch's own takes no subclass

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        return call(op, args, kwargs or {})


class TwoDevices(TorchDispatchMode):
    """While active, tensors can be made on the far device, and copied to it."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        return call(op, args, kwargs or {})


def call(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call `op` on the CPU, and return its results on the device of its tensors.

    Raises:
        RuntimeError: the tensors are on two devices, and `op` is not a copy.
    """
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    # As on any device, numbers of the CPU are taken anywhere.
    places = {each.device for each in tensors if each.dim() or isinstance(each, Far)}
    if op in BY_ENTRY:
        devices = iter([each.device for each in args[0]])
        return [_placed(each, next(devices)) for each in op(*tree_map(_near, args), **kwargs)]
    if len(places) > 1 and op not in COPIES:
        raise RuntimeError(f"{op}: tensors on {len(places)} devices")
    place = kwargs.get("device")
    if place is None:
        place = next((each.device for each in tensors if isinstance(each, Far)), CPU)
    else:
        kwargs = kwargs | {"device": CPU, "pin_memory": False}
    near_args, near_kwargs = tree_map(_near, (args, kwargs))
    results = op(*near_args, **near_kwargs)
    if op._schema.is_mutable:
        return args[0] if isinstance(results, torch.Tensor) else results
    return tree_map(lambda each: _placed(each, torch.device(place)), results)


def _near(value: Any) -> Any:
    return value.near if isinstance(value, Far) else value


def _placed(value: Any, device: torch.device) -> Any:
    return Far(value, device) if isinstance(value, torch.Tensor) and device != CPU else value


def tensor(*data: Any, device: Any = None, **kind: Any) -> torch.Tensor:
    """Return the tensor that `torch.tensor` makes, which does not ask a mode for a copy."""
    return made_on_cpu(*data, **kind).to(device or CPU)


class Spread(Shape):
    """A model whose layers are on the two devices in turn, the first one of them far away."""

    def base(self) -> Chain:
        made = super().base()
        for name in self.names[::2]:
            made.get_submodule(name).to(f"{NAME}:0")
        return made


if __name__ == "__main__":
    made_on_cpu, torch.tensor = torch.tensor, tensor
    _setup_privateuseone_for_python_backend(rename=NAME)
    with TwoDevices():
        for dtypes in (ONE_DTYPE, TWO_DTYPES):
            folder = Path(sys.argv[1]) / str(len(set(dtypes)))
            spread = Spread(NOT_SORTED, dtypes)
            check_resuming(spread, WAYS["save_pretrained"], folder, [10, 48])
        devices = {each.device.type: None for each in spread.model().parameters()}
        sys.stdout.write(" ".join(devices))
