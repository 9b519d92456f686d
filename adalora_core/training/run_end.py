"""Judge an adapter where it is saved, exported or merged, and sum up its run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from adalora_core.allocation.criteria import costs
from adalora_core.config.fields.block import AUTO
from adalora_core.config.rules import runs
from adalora_core.floor.adapter_spec import PER_PARAMETER
from adalora_core.floor.rank_pattern import TENSOR_PREFIX, RankPattern
from adalora_core.sharding import are_sharded, local_part
from adalora_core.training.adapter import Adapter
from adalora_core.training.run.automatic import CERTAIN
from adalora_core.training.run.optimizers import was_held
from adalora_core.training.run.watch import End

_IN_FILES = (".lora_", ".modules_to_save.", ".token_adapter.", ".ranknum.")
"""Parts of the names of parameters that files of adapters hold, or that PEFT computes anew."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What the run of an adapter was; `str` gives it in a few lines.

    Attributes:
        adapter: name of the adapter.
        steps: steps that were made, of `total_step`.
        total_step: steps of the schedule; None while it is not known.
        allocations: how often the kept set was chosen.
        kept, target: triplets over all matrices, or parameters of their A and B (`unit`), now and
            at the end of the schedule.
        nonfinite_steps: steps since the adapter was created or loaded at which some gradient was
            not finite.
        skipped_entries: entries of gradients that were ignored since they are not finite.
        findings: codes of the findings, with what was seen.
        automatic: how the allocator is called where nobody calls it; empty where somebody does.
    """

    adapter: str
    steps: int
    total_step: int | None
    allocations: int
    kept: int
    target: int
    nonfinite_steps: int
    skipped_entries: int
    findings: dict[str, str]
    automatic: str = ""
    unit: str = "triplets"

    @property
    def is_budget_reached(self) -> bool:
        """Whether no more is kept than at the end of the schedule."""
        return self.kept <= self.target

    def __str__(self) -> str:
        reached = "reached" if self.is_budget_reached else "not reached"
        lines = [
            (
                f"adapter {self.adapter!r}: step {self.steps} of {self.total_step or 'auto'}, "
                f"{self.allocations} allocations"
            ),
            f"budget {reached}: {self.kept} {self.unit}, target {self.target}",
            f"gradients not finite: {self.nonfinite_steps} steps, {self.skipped_entries} entries",
            *([self.automatic] if self.automatic else []),
            *(f"{code}: {seen}" for code, seen in self.findings.items()),
        ]
        return "\n".join(lines if self.findings else [*lines, "no findings"])


def budget_of(adapter: Adapter) -> tuple[int, int, int]:
    """Return how many triplets are kept now, and at the end and the start; waits for a GPU."""
    allocator, spec = adapter.allocator, adapter.spec
    kept = sum(map(len, adapter.positions.values())) if allocator is None else allocator.budget
    count = len(adapter.layers)
    return kept, spec.target_r * count, spec.init_r * count


def run_report(adapter: Adapter) -> RunReport:
    """Return what the run of `adapter` was; waits for a GPU."""
    run, allocator = adapter.run, adapter.allocator
    _see_end(adapter, "")
    kept, target, _ = budget_of(adapter)
    unit = "triplets"
    if allocator is not None and adapter.spec.importance_criterion == PER_PARAMETER:
        unit, kept = "parameters", allocator.spent_parameters()
        target = adapter.spec.target_r * sum(costs(allocator.parameters()))
    last = -1 if allocator is None or allocator.last_step is None else allocator.last_step
    allocations, skipped = 0, 0
    if allocator is not None:
        allocations, skipped = len(allocator.history), allocator.statistics.skipped_entries
    numbers = last + 1, adapter.spec.total_step, allocations, kept, target
    seen = run.nonfinite_steps, skipped, dict(run.findings), run.automatic.message
    return RunReport(adapter.name, *numbers, *seen, unit)


def warn_if_unfinished(adapter: Adapter, what: str, *, is_checkpoint: bool = False) -> None:
    """Warn if the run of `adapter` is not over, or has learned nothing; `drop_again` comes after.

    `what` is "saved", "exported" or "merged".
    """
    factors = () if what == "merged" else adapter.parameters()
    if not all(bool(local_part(each).isfinite().all()) for each in factors):
        seen = f"the adapter {adapter.name!r} is {what} with parameters that are not finite"
        adapter.run.report(runs.ParametersNotFinite, seen)
    _see_end(adapter, what, is_checkpoint=is_checkpoint)
    is_whole = not are_sharded(adapter.factors()[0])  # one process may save alone, and gather none
    if is_whole and adapter.allocator is not None and adapter.allocator.target_reached:
        # A step of the optimizer after the last allocation gives dropped triplets a value again.
        warn_if_dropped_are_live(adapter, what, adapter.rank_pattern(live=True))


def _see_end(adapter: Adapter, what: str, *, is_checkpoint: bool = False) -> None:
    run, allocator = adapter.run, adapter.allocator
    if allocator is None and adapter.is_trainable and run.forwards >= CERTAIN:
        run.report(
            runs.AllocationNotCalled,
            f"total_step of {run.adapter} is still {AUTO!r} after {run.forwards} training "
            "forwards, so nothing is allocated; call model.bind_total_step(steps)",
        )
    if allocator is not None:
        kept, target, _ = budget_of(adapter)
        is_called = run.calls > 0 or allocator.last_step is not None
        is_called |= run.automatic.is_expected(run)
        run.see_end(End(allocator, what, is_checkpoint, kept, target, is_called))


def warn_if_dropped_are_live(adapter: Adapter, what: str, pattern: RankPattern | None) -> None:
    """Warn of dropped triplets in `pattern`, which have a value that no optimizer has given."""
    run, (kept, target, _) = adapter.run, budget_of(adapter)
    if are_sharded(adapter.factors()[0]) or run.has_stepped or not run.optimizer_steps:
        return
    live = sum(map(sum, (pattern or {}).values()))
    if live > kept:
        run.report(
            runs.FileLacksTrainedWeights,
            f"{live} triplets of the adapter {adapter.name!r} have values, {live - kept} of which "
            f"no step of the optimizer gave, but as a state_dict does; {kept} are {what}, target "
            f"{target}",
        )


def warn_if_file_lacks_trained(
    model: nn.Module, adapter: Adapter, names: Callable[[], Collection[str]]
) -> None:
    """Warn of what is trainable beside `adapter`, and no optimizer which steps holds or no file.

    `names` returns the names in the file.
    """
    trainable = (pair for pair in model.named_parameters() if pair[1].requires_grad)
    learning = {name.removeprefix(TENSOR_PREFIX): each for name, each in trainable}
    factors = adapter.parameters()
    known = {id(each) for each in factors}
    unheld = [n for n, each in learning.items() if id(each) not in known and not was_held(each)]
    if unheld and all(map(was_held, factors)):  # else another fault, or an engine that hides them
        adapter.run.report(
            runs.OptimizerWithoutFactors,
            f"no optimizer that made a step holds {len(unheld)} parameters that are trainable "
            f"beside the adapter {adapter.name!r}: {', '.join(unheld[:3])}",
        )
    beside = [name for name in learning if not any(part in f".{name}" for part in _IN_FILES)]
    if not beside or not adapter.run.optimizer_steps:
        return
    written = {name.removeprefix(TENSOR_PREFIX) for name in names()}
    lacking = [name for name in beside if name not in written]
    if lacking:
        adapter.run.report(
            runs.FileLacksTrainedWeights,
            f"the adapter {adapter.name!r} is saved without {len(lacking)} parameters that are "
            f"trained beside it: {', '.join(lacking[:3])}{', ...' * (len(lacking) > 3)}",  # noqa: PLR2004 - a few
        )


def warn_if_untrained_is_chosen(chosen: Sequence[Adapter], adapters: Iterable[Adapter]) -> None:
    """Warn if only adapters are saved that compute nothing, and another of `adapters` learned."""
    learned = [each for each in adapters if each.run.optimizer_steps]
    values = [layer.lora_E[each.name] for each in chosen for layer in each.layers.values()]
    is_untrained = bool(chosen) and not any(each in learned for each in chosen)
    if learned and is_untrained and not any(local_part(each).any() for each in values):
        chosen[0].run.report(
            runs.FileLacksTrainedWeights,
            f"the adapter {chosen[0].name!r}, whose E is 0, is saved without the adapter "
            f"{learned[0].name!r}, which learned for {learned[0].run.optimizer_steps} steps",
        )


def warn_if_best_is_unpruned(adapter: Adapter, checkpoint: str) -> None:
    """Warn if the checkpoint that was loaded as the best has not reached the budget."""
    pattern = adapter.rank_pattern() or adapter.config.rank_pattern
    _, target, start = budget_of(adapter)
    kept = sum(map(sum, pattern.values())) if pattern else start
    if kept > target:
        best = f"the best checkpoint, {checkpoint}, keeps {kept} triplets of the adapter"
        adapter.run.report(runs.BestCheckpointUnpruned, f"{best} {adapter.name!r}, target {target}")
        adapter.run.saves_are_checkpoints = True  # reported already


def begin_loaded_run(adapter: Adapter, *, has_state: bool) -> None:
    """Warn if an adapter is loaded to go on training, but a part of its run is missing."""
    kept, target, start = budget_of(adapter)
    adapter.run.begin_anew()
    adapter.run.lacks_state = not has_state
    adapter.run.finished_at = adapter.spec.total_step if kept <= target else None
    if not has_state and target < kept < start:
        seen = f"the adapter {adapter.name!r} comes from an unfinished run, with {kept} triplets"
        adapter.run.report_missing_state(f"{seen}, target {target}")
