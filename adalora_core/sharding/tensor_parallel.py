"""Find how tensor parallelism divides linear layers, and sum over its processes.

Served are the styles of transformers and of `torch.distributed.tensor.parallel` that give a linear
layer plain tensors as input and output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import distributed

from adalora_core.errors import ParallelismError
from adalora_core.sharding.layout import is_sharded

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor.placement_types import Placement

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
class LinearDivision:
    """How the processes of `mesh` divide the input and the output of a linear layer.

    A is divided like the input and B like the output. What is not divided is the same on every
    process.

    Attributes:
        mesh: the processes, one dimension.
        divides_input: whether a process gets a part of the last dimension of the input.
        divides_output: whether a process returns a part of the last dimension of the output.
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
    """Return the processes that tensor parallelism divides `model` over; None if it does not.

    Raises:
        ParallelismError: there are several such sets, or another method divides the model too.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
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
    """Return how tensor parallelism over `mesh` divides the linear layer `path` of `model`.

    Raises:
        ParallelismError: an adapter on the layer would train wrongly.
    """
    from torch.distributed.tensor import Replicate, Shard

    layer: Any = model.get_submodule(path)
    style = _style_of(model, path) if getattr(layer, "_is_hooked", False) else None
    if style is not None and style not in _STYLES:
        raise _unsupported(path, f"has the style {style!r}", f"one of {', '.join(_STYLES)}")
    weight: Any = getattr(layer, "weight", None)
    if not is_sharded(weight):
        if _is_parallelised(layer):
            raise _unsupported(path, f"has a {type(weight).__name__} as weight", "a DTensor")
        return LinearDivision(mesh, divides_input=False, divides_output=False)
    sizes = [getattr(layer, "out_features", None), getattr(layer, "in_features", None)]
    if [*weight.shape] != sizes or not weight.dtype.is_floating_point:
        found = f"has a weight of {weight.dtype} and shape {[*weight.shape]}"
        raise _unsupported(path, found, f"a floating-point weight of shape {sizes}")
    (placement,) = weight.placements
    # Exact types: a subclass of Shard orders its parts in another way.
    if style is not None and type(placement) in {Shard, Replicate}:
        divides_input, divides_output = _STYLES[style]
        return LinearDivision(mesh, divides_input, divides_output)
    if type(placement) is not Shard:
        raise _unsupported(path, f"has the placement {placement}", "Shard(0) or Shard(1)")
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


def _unsupported(path: str, found: str, wanted: str) -> ParallelismError:
    return ParallelismError(
        f"get_peft_model: under tensor parallelism the layer {path!r} {found}; adapters are "
        f"supported for {wanted}. Leave the layer out of target_modules, or name it in "
        "exclude_modules"
    )
