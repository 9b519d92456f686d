"""Compare the processes of a run, and refuse what DistributedDataParallel does not synchronise."""

from __future__ import annotations

import hashlib
import json
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from adalora_core.floor.adapter_spec import criterion_name
from adalora_core.floor.errors import ParallelismError, RankDisagreementError
from adalora_core.sharding import are_sharded, device_of, is_sharded
from adalora_core.training.adapter import Adapter

PATIENCE_S = 600
"""How long a process waits for the others; the usual limit of a collective on GPUs."""

_PAUSE_S = 0.001

_SHOWN_RANKS = 8
_NAME_THE_GROUP = "adalora_core.trainers.distributed.allocate_within(model, group)"

_synchronised: weakref.WeakKeyDictionary[DistributedDataParallel, frozenset[int]] = (
    weakref.WeakKeyDictionary()
)
"""The ids of the parameters that each wrapper synchronises, which it holds."""


class AgreementCheck:
    """Compare the processes ever more rarely, at calls that do not depend on what one of them does.

    Equal gradients give equal kept sets without an exchange, so few comparisons are enough: at the
    calls 1, 2, 4, 8 and so on, and at the first and the last allocation. All are placed by counting
    calls: a process whose adapters, state or steps differ makes them at the same time as the
    others, and its all-reduce meets no other one. A function of the user may score differently on
    each process, so its kept sets are compared at every call.

    Attributes:
        group: the processes that train the model together; None means all.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        self.group = group
        self._calls = 0
        self._allocations: set[int] = set()

    def __deepcopy__(self, _: dict[int, Any]) -> AgreementCheck:
        """Let a copy of the model begin anew, in the same group."""
        return AgreementCheck(self.group)

    def __reduce__(self) -> tuple[type[AgreementCheck], tuple[()]]:
        """Let a model that is read from a file begin anew: a process group cannot be written."""
        return AgreementCheck, ()

    def before_step(self, adapters: Sequence[Adapter], step: int) -> None:
        """Compare the processes before the optimizer step `step` is counted, if it is time."""
        if distributed.get_world_size(self.group) <= 1:
            return
        for each in adapters:
            each.follow_config()  # may make another allocator
        self._calls += 1
        if self._calls == 1:
            self._allocations = {1 + each for each in _calls_before(adapters, step)}
        if self._calls.bit_count() == 1 or self._calls in self._allocations:
            state = comparable_state(adapters, with_gradients=True)
            by = "".join(each.run.automatic.driver_name() for each in adapters)
            mine = {"step of the call": f"{step}{by}", **state}
            compare(mine, adapters, self.group, "update_and_allocate")
        elif any(callable(each.spec.importance_criterion) for each in adapters):
            kept = {f"kept set of adapter {each.name!r}": _kept_set(each) for each in adapters}
            compare(kept, adapters, self.group, "update_and_allocate")


def _calls_before(adapters: Sequence[Adapter], step: int) -> list[int]:
    """Return the numbers of calls from `step` to the first and to the last allocation."""
    schedules = [each.allocator.schedule for each in adapters if each.allocator is not None]
    # Without a final phase the last step of the run takes its place.
    last = max((min(each.final_start, each.total_step - 1) for each in schedules), default=0)
    due = (each for each in range(step, last + 1) if any(s.at(each).allocates for s in schedules))
    return [next(due, last) - step, last - step]


def comparable_state(
    adapters: Sequence[Adapter], *, with_gradients: bool = False
) -> dict[str, str]:
    """Return what all processes must hold alike, as text to compare and to print."""
    found = {"adapters": ", ".join(repr(each.name) for each in adapters)}
    for adapter in adapters:
        if (allocator := adapter.allocator) is None:
            continue
        parameters = allocator.parameters()
        paths = [matrix.path for matrix in allocator.matrices]
        shapes = [list(each.shape) for each in parameters]
        history = [(each.step, each.budget) for each in allocator.history]
        state = {
            "modules": f"{len(paths)} from {paths[0]!r} with A {shapes[0]} and B {shapes[2]}, "
            f"{_of_values([paths, shapes])}",
            **{name: str(value) for name, value in adapter.spec.numbers().items()},
            "importance_criterion": criterion_name(adapter.spec.importance_criterion),
            "step": str(allocator.last_step),
            "allocations": f"{len(history)}, {_of_values([allocator.target_reached, history])}",
            "kept set": _kept_set(adapter),
        }
        if not are_sharded(parameters):
            statistics = allocator.statistics
            state["averages"] = _of_tensors([*statistics.smoothed, *statistics.uncertainty])
            state["factors"] = _of_tensors(parameters)
            if with_gradients:
                state["gradients"] = _of_tensors([each.grad for each in parameters])
        found |= {f"{what} of adapter {adapter.name!r}": each for what, each in state.items()}
    return found


def _kept_set(adapter: Adapter) -> str:
    allocator = adapter.allocator
    mask = [] if allocator is None or allocator.mask is None else allocator.mask.tolist()
    return f"{sum(mask) if mask else 'all'} triplets, {_of_values(mask)}"


def compare(
    mine: dict[str, str],
    adapters: Sequence[Adapter],
    group: distributed.ProcessGroup | None,
    purpose: str,
) -> None:
    """Compare `mine` with what the other processes of `group` hold; all of them must call it.

    One all-reduce of two numbers; the texts are exchanged if they differ.

    Raises:
        RankDisagreementError: they differ, or some do not take part; raised on every process.
    """
    digest = hashlib.sha256(json.dumps(mine).encode()).digest()
    number = int.from_bytes(digest[:7])
    factors: list[Any] = [each for adapter in adapters for each in adapter.factors()[0]]
    first: Any = factors[0] if factors else torch.empty(0, device="cpu")
    device = device_of(first.device_mesh) if is_sharded(first) else first.device
    both = torch.tensor([number, -number], device=device)
    work = distributed.all_reduce(both, distributed.ReduceOp.MAX, group=group, async_op=True)
    _wait_for_all(work, group, purpose)
    largest, minus_smallest = both.tolist()
    if largest == -minus_smallest:
        return
    found: list[dict[str, str]] = [{} for _ in range(distributed.get_world_size(group))]
    distributed.all_gather_object(found, mine, group=group)
    raise RankDisagreementError(f"{purpose}: {_difference(found)}")


def _wait_for_all(work: Any, group: distributed.ProcessGroup | None, purpose: str) -> None:
    """Wait for the collective `work`, which ends only if every process of `group` is in it."""
    latest = time.monotonic() + PATIENCE_S
    while not work.is_completed():
        if time.monotonic() > latest:
            raise RankDisagreementError(
                f"{purpose}: expected a call on all {distributed.get_world_size(group)} ranks, "
                f"which compare their adapters, got none on some within {PATIENCE_S} s. Call "
                f"{purpose} on every rank, equally often. If only some processes train this "
                f"model, name them: {_NAME_THE_GROUP}"
            )
        time.sleep(_PAUSE_S)
    work.wait()


def _difference(found: list[dict[str, str]]) -> str:
    """Return which ranks differ from most of them, in what, and what to do."""
    faults = {}
    for what in dict.fromkeys(what for each in found for what in each):
        values = [each.get(what, "none") for each in found]
        # The value of most ranks; a tie goes to the lowest rank.
        common = max(values, key=values.count)
        if differing := [rank for rank, value in enumerate(values) if value != common]:
            whose = f"rank {', '.join(map(str, differing[:_SHOWN_RANKS]))}"
            if (more := len(differing) - _SHOWN_RANKS) > 0:
                whose += f" and {more} others"
            faults[what] = f"{whose}: {what} ({values[differing[0]]}, elsewhere {common})"
    # Where the modules differ, all that depends on them does.
    modules = {what: fault for what, fault in faults.items() if what.startswith("modules of")}
    return (
        f"these of {len(found)} ranks differ from the others: "
        f"{'; '.join((modules or faults).values())}. "
        + (
            "Pipeline stages on different processes would each keep a budget of their own"
            if modules
            else "Configuration, data order, seeds, library versions and skipped steps must be the "
            "same on every rank, and gradients synchronised; a function as importance_criterion "
            "must return the same scores on every rank; resume from a checkpoint"
        )
        + ". If some processes are meant to train a model of their own, name them: "
        + _NAME_THE_GROUP
    )


def _of_values(values: Any) -> str:
    return f"checksum {hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]}"


def _of_tensors(tensors: Iterable[torch.Tensor | None]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            digest.update(b"none")
            continue
        entries = tensor.detach().cpu().contiguous().flatten()
        digest.update(entries.view(torch.uint8).numpy().tobytes())
    return f"checksum {digest.hexdigest()[:8]}"


def refuse_unsynchronised(model: nn.Module, adapters: Sequence[Adapter]) -> None:
    """Refuse a training forward inside DDP after which the processes would differ.

    DDP looks at what is trainable when it is made. It ignores what is added, activated or unfrozen
    later. The factors are looked at in every forward, other parameters in the first one.
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
        buckets = wrapper.reducer._get_zeros_like_grad_buckets()  # noqa: SLF001 - as DDP's join()
        inside = {id(each) for bucket in buckets for each in bucket.parameters()}
        delayed = getattr(wrapper, "_delay_all_reduce_params", ())
        _synchronised[wrapper] = frozenset(inside.union(map(id, delayed)))
        learning: list[Tensor] = [each for each in model.parameters() if each.requires_grad]
    else:
        allocators = [each.allocator for each in adapters if each.allocator is not None]
        factors = [factor for each in allocators for factor in each.parameters()]
        learning = [each for each in factors if each.requires_grad]
    known = _synchronised[wrapper]
    if all(id(each) in known for each in learning):
        return
    # Not what the user told DDP to ignore, what it has turned into DTensors, and what is outside.
    unknown = {id(each) for each in wrapper.module.parameters()} - known
    missing = [
        name
        for name, each in model.named_parameters()
        if each.requires_grad
        and id(each) in unknown
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
