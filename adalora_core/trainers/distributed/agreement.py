"""Name the processes of a run, check that they agree, and choose where factors are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.sharding import is_distributed
from adalora_core.trainers.distributed.checkpoint import trained_adapters
from adalora_core.training.agreement import comparable_state, compare
from adalora_core.training.host import host_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn
    from torch.distributed import ProcessGroup
    from torch.distributed.tensor import Shard


def allocate_within(model: Any, group: ProcessGroup | None) -> None:
    """Name the processes that train `model` together, before training; the default is all.

    Stages of a pipeline on different processes are different models: each keeps a budget of its
    own, and the processes that train the same stage have to agree.

    Args:
        model: the adapted model, wrapped or not.
        group: a process group that holds this process; None means all processes.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, get_peft_model
        >>> config = AdaLoraConfig(total_step=10, target_modules=["0"])
        >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
        >>> allocate_within(model, group=None)
    """
    host_of(model, "allocate_within").training_run.agreement.group = group


def check_agreement(model: Any, group: ProcessGroup | None = None) -> None:
    """Compare step, kept set and, where every process holds them whole, factors and averages.

    Training makes the same check, with gradients, at calls 1, 2, 4, 8 and so on, and at the first
    and the last allocation. Calls in between find a process earlier whose gradients began to
    differ, because of another data order, seed or version.

    Args:
        model: the adapted model, wrapped or not.
        group: the processes to compare; None means those of `allocate_within`, else all.

    Raises:
        RankDisagreementError: some ranks differ; raised on every process, with ranks and values.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, get_peft_model
        >>> config = AdaLoraConfig(total_step=10, target_modules=["0"])
        >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
        >>> check_agreement(model)  # a single process agrees with itself
    """
    adapters = trained_adapters(model, "check_agreement")
    if is_distributed():
        group = group or host_of(model, "check_agreement").training_run.agreement.group
        compare(comparable_state(adapters), adapters, group, "check_agreement")


def factor_placement(model: Any, processes: int) -> Callable[[nn.Parameter], Shard | None]:
    """Return a `shard_placement_fn` that cuts every A along its columns.

    `fully_shard` cuts along rows. A has only `init_r` rows, so with more processes most hold none,
    and gathering A and exchanging the penalty carry padding. Cut along columns, the parts are
    even, and the penalty exchanges r x r numbers per factor.

    Args:
        model: the adapted model, before `fully_shard`.
        processes: number of processes that the factors are divided over; with HSDP the size of the
            sharded dimension. An A whose columns do not divide evenly is cut along rows.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, get_peft_model
        >>> config = AdaLoraConfig(total_step=10, target_modules=["0"])
        >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 6)), config)
        >>> place = factor_placement(model, processes=2)
        >>> [place(parameter) for parameter in model.base_model.model[0].lora_A.parameters()]
        [Shard(dim=1)]
        >>> place(model.base_model.model[0].base_layer.weight) is None
        True
    """
    from torch.distributed.tensor import Shard

    adapters = host_of(model, "factor_placement").trained_adapters()
    wide = {
        id(factor)
        for adapter in adapters
        for factor in adapter.factors()[0]
        if factor.shape[1] % processes == 0
    }
    return lambda parameter: Shard(1) if id(parameter) in wide else None
