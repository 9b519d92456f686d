"""Training in many processes: checkpoints for any number of processes, and checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.tensor import Shard

from adalora_core.floor.errors import CheckpointError, ParallelismError
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.sharding import divided_like, is_distributed, local_part, reshard
from adalora_core.training.adapter import Adapter
from adalora_core.training.agreement import comparable_state, compare
from adalora_core.training.host import host_of, unwrapped
from adalora_core.training.training_state import contents

_VERSION = 2
_OTHERS = "others"


def trained_adapters(model: object, purpose: str) -> list[Adapter]:
    """Return the adapters of `model`, wrapped or not, that have an allocator."""
    adapters = host_of(model, purpose).trained_adapters()
    return [adapter for adapter in adapters if adapter.allocator is not None]


def allocate_within(model: object, group: distributed.ProcessGroup | None) -> None:
    """Name the processes that train `model` together, before training; the default is all.

    Stages of a pipeline on different processes are different models: each keeps a budget of its
    own, and the processes that train the same stage have to agree.

    Args:
        model: the adapted model, wrapped or not.
        group: a process group that holds this process; None means all processes.
    """
    host_of(model, "allocate_within").training_run.agreement.group = group


def check_agreement(model: object, group: distributed.ProcessGroup | None = None) -> None:
    """Compare step, kept set and, where every process holds them whole, factors and averages.

    Training makes the same check, with gradients, at calls 1, 2, 4, 8 and so on, and at the first
    and the last allocation. Calls in between find a process earlier whose gradients began to
    differ, because of another data order, seed or version.

    Args:
        model: the adapted model, wrapped or not.
        group: the processes to compare; None means those of `allocate_within`, else all.

    Raises:
        RankDisagreementError: some ranks differ; raised on every process, with ranks and values.
    """
    adapters = trained_adapters(model, "check_agreement")
    if is_distributed():
        group = group or host_of(model, "check_agreement").training_run.agreement.group
        compare(comparable_state(adapters), adapters, group, "check_agreement")


def factor_placement(model: object, processes: int) -> Callable[[nn.Parameter], Shard | None]:
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
    adapters = host_of(model, "factor_placement").trained_adapters()
    factors = (factor for adapter in adapters for factor in adapter.factors()[0])
    wide = {id(each) for each in factors if each.shape[1] % processes == 0}
    return lambda parameter: Shard(1) if id(parameter) in wide else None


class AdapterState(Stateful):
    """The trained adapters of a model with their allocators, as a `Stateful`.

    Every process saves the parts that it holds, so nothing is gathered. A run saved by two
    processes continues with one or four, sharded or not. The state includes dropped triplets and
    both averages, so a resumed run equals the uninterrupted one. The caller restores optimizer
    (`torch.distributed.checkpoint.state_dict.get_optimizer_state_dict`), random state and data
    order.

    Args:
        model: the adapted model, wrapped or not.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, get_peft_model
        >>> config = AdaLoraConfig(total_step=10, target_modules=["0"])
        >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
        >>> state = AdapterState(model).state_dict()
        >>> sorted(state["default"])
        ['factors', 'progress', 'smoothed', 'uncertainty']
    """

    def __init__(self, model: object) -> None:
        self.model = model

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all tensors, and the progress as JSON text.

        Raises:
            ParallelismError: an FSDP module around the adapted model has left factors gathered.
        """
        reshard(unwrapped(self.model))
        adapters = trained_adapters(self.model, "AdapterState")
        state: dict[str, Any] = {each.name: _state_of(each) for each in adapters}
        if others := self._other_tensors():
            state[_OTHERS] = {name: tensor.clone() for name, tensor in others.items()}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state, after checking all of it.

        Raises:
            CheckpointError: the state is of another run or of a compacted model; nothing was
                changed.
        """
        adapters = trained_adapters(self.model, "AdapterState")
        names = [adapter.name for adapter in adapters]
        if (found := sorted(state_dict.keys() - {_OTHERS})) != sorted(names):
            raise CheckpointError(
                f"AdapterState: expected a state of the adapters {names}, got one of {found}; make "
                "a model of adalora_core.peft, whose adapters have names. Nothing was changed"
            )
        for adapter in adapters:
            values = json.loads(state_dict[adapter.name]["progress"])
            contents.refuse_other_criterion(values, adapter.name, adapter.config)
            _check(adapter, values)
        for adapter in adapters:
            _restore(adapter, state_dict[adapter.name])
        with torch.no_grad():
            for name, tensor in self._other_tensors().items():
                tensor.copy_(state_dict[_OTHERS][name])

    def _other_tensors(self) -> dict[str, torch.Tensor]:
        """Return other trained tensors: modules trained in full, with their buffers, and biases."""
        tuner = host_of(self.model, "AdapterState")
        found = {
            name: parameter.detach()
            for name, parameter in tuner.model.named_parameters()
            if parameter.requires_grad and name.rpartition(".")[0].rpartition(".")[2] not in FACTORS
        }
        for path, module in tuner.model.named_modules():
            # The wrappers of this package and of PEFT name their copies alike.
            copies = getattr(module, "modules_to_save", None)
            if isinstance(copies, nn.ModuleDict):
                for name, buffer in copies.named_buffers():
                    found[f"{path}.modules_to_save.{name}"] = buffer
        return found


def _state_of(adapter: Adapter) -> dict[str, Any]:
    allocator = contents.allocator_of(adapter)
    parameters = allocator.parameters()
    statistics = allocator.statistics
    names = contents.factor_names(adapter.layers)
    had_averages = bool(statistics.smoothed)
    if had_averages:
        _refuse_gathered(names, parameters, statistics.smoothed)
    # A reader needs the name of every tensor in advance, so averages are saved at every step.
    statistics.prepare([local_part(each) for each in parameters])
    copies = [each.detach().clone() for each in parameters]
    state: dict[str, Any] = {"factors": dict(zip(names, copies, strict=True))}
    for kind in contents.AVERAGES:
        averages: Sequence[torch.Tensor] = getattr(statistics, kind)
        state[kind] = {
            name: divided_like(parameter, average.clone())
            for name, parameter, average in zip(names, parameters, averages, strict=True)
        }
    if not had_averages:
        statistics.release()
    progress = contents.progress(adapter) | {"version": _VERSION}
    state["progress"] = json.dumps(progress, sort_keys=True)
    return state


def _refuse_gathered(
    names: Sequence[str], parameters: Sequence[Any], averages: Sequence[torch.Tensor]
) -> None:
    """Refuse parameters that are whole where this process has the averages of a part.

    The FSDP module that has gathered them encloses the adapted model, so `reshard` cannot find it.
    """
    factors = zip(names, parameters, averages, strict=True)
    gathered = [n for n, each, average in factors if local_part(each).shape != average.shape]
    if gathered:
        raise ParallelismError(
            f"AdapterState: {len(gathered)} of {len(names)} factors are gathered, the first one "
            f"is {gathered[0]}, as after a forward pass without a backward pass; call reshard() "
            "of the outermost FSDP module before saving or loading. Nothing was changed"
        )


def _check(adapter: Adapter, values: dict[str, Any]) -> None:
    expected = contents.progress(adapter) | {"version": _VERSION}
    for key, what in (
        ("version", "the version of the state"),
        ("run", "the configuration or the adapted modules"),
        ("positions", "the triplets (a model that was compacted has fewer)"),
    ):
        if values.get(key) != expected[key]:
            raise CheckpointError(
                f"AdapterState: model and state do not agree on {what} of adapter "
                f"{adapter.name!r}; build the model with the same configuration, and load before "
                "compacting. Nothing was changed"
            )
    try:
        contents.check_fields(values, expected)
        contents.check_progress(values, adapter.spec, adapter.layers)
    except ValueError as error:
        raise CheckpointError(f"AdapterState: {error}. Nothing was changed") from error


def _restore(adapter: Adapter, state: dict[str, Any]) -> None:
    allocator = contents.allocator_of(adapter)
    parameters = allocator.parameters()
    names = contents.factor_names(adapter.layers)
    values = json.loads(state["progress"])
    with torch.no_grad():
        for name, parameter in zip(names, parameters, strict=True):
            parameter.copy_(state["factors"][name])
    contents.restore_progress(allocator, values)
    if allocator.target_reached or not allocator.criterion.keeps_averages:
        allocator.statistics.release()
    else:
        averages = ([local_part(state[kind][name]) for name in names] for kind in contents.AVERAGES)
        allocator.statistics.restore(*averages)
    adapter.sync_pattern()
