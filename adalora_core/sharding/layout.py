"""Find which part of a factor this process holds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

from adalora_core.floor.errors import ParallelismError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

FACTOR_DIMENSIONS = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """One contiguous part of a sharded factor, cut as `torch.chunk` cuts.

    The factor is divided over `mesh_dim` of the mesh, and repeated over others (HSDP). On the cut
    `axis` the part of this process begins at `start`; its `length` is 0 where there are more
    processes than rows.
    """

    mesh: DeviceMesh
    mesh_dim: int
    axis: int
    start: int
    length: int

    @property
    def is_first_replica(self) -> bool:
        """Whether this process is the first of those that hold the same part."""
        coordinates = self.mesh.get_coordinate()
        if coordinates is None:
            return False
        return not any(
            coordinate for dim, coordinate in enumerate(coordinates) if dim != self.mesh_dim
        )


def is_distributed() -> bool:
    """Return whether this process belongs to a process group."""
    return distributed.is_available() and distributed.is_initialized()


def is_sharded(tensor: object) -> bool:
    """Return whether `tensor` is a DTensor, without importing its module."""
    return _is_divided_type(type(tensor))


def are_sharded(tensors: Iterable[object]) -> bool:
    """Return whether any of `tensors` is a DTensor, at no cost in a single process."""
    if not is_distributed():
        return False
    # By the types, of which there are one or two: every step asks this of all factors.
    return any(map(_is_divided_type, {type(tensor) for tensor in tensors}))


def _is_divided_type(kind: type) -> bool:
    loaded = sys.modules.get("torch.distributed.tensor")
    return loaded is not None and issubclass(kind, loaded.DTensor)


def reshard(model: nn.Module) -> None:
    """Free the parameters that a forward pass under FSDP2 has gathered and kept.

    A forward pass without a backward pass leaves the root's parameters whole, without gradients.
    """
    for module in model.modules() if is_fsdp2(model) else ():
        if is_fsdp2(module):
            module.reshard()  # type: ignore[operator]  # of FSDPModule


def is_fsdp2(candidate: object) -> bool:
    """Return whether `fully_shard` was called on a module, by its type alone."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and issubclass(type(candidate), fsdp.FSDPModule)


def piece_of(tensor: Any, name: str) -> Piece:
    """Return which part of `tensor`, cut as `fully_shard` cuts, this process holds."""
    from torch.distributed.tensor import Replicate, Shard

    mesh, placements = tensor.device_mesh, tensor.placements
    # Exact type: a subclass of Shard orders its parts in another way.
    cuts = [dim for dim, placement in enumerate(placements) if type(placement) is Shard]
    rest = [placement for dim, placement in enumerate(placements) if dim not in cuts]
    if len(cuts) != 1 or not all(isinstance(each, Replicate) for each in rest):
        raise _unsupported(name, f"placements {tuple(placements)}")
    axis = placements[cuts[0]].dim % FACTOR_DIMENSIONS
    size, parts = tensor.shape[axis], mesh.size(cuts[0])
    chunk = -(-size // parts)
    start = min(mesh.get_local_rank(cuts[0]) * chunk, size)
    length = min(chunk, size - start)
    if tensor.to_local().shape[axis] != length:
        raise _unsupported(name, f"a local part of shape {list(tensor.to_local().shape)}")
    return Piece(mesh, cuts[0], axis, start, length)


def whole(tensor: Any) -> torch.Tensor:
    """Return `tensor`, gathered if it is divided; every process has to make this call."""
    if not is_sharded(tensor):
        return tensor  # type: ignore[no-any-return]  # a tensor by contract
    return tensor.detach().full_tensor()  # type: ignore[no-any-return]  # same


def meet(tensor: Any) -> None:
    """Wait until every process that holds a part of `tensor` has come here."""
    for group in tensor.device_mesh.get_all_groups():
        distributed.barrier(group)


def local_part(tensor: Any) -> torch.Tensor:
    """Return the part of `tensor` that this process holds, detached."""
    if not is_sharded(tensor):
        return tensor.detach()  # type: ignore[no-any-return]  # a tensor by contract
    with torch.no_grad():
        return tensor.to_local()  # type: ignore[no-any-return]  # same


def fill(parameter: Any, values: torch.Tensor, name: str) -> None:
    """Give `parameter`, divided or whole, the values of a whole tensor, without an exchange.

    They are the same on every process, on any device and of any floating-point dtype.
    """
    with torch.no_grad():
        local_part(parameter).copy_(part_of(parameter, values, name))


def part_of(parameter: Any, values: torch.Tensor, name: str) -> torch.Tensor:
    """Return the part of the whole `values` at the place of the local part of `parameter`."""
    if not is_sharded(parameter):
        return values
    piece = piece_of(parameter, name)
    return values.narrow(piece.axis, piece.start, piece.length)


def divided_like(parameter: Any, local: torch.Tensor) -> Any:
    """Return `local`, a tensor for the local part of `parameter`, divided like `parameter`."""
    if not is_sharded(parameter):
        return local
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        local,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def _unsupported(name: str, what: str) -> ParallelismError:
    return ParallelismError(
        f"{name}: expected a factor that fully_shard has divided over one dimension of a device "
        f"mesh, got {what}. Leave the factors whole and shard them with fully_shard, or train with "
        "DDP"
    )


def device_of(mesh: DeviceMesh) -> torch.device:
    """Return the device of collectives over `mesh`; offloaded factors are on another."""
    if mesh.device_type == "cpu":
        return torch.device("cpu")
    return torch.device(
        mesh.device_type, torch.get_device_module(mesh.device_type).current_device()
    )
