"""Refuse a model whose division over processes would train it wrongly.

DDP, FSDP2 (`fully_shard`) and tensor parallelism are supported; see docs/scaling.md.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from torch import distributed, nn

from adalora_core.errors import ParallelismError
from adalora_core.nn import TensorParallelLinear
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.sharding import is_sharded, tensor_parallel_mesh
from adalora_core.sharding.layout import FACTOR_DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch.distributed.device_mesh import DeviceMesh

    from adalora_core.contract import AdaLoraConfig
    from adalora_core.nn import AdaLoraLayer
    from adalora_core.training.adapter import Adapter

_WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel"}
_HOW_FSDP1 = (
    "FSDP1 (FullyShardedDataParallel) flattens parameters and so loses rows and columns: use "
    "FSDP2, torch.distributed.fsdp.fully_shard, or DDP"
)
_HOW_ZERO3 = (
    "DeepSpeed ZeRO-3 hides parameters and gradients from the allocator: use FSDP2, "
    "torch.distributed.fsdp.fully_shard, or DDP"
)


def is_distributed() -> bool:
    """Return whether this process belongs to a process group."""
    return distributed.is_available() and distributed.is_initialized()


def refuse_divided_base(model: nn.Module) -> None:
    """Refuse to add an adapter to a model that is divided or wrapped already.

    The wrapper would not synchronise the gradients of the new factors. Tensor parallelism divides
    the model first, and the new factors like it.

    Raises:
        ParallelismError: the model is divided or wrapped; nothing was changed.
    """
    for path, module in model.named_modules():
        if _is_wrapper(module):
            raise ParallelismError(
                f"get_peft_model: {path or 'the model'} is wrapped in {type(module).__name__}, "
                "which would not synchronise the gradients of new adapters; add the adapter first "
                "and wrap the result"
            )
    mesh = tensor_parallel_mesh(model)
    for name, parameter in model.named_parameters():
        if is_sharded(parameter) and _mesh_of(parameter) != mesh:
            raise ParallelismError(
                f"get_peft_model: {name} is divided over processes already, new adapters would not "
                "be; add the adapter first, then call fully_shard"
            )
        if hasattr(parameter, "ds_id"):
            raise ParallelismError(f"get_peft_model: {name} is partitioned. {_HOW_ZERO3}")


def refuse_beside_tensor_parallelism(
    model: nn.Module, config: AdaLoraConfig, saved: Sequence[str]
) -> None:
    """Refuse settings that a model under tensor parallelism would train wrongly.

    Args:
        model: the base model.
        config: the configuration of the adapter.
        saved: paths of the modules to train whole.

    Raises:
        ParallelismError: there is such a setting; nothing was changed.
    """
    if tensor_parallel_mesh(model) is None:
        return
    if config.lora_dropout > 0:
        what = f"lora_dropout {config.lora_dropout} differs between processes; set it to 0"
    elif config.bias != "none":
        what = f"bias {config.bias!r} trains more than adapters; set it to 'none'"
    elif saved:
        what = (
            f"modules_to_save (or task_type) trains the module {saved[0]!r} whole; leave it out, "
            "and set task_type to null if that names it"
        )
    else:
        return
    raise ParallelismError(f"get_peft_model: not supported under tensor parallelism: {what}")


class DivisionCheck:
    """Check the division of a model once for each kind of call, since the check takes time."""

    def __init__(self) -> None:
        self._checked: set[str] = set()

    def refuse_unsupported(self, adapters: Iterable[Adapter], purpose: str) -> None:
        """Refuse to train `adapters` if their division trains wrongly.

        Args:
            adapters: the trained adapters.
            purpose: the call to refuse, for the message.

        Raises:
            ParallelismError: the division is not supported; nothing was changed.
        """
        if purpose in self._checked or not is_distributed():
            return
        for adapter in adapters:
            refuse_unsupported_division(adapter, purpose)
        self._checked.add(purpose)


def refuse_unsupported_division(adapter: Adapter, purpose: str) -> None:
    """Refuse to train `adapter` if its factors or base layers are divided in an unsupported way.

    Args:
        adapter: the adapter.
        purpose: the call to refuse, for the message.

    Raises:
        ParallelismError: the division is not supported; nothing was changed.
    """
    for path, layer in adapter.layers.items():
        for factor in FACTORS:
            parameter = getattr(layer, factor)._parameters.get(adapter.name)  # noqa: SLF001 - as Adapter.factors
            if hasattr(parameter, "ds_id"):
                raise ParallelismError(f"{purpose}: {path}.{factor} is partitioned. {_HOW_ZERO3}")
            if parameter is None or parameter.dim() != FACTOR_DIMENSIONS:
                raise ParallelismError(f"{purpose}: {path}.{factor} is not a matrix. {_HOW_FSDP1}")
        _refuse_split_layer(adapter.name, path, layer, purpose)


def _refuse_split_layer(name: str, path: str, layer: AdaLoraLayer, purpose: str) -> None:
    meshes = {
        _mesh_of(getattr(layer, factor)._parameters[name])  # noqa: SLF001 - as Adapter.factors
        for factor in FACTORS
    }
    base_meshes = {_mesh_of(each) for each in layer.base_layer.parameters()}
    if isinstance(layer, TensorParallelLinear) and meshes != {layer.division.mesh}:
        raise ParallelismError(
            f"{purpose}: the factors of {path!r}, a layer under tensor parallelism, were divided "
            "anew; do not call fully_shard on a model that tensor parallelism divides"
        )
    if len(meshes) > 1 or base_meshes - meshes - {None}:
        raise ParallelismError(
            f"{purpose}: the layer {path!r} and its adapter are sharded over different processes, "
            "or only one of them is sharded. With fully_shard, shard the layer with its adapter. "
            "Call parallelize_module on the base model before get_peft_model, not after it; PEFT's "
            "own layers are not supported under tensor parallelism"
        )


def _mesh_of(parameter: Any) -> DeviceMesh | None:
    return parameter.device_mesh if is_sharded(parameter) else None


def refuse_compacting(model: nn.Module, adapters: Sequence[Adapter]) -> None:
    """Refuse to cut parameters that are laid out for communication.

    Raises:
        ParallelismError: a wrapper holds `model`, or its factors are divided over processes;
            nothing was changed.
    """
    for adapter in adapters:
        for path, layer in adapter.layers.items():
            if is_sharded(layer.lora_E[adapter.name]):
                raise ParallelismError(
                    f"compact: the factors of {path} are divided over processes by fully_shard. "
                    "Call compact on a whole model: end the run, save it (save_pretrained, or "
                    "AdapterState, which any number of processes reads), load it before "
                    "fully_shard, compact on every process, and shard it then"
                )
    if not is_distributed():
        return
    # A model has no reference to its wrapper; this call happens once in a run.
    for wrapper in gc.get_objects():
        if _is_wrapper(wrapper) and any(module is model for module in wrapper.modules()):
            raise ParallelismError(
                f"compact: the model is wrapped in {type(wrapper).__name__}, whose buffers have "
                "the sizes of the present parameters. Take the model out (model = wrapped.module; "
                "del wrapped), call compact on every process, and wrap it again"
            )


def reshard(model: nn.Module) -> None:
    """Free the parameters that a forward pass under FSDP2 has gathered and kept.

    A forward pass without a backward pass leaves the root's parameters whole, without gradients.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None or not isinstance(model, fsdp.FSDPModule):
        return
    for module in model.modules():
        if isinstance(module, fsdp.FSDPModule):
            module.reshard()


def _is_wrapper(candidate: object) -> bool:
    # By the type alone: isinstance may run code of an arbitrary object.
    kind = type(candidate)
    return kind.__name__ in _WRAPPERS and issubclass(kind, nn.Module)
