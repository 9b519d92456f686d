"""Find which part of a factor this process holds, and compute the penalty over all parts."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh

from adalora_core import ops
from adalora_core.floor.errors import ParallelismError

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


# --- the orthogonality penalty, with one exchange -------------------------------------------------


def orthogonality_penalty(lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]) -> Tensor:
    """Return `adalora_core.ops.orthogonality_penalty` of factors that may be divided.

    The processes make one exchange. For a factor whose triplets are divided they exchange the
    parts, for any other the r x r sums of products over their entries. The gradient of a part needs
    no further exchange, since every process has the whole residual. The gradient is not averaged
    over processes, so the loss must weight the penalty alike on all of them. A factor is whole
    inside the forward pass of its FSDP module.

    Raises:
        ParallelismError: factors are divided in another way than `fully_shard` divides.
    """
    if not are_sharded(lora_As):
        return ops.orthogonality_penalty(lora_As, lora_Bs)
    divided: list[tuple[Tensor, Tensor]] = []
    whole: list[tuple[Tensor, Tensor]] = []
    for index, (A, B) in enumerate(zip(lora_As, lora_Bs, strict=True)):
        if is_sharded(A) != is_sharded(B):
            raise ParallelismError(
                f"orthogonality_penalty: only one factor of matrix {index} is sharded; apply "
                "fully_shard to the adapted layer or to a module around it, not inside it"
            )
        (divided if is_sharded(A) else whole).append((A, B))
    penalty: Tensor = _of_divided(divided) * (len(divided) / len(lora_As))
    if whole:
        # FSDP has gathered these factors, perhaps in low precision.
        gathered = ops.orthogonality_penalty(
            [A.to(penalty.dtype) for A, _ in whole], [B.to(penalty.dtype) for _, B in whole]
        )
        penalty = penalty + gathered.to(penalty.device) * (len(whole) / len(lora_As))
    return penalty


def add_orthogonality_gradient_(
    lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor], weight: float = 1.0
) -> Tensor:
    """Call `adalora_core.ops.add_orthogonality_gradient_` for factors that may be divided.

    The processes make one exchange; each adds the gradient of its parts. Call it on all of them,
    after the backward pass has reduced the gradients, with the same weight.

    Raises:
        ParallelismError: factors are divided in another way than `fully_shard` divides, or some
            are whole; nothing was changed.
    """
    if not are_sharded(lora_As):
        return ops.add_orthogonality_gradient_(lora_As, lora_Bs, weight)
    factors = (*lora_As, *lora_Bs)
    whole = sum(not is_sharded(each) for each in factors)
    if whole:
        raise ParallelismError(
            f"add_orthogonality_gradient_: {whole} of {len(factors)} factors are whole and the "
            "rest are sharded; call it after the backward pass, which frees whole factors"
        )
    with torch.enable_grad():
        penalty = orthogonality_penalty(lora_As, lora_Bs)
        learning = [each for each in factors if each.requires_grad]
        found = torch.autograd.grad(penalty * weight, learning)
    with torch.no_grad():
        for factor, gradient in zip(learning, found, strict=True):
            factor.grad = gradient if factor.grad is None else factor.grad.add_(gradient)
    return penalty.detach()


@dataclass(frozen=True, slots=True)
class _Part:
    """One factor `[triplets, n]` and the part that this process holds."""

    piece: Piece
    triplet_axis: int
    shape: tuple[int, int]

    @property
    def sends_rows(self) -> bool:
        """Whether the triplets are divided; else each process sends sums over its entries."""
        return self.piece.axis == self.triplet_axis

    @property
    def size(self) -> int:
        rank, columns = self.shape
        return rank * (columns if self.sends_rows else rank)


def _of_divided(factors: Sequence[tuple[Any, Any]]) -> Tensor:
    parts: list[_Part] = []
    for index, pair in enumerate(factors):
        for axis, (factor, letter) in enumerate(zip(pair, "AB", strict=True)):
            piece = piece_of(factor, f"orthogonality_penalty: lora_{letter} of matrix {index}")
            parts.append(_Part(piece, axis, (factor.shape[axis], factor.shape[1 - axis])))
    if any(part.piece.mesh != parts[0].piece.mesh for part in parts):
        raise ParallelismError(
            "orthogonality_penalty: the factors are on several device meshes; shard the whole "
            "model over one"
        )
    locals_ = [factor.to_local() for pair in factors for factor in pair]
    result: Tensor = _DividedPenalty.apply(parts, *locals_)  # type: ignore[no-untyped-call] # torch types it loosely
    return result


class _DividedPenalty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: list[_Part], *local_parts: Tensor) -> Tensor:
        is_double = local_parts[0].dtype == torch.float64
        dtype = torch.float64 if is_double else torch.float32
        mesh = parts[0].piece.mesh
        device = device_of(mesh)
        locals_ = [
            (each.T if part.triplet_axis else each).to(device, dtype)
            for part, each in zip(parts, local_parts, strict=True)
        ]
        # A sum instead of a gather of equal parts: most processes may hold no row of a factor.
        sums = torch.zeros(sum(part.size for part in parts), dtype=dtype, device=device)
        sums_of_parts = sums.split([part.size for part in parts])
        for part, local, own in zip(parts, locals_, sums_of_parts, strict=True):
            rows = local.flatten() if part.sends_rows else (local @ local.T).flatten()
            start = part.piece.start * part.shape[1] if part.sends_rows else 0
            own[start : start + rows.numel()] = rows
        distributed.all_reduce(sums, group=mesh.get_group(parts[0].piece.mesh_dim))
        norms, directions = [], []
        for part, local, given, part_sums in zip(
            parts, locals_, local_parts, sums_of_parts, strict=True
        ):
            rank = part.shape[0]
            whole = part_sums.view(part.shape) if part.sends_rows else None
            gram = part_sums.view(rank, rank) if whole is None else whole @ whole.T
            residual = gram - torch.eye(rank, dtype=dtype, device=device)
            norm = torch.linalg.matrix_norm(residual)
            norms.append(norm)
            if whole is None:
                direction = residual @ local
            else:
                end = part.piece.start + part.piece.length
                direction = residual[part.piece.start : end] @ whole
            # Where the norm is zero, the residual and hence the gradient are zero.
            direction = direction / norm.clamp_min(torch.finfo(dtype).tiny)
            # Cloned, since `contiguous` keeps the strides of a matrix of one row: with strides that
            # differ between processes, one of them gathers the gradient, and waits for ever.
            direction = (
                direction.T.clone(memory_format=torch.contiguous_format)
                if part.triplet_axis
                else direction
            )
            directions.append(direction.to(given.device, given.dtype))
        ctx.save_for_backward(*directions)
        return torch.stack(norms).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        directions = ctx.saved_tensors
        factor = grad * (2 / len(directions))
        return (None, *(each * factor.to(each.device, each.dtype) for each in directions))
