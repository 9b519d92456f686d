"""Check that all processes hold the same allocator state, and name those that must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.integrations.distributed.checkpoint import trained_adapters
from adalora_core.training.agreement import comparable_state, compare
from adalora_core.training.host import host_of
from adalora_core.training.parallelism import is_distributed

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


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
