"""Find which part of a factor this process holds, and how tensor parallelism divides layers.

Served are the styles of transformers and of `torch.distributed.tensor.parallel` that give a linear
layer plain tensors as input and output.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from adalora_core.floor.errors import ParallelismError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor.placement_types import Placement

FACTOR_DIMENSIONS = 2

_STYLES = {
    "colwise": (False, True),
    "rowwise": (True, False),
    "colwise_gather_output": (False, False),
    "colwise_rep": (False, False),
    "rowwise_split_input": (False, False),
    "rowwise_rep": (False, False),
}
"""The names of transformers for its styles: whether input and output are divided."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One contiguous part of a sharded factor, cut as `torch.chunk` cuts, or all of it.

    The factor is divided over `mesh_dim` of the mesh, and repeated over others (HSDP); None if
    every process holds all of it (tensor parallelism). On the `axis` that is cut, 0 if none is, the
    part of this process begins at `start`; its `length` is 0 where there are more processes than
    rows.
    """

    mesh: DeviceMesh
    mesh_dim: int | None
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
    if len(cuts) > 1 or not all(isinstance(each, Replicate) for each in rest):
        raise _unsupported(name, f"placements {tuple(placements)}")
    if not cuts:
        return Piece(mesh, None, 0, 0, tensor.shape[0])
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
        "DDP; with tensor parallelism, divide the base model before get_peft_model"
    )


def device_of(mesh: DeviceMesh) -> torch.device:
    """Return the device of collectives over `mesh`; offloaded factors are on another."""
    if mesh.device_type == "cpu":
        return torch.device("cpu")
    return torch.device(
        mesh.device_type, torch.get_device_module(mesh.device_type).current_device()
    )


@dataclass(frozen=True, slots=True)
class LinearDivision:
    """How the processes of a mesh of one dimension divide input and output of a linear layer.

    A is divided like the input and B like the output. What is not divided is the same on every
    process.
    """

    mesh: DeviceMesh
    divides_input: bool
    divides_output: bool

    def divided(self, factor: str, values: Tensor) -> Tensor:
        """Return `values` of the first process, a whole `factor`, divided over the processes."""
        from torch.distributed.tensor import Replicate, Shard, distribute_tensor

        placement: Placement = Replicate()
        if factor == "lora_A" and self.divides_input:
            placement = Shard(1)
        elif factor == "lora_B" and self.divides_output:
            placement = Shard(0)
        return distribute_tensor(values, self.mesh, [placement])

    def sum_of(self, terms: Tensor) -> Tensor:
        """Return the sum of the `terms` of all processes; its gradient is that of every term."""
        from torch.distributed.tensor import DTensor, Partial, Replicate

        term = DTensor.from_local(terms, self.mesh, [Partial()], run_check=False)
        return term.redistribute(placements=[Replicate()]).to_local()

    def with_summed_gradient(self, values: Tensor) -> Tensor:
        """Return `values`, equal on all processes, whose gradient is the sum over them."""
        from torch.distributed.tensor import DTensor, Partial, Replicate

        same = DTensor.from_local(values, self.mesh, [Replicate()], run_check=False)
        return same.to_local(grad_placements=[Partial()])


def tensor_parallel_mesh(model: nn.Module) -> DeviceMesh | None:
    """Return the processes that tensor parallelism divides `model` over; None if it does not."""
    if not is_distributed():
        return None
    meshes = {
        parameter.device_mesh: path
        for path, module in model.named_modules()
        if _is_parallelised(module)
        for parameter in module._parameters.values()  # noqa: SLF001 - those of the module alone
        if is_sharded(parameter)
    }
    if len(meshes) > 1 or any(mesh.ndim != 1 for mesh in meshes):
        divided = " and ".join(f"{path!r} over {mesh}" for mesh, path in meshes.items())
        raise ParallelismError(
            f"get_peft_model: expected tensor parallelism over one device mesh of one dimension, "
            f"got {divided}; divide the whole model over one, without FSDP2"
        )
    return next(iter(meshes), None)


def division_of(model: nn.Module, path: str, mesh: DeviceMesh) -> LinearDivision:
    """Return how tensor parallelism over `mesh` divides the linear layer `path` of `model`."""
    from torch.distributed.tensor import Replicate, Shard

    layer: Any = model.get_submodule(path)
    style = _style_of(model, path) if getattr(layer, "_is_hooked", False) else None
    if style is not None and style not in _STYLES:
        raise _unsupported_layer(path, f"has the style {style!r}", f"one of {', '.join(_STYLES)}")
    weight: Any = getattr(layer, "weight", None)
    if not is_sharded(weight):
        if _is_parallelised(layer):
            raise _unsupported_layer(path, f"has a {type(weight).__name__} as weight", "a DTensor")
        return LinearDivision(mesh, divides_input=False, divides_output=False)
    sizes = [getattr(layer, "out_features", None), getattr(layer, "in_features", None)]
    if [*weight.shape] != sizes or not weight.dtype.is_floating_point:
        found = f"has a weight of {weight.dtype} and shape {[*weight.shape]}"
        raise _unsupported_layer(path, found, f"a floating-point weight of shape {sizes}")
    (placement,) = weight.placements
    # Exact types: a subclass of Shard orders its parts in another way.
    if style is not None and type(placement) in {Shard, Replicate}:
        divides_input, divides_output = _STYLES[style]
        return LinearDivision(mesh, divides_input, divides_output)
    if type(placement) is not Shard:
        raise _unsupported_layer(path, f"has the placement {placement}", "Shard(0) or Shard(1)")
    return LinearDivision(mesh, placement.dim == 1, placement.dim == 0)


def _is_parallelised(module: nn.Module) -> bool:
    """Return whether transformers or torch has made `module` tensor parallel, by their marks."""
    return bool(
        getattr(module, "_is_hooked", False) or getattr(module, "_distribute_module_applied", False)
    )


def _style_of(model: nn.Module, path: str) -> str:
    """Return the name of transformers for the style of the module `path`."""
    parts = path.split(".")
    for start in range(len(parts)):
        owner = model.get_submodule(".".join(parts[:start]))
        plan = getattr(owner, "tp_plan", None) or {}
        generic = ".".join("*" if part.isdigit() else part for part in parts[start:])
        if style := plan.get(generic, plan.get(".".join(parts[start:]))):
            return str(style)
    return "unknown"


def _unsupported_layer(path: str, found: str, wanted: str) -> ParallelismError:
    return ParallelismError(
        f"get_peft_model: under tensor parallelism the layer {path!r} {found}; adapters are "
        f"supported for {wanted}. Leave the layer out of target_modules, or name it in "
        "exclude_modules"
    )
