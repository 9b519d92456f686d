"""Refuse a model whose division over processes would train it wrongly.

DDP and FSDP2 (`fully_shard`) are supported; see docs/scaling.md.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from adalora_core import sharding
from adalora_core.floor.errors import ParallelismError
from adalora_core.nn import AdaLoraLayer
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.training.adapter import Adapter

_WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel"}
_UNSUPPORTED = (
    "FSDP1 and DeepSpeed ZeRO-3 hide rows, columns and gradients from the allocator, and tensor "
    "parallelism divides layers without their adapters; none of them is supported: use FSDP2 "
    "(accelerate: fsdp_version: 2; TrainingArguments: fsdp_config={'version': 2}; a loop of your "
    "own: torch.distributed.fsdp.fully_shard, of each layer with its adapter), or DDP"
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
        # Releases of transformers before 5.17 keep parts as plain tensors beside this mark.
        is_divided = _is_wrapper(module) or getattr(module, "_hf_tp_plan", None) is not None
        own = module.parameters(recurse=False)
        if is_divided or any(sharding.is_sharded(each) or hasattr(each, "ds_id") for each in own):
            raise ParallelismError(
                f"get_peft_model: {path or 'the model'} is wrapped or divided over processes "
                "already, and a new adapter would not be. Add the adapter first, then wrap the "
                f"model in DDP, or call fully_shard. {_UNSUPPORTED}"
            )


def is_in_zero(parameter: Any) -> bool:
    """Return whether an optimizer of DeepSpeed's ZeRO-1 or ZeRO-2 trains a parameter."""
    return hasattr(parameter, "_hp_mapping")


def refuse_unsupported(adapters: Iterable[Adapter], purpose: str, checked: set[str]) -> None:
    """Refuse to train `adapters` if their division over processes trains wrongly.

    The calls in `checked` were checked before: each is checked once, since this takes time.
    """
    if purpose in checked:
        return
    for adapter in adapters:
        for path, layer in adapter.layers.items():
            _refuse_division(adapter, layer, f"{purpose}: {path!r}")
    checked.add(purpose)


def _refuse_division(adapter: Adapter, layer: AdaLoraLayer, place: str) -> None:
    name, gathers = adapter.name, getattr(adapter.run.driver, "gathers_gradients", False)
    factors: list[Any] = [getattr(layer, each)._parameters.get(name) for each in FACTORS]  # noqa: SLF001 - as Adapter.factors
    if any(map(is_in_zero, factors)) and not gathers:
        raise ParallelismError(f"{place}: {_HOW_ZERO}")
    # FSDP1 has flat parameters, none, or views in a forward pass, and ZeRO-3 empty ones.
    are_own = all(isinstance(each, nn.Parameter) and not hasattr(each, "ds_id") for each in factors)
    if not are_own or any(each.dim() != sharding.FACTOR_DIMENSIONS for each in factors):
        raise ParallelismError(f"{place}: a factor is not a matrix. {_UNSUPPORTED}")
    divided = [each for each in factors if sharding.is_sharded(each)]
    if not all(any(each.is_shard() for each in factor.placements) for factor in divided):
        raise ParallelismError(
            f"{place}: every process holds all of its factors as DTensors, and nothing sums their "
            "gradients. Leave the factors whole and shard them with fully_shard, or train with DDP"
        )
    # Those of the root, which a forward pass has gathered, are compared after it.
    base: list[Any] = [*filter(sharding.is_sharded, layer.base_layer.parameters())]
    meshes = {each.device_mesh if sharding.is_sharded(each) else None for each in factors}
    if len(meshes) > 1 or {each.device_mesh for each in base} - meshes:
        raise ParallelismError(
            f"{place}: the layer and its adapter are divided over different processes, or only one "
            "of them is. Shard the layer with its adapter, and name no factor in ignored_params. "
            f"{_UNSUPPORTED}"
        )


def refuse_merging(layers: Iterable[tuple[str, nn.Module]]) -> None:
    """Refuse to merge into weights of which each process holds a part."""
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
