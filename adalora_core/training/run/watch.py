"""Watch the run of one adapter: forwards, steps of optimizers, calls of the allocator, its end."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, NamedTuple

import torch

from adalora_core.allocation import AllocationReport, RankAllocator
from adalora_core.config.rules import runs
from adalora_core.config.rules.base import Rule
from adalora_core.floor.budget import Phase
from adalora_core.nn import AdaLoraLayer
from adalora_core.sharding import local_part
from adalora_core.training.run import automatic
from adalora_core.training.run.optimizers import held_at_step, was_skipped, watch_steps
from adalora_core.training.run.reporting import report

_Gradient = tuple[torch.Tensor, torch.Tensor, int]


class DeferredInt:
    """A number that may still be on its way from a device."""

    def __init__(self, number: int | torch.Tensor) -> None:
        self._arrived: torch.Event | None = None
        self._number = number
        if isinstance(number, torch.Tensor) and not number.is_cpu:
            # Not every kind of device has pinned memory, streams and events.
            with contextlib.suppress(RuntimeError, ValueError):
                copy = torch.empty((), dtype=number.dtype, pin_memory=True)
                copy.copy_(number, non_blocking=True)
                stream = torch.accelerator.current_stream(number.device)
                self._arrived, self._number = stream.record_event(), copy

    def is_known(self) -> bool:
        """Return whether `int(self)` need not wait."""
        return self._arrived is None or self._arrived.query()

    def __int__(self) -> int:
        if self._arrived is not None and not self._arrived.query():
            self._arrived.synchronize()
        return int(self._number)


class Step(NamedTuple):
    """A step of an optimizer, which holds the factors `held`, by their index.

    It `counts` if there are some, and it has certainly not been skipped because of an overflow.
    """

    allocator: RankAllocator
    optimizer: torch.optim.Optimizer
    held: frozenset[int]
    counts: bool


class Call(NamedTuple):
    """A call of the allocator, which has `done` it; `last` is the step of the call before.

    `since` and `forwards` count steps of the optimizer and forwards since then. `stepped` is
    whether there are steps, None if only a device knows. `gradients` says what has happened to them
    since the step, or is "". `penalties` is how often a loss had the penalty: 0, 1 or 2, and
    `additions` how often its gradient was added to those of the step. `entries`
    counts those of gradients that are not finite, `nonzero` counts gradients of E, and `changed` is
    0 if E has not changed; None where nothing was looked at.
    """

    allocator: RankAllocator
    done: AllocationReport
    last: int | None
    number: int
    since: int
    forwards: int
    stepped: bool | None
    has_gradient: bool
    gradients: str
    penalties: int
    additions: int
    entries: DeferredInt
    nonzero: DeferredInt | None
    changed: DeferredInt | None

    @property
    def is_known(self) -> bool:
        """Whether no number is on its way."""
        numbers = (self.entries, self.nonzero, self.changed)
        return all(each is None or each.is_known() for each in numbers)


class End(NamedTuple):
    """An adapter that is "saved", "exported" or "merged", or whose run is reported: ""."""

    allocator: RankAllocator
    what: str
    is_checkpoint: bool
    kept: int
    target: int
    is_called: bool


class Watcher:
    """Watches a run for the finding of one rule, which its methods describe, or return "".

    A subclass defines those of the four moments that it needs. It does not hold the run, which a
    deleted model would keep alive.
    """

    rule: ClassVar[type[Rule]]

    def forward(self, run: RunWatch, layers: Mapping[str, AdaLoraLayer]) -> None:
        """Look at a forward in training mode, before it begins."""

    def step(self, run: RunWatch, step: Step) -> str:  # noqa: ARG002
        """Look at a step of an optimizer, whatever it holds."""
        return ""

    def allocation(self, run: RunWatch, call: Call) -> str:  # noqa: ARG002
        """Look at a call of the allocator, once its numbers are known."""
        return ""

    def end(self, run: RunWatch, end: End) -> str:  # noqa: ARG002
        """Look at what the run was."""
        return ""


class RunWatch:
    """What happened to one adapter since it was created or loaded, and the watchers of its run.

    Attributes:
        adapter: the adapter, as findings name it.
        findings: what was reported so far, by code.
        forwards: forwards in training mode while the adapter was active; none of compiled models.
        optimizer_steps: steps of optimizers that hold factors of the adapter.
        calls: calls of the allocator.
        extra_calls: calls without a step since the call before, although there is a gradient.
        nonfinite_steps: calls at which some gradient was not finite.
        lacks_state: whether the adapter was loaded to be trained, without a training state.
        finished_at: steps of the run that the loaded adapter comes from, if it may be finished.
        is_copy: whether the model is a copy, by `copy.deepcopy` or a pickle.
        driver: the hook or callback that calls the allocator.
        saves_are_checkpoints: whether saved files are marked as checkpoints.
        automatic: calls the allocator where nobody does.
    """

    def __init__(self, name: str, watchers: Sequence[type[Watcher]]) -> None:
        self.adapter = f"the adapter {name!r}"
        self.findings: dict[str, str] = {}
        self.forwards = self.optimizer_steps = 0
        self.calls = self.extra_calls = self.nonfinite_steps = 0
        self.lacks_state = False
        self.finished_at: int | None = None
        self.is_copy = self._is_idle = False
        self.driver: Any = None
        self.saves_are_checkpoints = False
        self.automatic = automatic.AutomaticAllocation()
        self._name, self._kinds = name, watchers
        self._watchers = [each() for each in watchers]
        self._allocator: RankAllocator | None = None
        self._since: Counter[int] = Counter()
        self._is_uncertain = False
        self._gradient: _Gradient | None = None
        self._forwards = 0
        self._E: torch.Tensor | None = None
        self._start: torch.Tensor | None = None
        self._waiting: deque[Call] = deque()

    def __getstate__(self) -> dict[str, Any]:
        # Events and hooks cannot be copied, and a copy of a model is another run.
        return RunWatch(self._name, self._kinds).__dict__ | {
            "lacks_state": self.lacks_state,
            "finished_at": self.finished_at,
            "is_copy": True,
            "automatic": self.automatic,
            "_is_idle": True,
            "_allocator": self._allocator,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._allocator is not None:
            watch_steps(self)

    def _singular_values(self) -> torch.Tensor | None:
        has_some = self._allocator is not None and self._allocator.matrices
        return singular_values(self._allocator) if has_some else None  # type: ignore[arg-type] # it is there

    def begin(self, allocator: RankAllocator) -> None:
        """Watch the optimizers of the parameters of `allocator`."""
        self._allocator = allocator
        if allocator.matrices:
            watch_steps(self)

    def report(self, rule: type[Rule], seen: str) -> None:
        """Warn of `seen` once per run."""
        report(self.findings, rule, seen)

    def report_missing_state(self, seen: str) -> None:
        """Warn that an unfinished run goes on without what belongs to it."""
        lacks = "there is no training state beside the adapter that was loaded"
        self.report(runs.ResumedWithoutState, f"{seen}, and {lacks}, so the allocation starts anew")

    def begin_anew(self) -> bool:
        """See that factors were written; return whether the allocation has to begin anew too.

        That of a script or of a hook goes on.
        """
        self._start = None
        if self.driver is not None or (self.calls and not self.automatic.is_active):
            return False
        was_active = self.automatic.is_active
        self.automatic.begin()
        if was_active:
            self.calls = self.optimizer_steps = 0
            self._since.clear()
        return was_active

    def expect_call(self) -> None:
        """Count a call for each step so far but the last one."""
        self.calls = max(self.optimizer_steps - 1, 0)
        self._since = Counter(dict.fromkeys(self._since, 1))

    def has_learned_unseen(self, allocator: RankAllocator) -> bool:
        """Whether E has changed since the first forward or step, and no step of it was seen."""
        if self._start is None or self.optimizer_steps or self.calls:
            return False
        now = singular_values(allocator)
        return now.shape == self._start.shape and not now.equal(self._start.to(now))

    def fewest_steps(self, allocator: RankAllocator) -> int:
        """Return after how many steps without a call it is certain that nobody calls.

        A copy in the middle of a run may learn in an inner loop, which needs no calls.
        """
        is_in_the_middle = self.is_copy and allocator.last_step is not None
        return automatic.MISSED_STEPS if is_in_the_middle else automatic.CERTAIN

    @property
    def has_stepped(self) -> bool:
        """Whether an optimizer has made a step since the last call of the allocator."""
        return bool(self._since) or self._is_uncertain

    @property
    def steps_since(self) -> int:
        """Steps since the last call; of several optimizers, those of the one that makes most."""
        return max(self._since.values(), default=0)

    # --- the four moments -------------------------------------------------------------------------

    def see_forward(self, layers: Mapping[str, AdaLoraLayer]) -> None:
        """See a forward in training mode through `layers`, before it begins."""
        self.forwards += 1
        if self._start is None:
            self._start = self._singular_values()
        for each in self._watchers:
            each.forward(self, layers)

    def see_step(self, optimizer: torch.optim.Optimizer) -> None:
        """See a step of `optimizer`, whatever it holds."""
        allocator = self._allocator
        if allocator is None or (skipped := was_skipped(optimizer)):
            return
        if self._is_idle and all(each.grad is None for each in allocator.parameters()):
            if self._start is None and not automatic.is_captured():
                self._start = self._singular_values()
            return  # many copies are never trained, and cost little
        self._is_idle = False
        held = held_at_step(optimizer, allocator)
        is_driven = self.automatic.sees(optimizer, allocator, held)
        if allocator.is_frozen:
            return
        if held and skipped is None:
            self._is_uncertain = True
        elif held:
            before = self.steps_since
            self._since[id(optimizer)] += 1
            self.optimizer_steps += self.steps_since - before
            # An optimizer inside the backward pass clears its own before the next one steps.
            self._gradient = first_gradient(allocator) or self._gradient
        step = Step(allocator, optimizer, held, bool(held) and skipped is False)
        for each in self._watchers:
            if seen := each.step(self, step):
                self.report(each.rule, seen)
        if is_driven:
            self.automatic.serve(self, allocator)

    def see_allocation(
        self, done: AllocationReport, last: int | None, penalties: int, additions: int = 0
    ) -> None:
        """See a call of the allocator, which has `done` it, and whose step before was `last`."""
        allocator = self._allocator
        if allocator is None:
            return
        self.calls += 1
        stepped = None if self._is_uncertain else bool(self._since)
        found, seen, gradients = first_gradient(allocator), self._gradient, ""
        if seen is not None and (seen[0].grad is not seen[1] or seen[1]._version != seen[2]):  # noqa: SLF001
            gradients = "were cleared" if seen[0].grad is None else "changed"
        looks = done.allocated and done.phase is not Phase.FINAL and stepped and found
        nonzero = DeferredInt(nonzero_gradients(allocator)) if looks else None
        counts = self.calls, self.steps_since, self.forwards - self._forwards
        state = gradients, penalties, additions
        numbers = DeferredInt(done.skipped), nonzero, self._change_of(allocator)
        call = Call(allocator, done, last, *counts, stepped, found is not None, *state, *numbers)
        self._waiting.append(call)
        self._since.clear()
        self._is_uncertain, self._gradient, self._forwards = False, None, self.forwards
        self._show_waiting(wait=False)

    def see_end(self, end: End) -> None:
        """See what the run was; waits for a GPU."""
        self._show_waiting(wait=True)
        for each in self._watchers:
            if seen := each.end(self, end):
                self.report(each.rule, seen)

    def _change_of(self, allocator: RankAllocator) -> DeferredInt | None:
        if (self.calls - 1) % calls_between_looks(allocator):
            return None
        before, now = self._E, singular_values(allocator)
        self._E = now
        if before is None or before.shape != now.shape or not now.numel():
            return None
        # Triplets that this call has dropped are 0 now.
        return DeferredInt(((before != now) & (now != 0)).any())

    def _show_waiting(self, *, wait: bool) -> None:
        while self._waiting and (wait or self._waiting[0].is_known):
            call = self._waiting.popleft()
            for each in self._watchers:
                if seen := each.allocation(self, call):
                    self.report(each.rule, seen)


def calls_between_looks(allocator: RankAllocator) -> int:
    """Return after how many calls E is compared with what it was."""
    return max(1, min(allocator.schedule.total_step // 100, 10))


@torch.no_grad()
def singular_values(allocator: RankAllocator) -> torch.Tensor:
    """Return E of the matrices on the first device, one after the other."""
    values = [local_part(each) for each in allocator.parameters()[1::3]]
    return torch.cat([each for each in values if each.device == values[0].device])


def first_gradient(allocator: RankAllocator) -> _Gradient | None:
    """Return the first E that has a gradient, the gradient and its version."""
    for matrix in allocator.matrices:
        values = matrix.lora_E[matrix.adapter_name]
        if values is not None and values.grad is not None:
            return values, values.grad, values.grad._version  # noqa: SLF001
    return None


def nonzero_gradients(allocator: RankAllocator) -> int | torch.Tensor:
    """Return how many gradients of E are not zero; on a CPU one stands for all."""
    values = (matrix.lora_E[matrix.adapter_name] for matrix in allocator.matrices)
    gradients = (each.grad for each in values if each is not None and each.grad is not None)
    first = next(gradients)
    if first.is_cpu:
        return int(any(bool(local_part(each).any()) for each in chain((first,), gradients)))
    norms = torch._foreach_norm([local_part(each) for each in (first, *gradients)])  # noqa: SLF001
    return torch.stack([each.to(norms[0].device) for each in norms]).count_nonzero()
