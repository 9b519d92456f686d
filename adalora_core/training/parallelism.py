"""Refuse a model whose division over processes would train it wrongly.

DDP and FSDP2 (`fully_shard`) are supported; see docs/scaling.md.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh

from adalora_core import sharding
from adalora_core.floor.errors import ParallelismError
from adalora_core.nn import AdaLoraLayer
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.training.adapter import Adapter

_FSDP1 = "FullyShardedDataParallel"
_WRAPPERS = {"DistributedDataParallel", _FSDP1}
_HOW_FSDP1 = (
    "FSDP1 (FullyShardedDataParallel) flattens parameters and so loses rows and columns: use "
    "FSDP2 (accelerate: fsdp_version: 2; TrainingArguments: fsdp_config={'version': 2}; a loop of "
    "your own: torch.distributed.fsdp.fully_shard), or DDP"
)
_HOW_TENSOR_PARALLEL = (
    "Tensor parallelism is not supported: divide the adapted model with fully_shard, or use DDP"
)
_HOW_ZERO3 = (
    "DeepSpeed ZeRO-3 hides parameters and gradients from the allocator: use FSDP2, "
    "torch.distributed.fsdp.fully_shard, or DDP"
)

_HOW_ZERO = (
    "DeepSpeed's ZeRO divides its gradient over processes, which hides it from "
    "update_and_allocate: make the model with adalora_core.peft, call "
    "allocate_on_step(engine, model) after deepspeed.initialize, and update_and_allocate no more"
)


def refuse_divided_base(model: nn.Module) -> None:
    """Refuse to add an adapter to a model that is divided or wrapped already.

    The wrapper would not synchronise the gradients of the new factors.
    """
    for path, module in model.named_modules():
        if _is_wrapper(module):
            raise ParallelismError(
                f"get_peft_model: {path or 'the model'} is wrapped in {type(module).__name__}, "
                "which would not synchronise the gradients of new adapters; add the adapter first "
                "and wrap the result"
            )
        # Releases of transformers before 5.17 keep parts as plain tensors beside this mark.
        if getattr(module, "_hf_tp_plan", None) is not None:
            raise ParallelismError(f"get_peft_model: {path!r} is divided. {_HOW_TENSOR_PARALLEL}")
    uses_fsdp2 = any(map(sharding.is_fsdp2, model.modules()))
    how = "Add the adapter first, then call fully_shard" if uses_fsdp2 else _HOW_TENSOR_PARALLEL
    for name, parameter in model.named_parameters():
        if sharding.is_sharded(parameter):
            raise ParallelismError(
                f"get_peft_model: {name} is divided over processes already, new adapters would not "
                f"be. {how}"
            )
        if hasattr(parameter, "ds_id"):
            raise ParallelismError(f"get_peft_model: {name} is partitioned. {_HOW_ZERO3}")


def is_in_zero(parameter: Any) -> bool:
    """Return whether an optimizer of DeepSpeed's ZeRO-1 or ZeRO-2 trains a parameter."""
    return hasattr(parameter, "_hp_mapping")


def refuse_fsdp1(model: object, purpose: str) -> None:
    """Refuse a model that is wrapped in FSDP1."""
    if _is_wrapper(model) and type(model).__name__ == _FSDP1:
        raise ParallelismError(f"{purpose}: {_HOW_FSDP1}")


def refuse_unsupported(adapters: Iterable[Adapter], purpose: str, checked: set[str]) -> None:
    """Refuse to train `adapters` if their division over processes trains wrongly.

    The calls in `checked` were checked before: each is checked once, since this takes time.
    """
    if purpose in checked:
        return
    around = _Around()
    for adapter in adapters:
        _refuse_division(adapter, purpose, around)
        if purpose == "update_and_allocate":
            _warn_if_fsdp_is_ignored(adapter)
    checked.add(purpose)


class _Around:
    """What wraps the modules of this process; a model has no reference to it.

    `flattened` are the modules inside FSDP1. `gathered` has the mesh of each parameter of
    `fully_shard`, which itself is whole during a forward pass.
    """

    def __init__(self) -> None:
        self.flattened: set[nn.Module] = set()
        self.gathered: dict[tuple[nn.Module, str], DeviceMesh] = {}
        for each in gc.get_objects():
            if _is_wrapper(each) and type(each).__name__ == _FSDP1:
                self.flattened |= set(each.modules())
            elif sharding.is_fsdp2(each):
                self.gathered |= _gathered_by(each)

    def mesh_of(self, module: nn.Module, name: str) -> DeviceMesh | None:
        parameter: Any = module._parameters[name]  # noqa: SLF001 - as Adapter.factors
        if sharding.is_sharded(parameter):
            return parameter.device_mesh  # type: ignore[no-any-return]
        return self.gathered.get((module, name))


def _gathered_by(module: Any) -> dict[tuple[nn.Module, str], DeviceMesh]:
    """Return what one FSDP2 module divides; nothing if this release of torch hides it."""
    state = module._get_fsdp_state()  # noqa: SLF001
    # Before torch 2.12 it has one group, or None, in place of a list.
    one = getattr(state, "_fsdp_param_group", None)
    return {
        (each._module_info.module, each._module_info.param_name): each.sharded_param.device_mesh  # noqa: SLF001
        for group in getattr(state, "_fsdp_param_groups", [one] if one else [])
        for each in group.fsdp_params
    }


def _refuse_division(adapter: Adapter, purpose: str, around: _Around) -> None:
    gathers = getattr(adapter.run.driver, "gathers_gradients", False)
    for path, layer in adapter.layers.items():
        if layer in around.flattened:
            raise ParallelismError(f"{purpose}: {_HOW_FSDP1}")
        for factor in FACTORS:
            parameter = getattr(layer, factor)._parameters.get(adapter.name)  # noqa: SLF001 - as Adapter.factors
            if hasattr(parameter, "ds_id"):
                raise ParallelismError(f"{purpose}: {path}.{factor} is partitioned. {_HOW_ZERO3}")
            if is_in_zero(parameter) and not gathers:
                raise ParallelismError(f"{purpose}: {path}.{factor}: {_HOW_ZERO}")
            if parameter is None or parameter.dim() != sharding.FACTOR_DIMENSIONS:
                raise ParallelismError(f"{purpose}: {path}.{factor} is not a matrix. {_HOW_FSDP1}")
        _refuse_split_layer(adapter.name, path, layer, purpose, around)


def _refuse_split_layer(
    name: str, path: str, layer: AdaLoraLayer, purpose: str, around: _Around
) -> None:
    meshes = {around.mesh_of(getattr(layer, factor), name) for factor in FACTORS}
    base_meshes = {
        around.mesh_of(module, each)
        for module in layer.base_layer.modules()
        for each, _ in module.named_parameters(recurse=False)
    }
    factors: list[Any] = [getattr(layer, each)._parameters[name] for each in FACTORS]  # noqa: SLF001 - as Adapter.factors
    divided = [each for each in factors if sharding.is_sharded(each)]
    if not all(any(each.is_shard() for each in factor.placements) for factor in divided):
        raise ParallelismError(
            f"{purpose}: every process holds all of the factors of {path!r} as DTensors, and "
            "nothing sums their gradients. Leave the factors whole and shard them with "
            f"fully_shard, or train with DDP. {_HOW_TENSOR_PARALLEL}"
        )
    if len(meshes) > 1 or base_meshes - meshes - {None}:
        raise ParallelismError(
            f"{purpose}: the layer {path!r} and its adapter are sharded over different processes, "
            "or only one of them is sharded. With fully_shard, shard the layer with its adapter, "
            f"and name no factor in ignored_params. {_HOW_TENSOR_PARALLEL}"
        )


def _warn_if_fsdp_is_ignored(adapter: Adapter) -> None:
    """Warn if accelerate was asked for FSDP, but every process holds the whole adapter."""
    is_asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if is_asked and not distributed.get_rank() and not sharding.are_sharded(adapter.factors()[0]):
        warnings.warn(
            "accelerate was asked for FSDP, but every process holds the whole model: accelerate "
            "ignores FSDP on CPUs, and divides only what `accelerator.prepare` gets. Train on GPUs "
            "and prepare model and optimizer in one call, or ask for DDP",
            stacklevel=2,
        )


def refuse_merging(layers: Iterable[tuple[str, nn.Module]]) -> None:
    """Refuse to merge into weights of which each process holds a part."""
    if not sharding.is_distributed():
        return
    for path, layer in layers:
        if sharding.are_sharded(layer.parameters()):
            raise ParallelismError(
                f"merge: the weight of {path} is divided over processes, by fully_shard or by "
                "tensor parallelism, and each process would need a part of its own of B diag(E) A. "
                "Call save_pretrained on every process, load the adapter into a whole model, and "
                "merge it there"
            )


def refuse_compacting(model: nn.Module, adapters: Sequence[Adapter]) -> None:
    """Refuse to cut parameters that are laid out for communication."""
    for adapter in adapters:
        for path, layer in adapter.layers.items():
            if sharding.is_sharded(layer.lora_E[adapter.name]):
                raise ParallelismError(
                    f"compact: the factors of {path} are divided over processes. "
                    "Call compact on a whole model: end the run, save it (save_pretrained, or "
                    "AdapterState, which any number of processes reads), load it before "
                    "fully_shard, compact on every process, and shard it then"
                )
    if not sharding.is_distributed():
        return
    # A model has no reference to its wrapper; this call happens once in a run.
    for wrapper in gc.get_objects():
        if _is_wrapper(wrapper) and any(module is model for module in wrapper.modules()):
            raise ParallelismError(
                f"compact: the model is wrapped in {type(wrapper).__name__}, whose buffers have "
                "the sizes of the present parameters. Take the model out (model = wrapped.module; "
                "del wrapped), call compact on every process, and wrap it again"
            )


def _is_wrapper(candidate: object) -> bool:
    # By the type alone: isinstance may run code of an arbitrary object.
    kind = type(candidate)
    return kind.__name__ in _WRAPPERS and issubclass(kind, nn.Module)
