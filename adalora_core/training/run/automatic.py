"""Allocate ranks where nobody calls `update_and_allocate`: when to begin, with which number."""

from __future__ import annotations

import logging
import weakref
from typing import Any

import torch
from torch import distributed

from adalora_core.allocation import RankAllocator
from adalora_core.allocation.statistics import ImportanceStatistics
from adalora_core.config.rules import runs
from adalora_core.floor.budget import Phase
from adalora_core.floor.errors import AdaLoraError, ParallelismError
from adalora_core.sharding import is_distributed, reshard

MISSED_STEPS = 30
"""Most steps without a call, or without a change, before it counts as a fault."""

CERTAIN = 3
"""How often an event must happen before it counts as a fault."""

_is_enabled = True


def enable(enabled: bool) -> None:
    """Set whether ranks are allocated automatically, for every model without a setting."""
    global _is_enabled  # noqa: PLW0603 - one switch of the process
    _is_enabled = enabled


def most_missed(total_step: int) -> int:
    """Return how many steps without a call are certainly no habit of the script."""
    return min(MISSED_STEPS, max(CERTAIN, total_step // 10))


def is_captured() -> bool:
    """Return whether a graph is captured, which waits for no number and runs a hook once."""
    # Without CUDA in torch the question itself raises.
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


class AutomaticAllocation:
    """Observes the steps of a run that nobody allocates, and then calls the allocator.

    The optimizer that holds all factors is the driver. Where optimizers nest, the first one that
    shows a step is. Until the decision, averages of this object alone are written, so a run is
    unchanged if somebody calls before it.

    Attributes:
        host: the tuner of the adapter.
        first_step: the number of the first automatic call; None before the decision.
        message: what was said at the decision.
    """

    def __init__(self) -> None:
        self.host: weakref.ref[Any] | None = None
        self.message = ""
        self.resumes = False
        self.begin()

    def __getstate__(self) -> dict[str, Any]:
        # A copy has a host of its own, and begins anew.
        return AutomaticAllocation().__dict__ | {"host": self.host and self.host()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if (host := state["host"]) is not None:
            self.host = weakref.ref(host)

    def begin(self) -> None:
        """Begin a run anew: the factors were written."""
        self._driver: weakref.ref[torch.optim.Optimizer] | None = None
        self._other, self._other_steps = 0, 0
        self._steps = 0
        self._offset: int | None = 0
        self._statistics: ImportanceStatistics | None = None
        self._is_calling = self._is_over = False
        self.first_step: int | None = None

    @property
    def is_active(self) -> bool:
        """Whether this object calls the allocator."""
        return self.first_step is not None and not self._is_over

    @property
    def step(self) -> int:
        """The number of the last step of the driver."""
        return (self._offset or 0) + self._steps - 1

    def is_expected(self, run: Any) -> bool:
        """Whether the allocator is called by this object, now or later in the run."""
        return self._steps > 0 and self._may_call(run)

    def driver_name(self) -> str:
        """Return the class of the driver of automatic calls, for a comparison of processes."""
        driver = self._driver and self._driver()
        return f" after {type(driver).__name__}" if self._is_calling and driver else ""

    def end_by_call(self) -> bool:
        """End at a call of somebody else; return whether its step was allocated already."""
        if self._is_calling:
            return False
        was_active, self._is_over = self.is_active, True
        self._statistics = None
        return was_active

    def _may_call(self, run: Any) -> bool:
        host = self.host and self.host()
        # PEFT's own methods have no state of a run, after `detach` for example.
        state = getattr(host, "training_run", None)
        if self._is_over or state is None or run.driver is not None:
            return False
        of_model: bool | None = state.allocates_automatically
        return _is_enabled if of_model is None else of_model

    # --- steps ------------------------------------------------------------------------------------

    def sees(
        self, optimizer: torch.optim.Optimizer, allocator: RankAllocator, held: frozenset[int]
    ) -> bool:
        """Count a step of `optimizer`, which holds the factors `held`, if it is the driver's."""
        # What shows the steps of an engine calls the allocator itself.
        is_engine = not isinstance(optimizer, torch.optim.Optimizer)
        if self._is_over or is_engine or len(held) < 3 * len(allocator.matrices):
            return False
        values = allocator.parameters()[1::3]
        found = getattr(optimizer, "found_inf", None)
        has_no_value = isinstance(found, torch.Tensor) and found.is_meta
        if is_captured() or has_no_value or bool(found):
            return False
        driver = self._driver and self._driver()
        if driver is None:
            if self._steps == 0 and allocator.last_step is None:
                self._offset = _steps_before(optimizer, values)
            elif allocator.last_step is not None:
                self._offset = allocator.last_step + 1 - self._steps
        elif driver is not optimizer:
            self._other_steps = self._other_steps + 1 if self._other == id(optimizer) else 1
            self._other = id(optimizer)
            if self._other_steps < 2:  # noqa: PLR2004 - an optimizer inside another shows one step
                return False
            self._steps += 1
        if driver is not optimizer:
            self._driver = weakref.ref(optimizer)
        self._other_steps = 0
        self._steps += 1
        return True

    def serve(self, run: Any, allocator: RankAllocator) -> None:
        """Observe a step of the driver, or allocate after it."""
        host = None if self.host is None else self.host()
        if host is None or not self._may_call(run):
            return
        try:
            self._serve(run, host, allocator)
        except ParallelismError:
            raise
        except (AdaLoraError, RuntimeError, ValueError, TypeError) as error:
            # A hook must not end a run that works without this package.
            self._is_over = True
            call = f"update_and_allocate({self.step}) of {run.adapter} was called automatically"
            run.report(runs.AllocationNotCalled, f"{call} and failed: {error}")

    def _serve(self, run: Any, host: Any, allocator: RankAllocator) -> None:
        reshard(host.model)
        if not self.is_active:
            has_gradient = any(each.grad is not None for each in allocator.parameters()[1::3])
            if not has_gradient or not self._decides(run, allocator):
                return
            self._begin_calls(run, allocator)
        self._is_calling = True
        try:
            host.update_and_allocate(self.step)
        finally:
            self._is_calling = False
        if self.step == allocator.schedule.total_step - 1 and self.is_active:
            host.finalize()

    def _decides(self, run: Any, allocator: RankAllocator) -> bool:
        """Return whether to call the allocator from this step on; observe the step if not."""
        if self.resumes:  # the saved run was allocated by this class
            return True
        step, total = self.step, allocator.schedule.total_step
        now, enough = allocator.schedule.at(step), most_missed(total)
        is_due = now.allocates or now.phase is Phase.FINAL or step >= total - 1
        # A resumed script that calls at every step calls after the first one.
        is_certain = step + 1 >= enough and self._steps >= run.fewest_steps(allocator)
        if step < total and is_due and is_certain:
            if self._offset is not None:
                return True
            run.report(
                runs.StepsOutOfOrder,
                f"the optimizer has made other numbers of steps on each E of {run.adapter}, so the "
                "step of the run is not known, and nothing is allocated automatically",
            )
            self._is_over = True
        if not allocator.target_reached:
            if self._statistics is None:  # averages that nobody else reads; a resumed run's go on
                self._statistics = ImportanceStatistics(allocator.spec)
                averages = allocator.statistics.smoothed, allocator.statistics.uncertainty
                self._statistics.restore(*([each.clone() for each in kind] for kind in averages))
            allocator.observe_into(self._statistics)
        return False

    def _begin_calls(self, run: Any, allocator: RankAllocator) -> None:
        step = self.step
        if self._statistics is not None:
            allocator.statistics, self._statistics = self._statistics, None
        schedule, before = allocator.schedule, self._offset or 0
        was_decided = before >= most_missed(schedule.total_step)
        was_due = any(schedule.at(each).allocates for each in range(before))
        if allocator.last_step is None and was_decided and was_due:
            run.report(
                runs.StepsOutOfOrder,
                f"the run of {run.adapter} goes on at step {before}, as the optimizer counts, "
                "without a training state, so its averages begin anew",
            )
        allocator.last_step = step - 1 if step else None
        run.expect_call()
        self.first_step = step
        driver = self._driver and self._driver()
        self.message = (
            f"nothing calls update_and_allocate for {run.adapter}, so adalora_core calls it after "
            f"every step of {type(driver).__name__}, from step {step} of "
            f"{allocator.schedule.total_step} on. To call it yourself: AdaLoraCallback under "
            "Trainer, which also adds the penalty once per step under accumulation; "
            "allocate_on_step(optimizer, model); or model.update_and_allocate(step). "
            "adalora_core.allocate_automatically(False) turns this off"
        )
        if not (is_distributed() and distributed.get_rank()):
            logging.getLogger("adalora_core").warning("%s", self.message)


def _steps_before(optimizer: torch.optim.Optimizer, E: list[torch.Tensor]) -> int | None:
    """Return how many steps the optimizer has made on E before this one; None if E differ."""
    counts = {
        int(state["step"]) for each in E if "step" in (state := optimizer.state.get(each, {}))
    }
    if len(counts) > 1:
        return None
    return counts.pop() - 1 if counts else 0
