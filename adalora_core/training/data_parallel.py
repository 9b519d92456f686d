"""Refuse to train what `DistributedDataParallel` does not synchronise."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from torch.nn.parallel import DistributedDataParallel

from adalora_core.errors import ParallelismError
from adalora_core.sharding import is_sharded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from adalora_core.training.adapter import Adapter

_synchronised: weakref.WeakKeyDictionary[DistributedDataParallel, frozenset[int]] = (
    weakref.WeakKeyDictionary()
)
"""The ids of the parameters that each wrapper synchronises, which it holds."""


def refuse_unsynchronised(model: nn.Module, adapters: Sequence[Adapter]) -> None:
    """Refuse a training forward inside DDP after which the processes would differ.

    DDP looks at what is trainable when it is made. It ignores what is added, activated or unfrozen
    later. The factors are looked at in every forward, other parameters in the first one.

    Args:
        model: the adapted model.
        adapters: the trained adapters.

    Raises:
        ParallelismError: DDP does not synchronise a trained parameter, or is inside `join()`.
    """
    wrapper = DistributedDataParallel._active_ddp_module  # noqa: SLF001 - as torch.compile does
    if wrapper is None:
        return
    if wrapper._join_config.enable:  # noqa: SLF001 - DDP has no public name for it
        raise ParallelismError(
            "forward: the model is trained inside join() of DistributedDataParallel: a process "
            "that has no batch left stops allocating, and its averages and kept set would differ "
            "from those of the others. Give every process equally many batches "
            "(DistributedSampler with drop_last=True, accelerate's even_batches=True), and train "
            "without join()"
        )
    if wrapper not in _synchronised:
        _synchronised[wrapper] = _synchronised_by(wrapper)
        learning: list[Tensor] = [each for each in model.parameters() if each.requires_grad]
    else:
        allocators = [each.allocator for each in adapters if each.allocator is not None]
        factors = [factor for each in allocators for factor in each.parameters()]
        learning = [each for each in factors if each.requires_grad]
    known = _synchronised[wrapper]
    if not all(id(each) in known for each in learning):
        _refuse(model, wrapper, known)


def _synchronised_by(wrapper: DistributedDataParallel) -> frozenset[int]:
    buckets = wrapper.reducer._get_zeros_like_grad_buckets()  # noqa: SLF001 - as DDP's join() does
    inside = {id(each) for bucket in buckets for each in bucket.parameters()}
    delayed = getattr(wrapper, "_delay_all_reduce_params", ())
    return frozenset(inside.union(map(id, delayed)))


def _refuse(model: nn.Module, wrapper: DistributedDataParallel, known: frozenset[int]) -> None:
    """Raise an error if parameters of `model` are missing in `known`.

    Parameters that the user told DDP to ignore are none of ours, nor those that it has turned into
    DTensors for the forward pass, nor models outside of the wrapper.
    """
    inside = {id(each) for each in wrapper.module.parameters()}
    missing = [
        name
        for name, each in model.named_parameters()
        if each.requires_grad
        and id(each) in inside - known
        and not is_sharded(each)
        and not getattr(each, "_ddp_ignored", False)
    ]
    if missing:
        raise ParallelismError(
            f"forward: DistributedDataParallel does not synchronise {len(missing)} trained "
            f"parameters, the first one {missing[0]}: every process would train its own. They "
            "were added, activated or unfrozen after the model was wrapped. Activate and unfreeze "
            "what is to be trained, then wrap the model; or wrap it again "
            "(model = wrapped.module; del wrapped)"
        )
