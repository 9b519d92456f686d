"""Choose where `fully_shard` cuts the factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.training.host import host_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn
    from torch.distributed.tensor import Shard


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
