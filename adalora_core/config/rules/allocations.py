"""Family ADA2xx, second part: the steps that allocate."""

from __future__ import annotations

from adalora_core.config.fields.block import Block
from adalora_core.config.findings import Severity
from adalora_core.config.rules.base import SOUND, Findings, Rule
from adalora_core.config.rules.schedule import ALLOCATION_FIELDS, is_share
from adalora_core.floor.budget import BudgetSchedule

FEWEST_ALLOCATIONS = 10
"""With fewer allocations the budget falls in a few large steps; the paper's make 63 or more."""

SHORTEST_WINDOW = 0.10
"""Share of the run that the budgeting phase should have; the paper's scripts: 0.30 to 0.45."""

SMALLEST_BETA = 1e-30
"""Below this beta1 the square of the uncertainty underflows in single precision, so that every
score is zero."""

DOUBTFUL_BETA = 1e-7
"""Below this beta1 the uncertainty is lost in rounding; whether every score is zero depends on the
gradients."""


class OneForcedCut(Rule):
    code = "ADA203"
    severity = "warning"
    summary = "no step of the budgeting phase is a multiple of deltaT: all pruning is in one step"
    why = """The budget falls only at multiples of deltaT. With none between tinit and total_step -
    tfinal, all surplus triplets are dropped at the first step of the final phase. The scores of one
    step then decide, and the budget does not fall gradually."""
    bad = SOUND | {"tinit": 701, "tfinal": 290, "deltaT": 10}
    hint = "decrease deltaT, or make the budgeting phase longer"
    inputs = ALLOCATION_FIELDS

    def check(self, block: Block) -> Findings:
        schedule = block.schedule
        if schedule and not schedule.allocation_count() and schedule.tfinal > 0:
            yield self.found(
                block.at_first("deltaT", "total_step"),
                f"no step between {schedule.tinit} and {schedule.final_start} is a multiple of "
                f"deltaT {schedule.deltaT}: all pruning happens at once at step "
                f"{schedule.final_start}",
                hint=_OF_EPOCHS if schedule.deltaT == 1 else _more_allocations(schedule),
            )


_OF_EPOCHS = "make the budgeting phase longer; if these are epochs, count optimizer steps instead"


def _more_allocations(schedule: BudgetSchedule) -> str | None:
    """Return the hint with a deltaT that gives enough allocations, if there is one."""
    most = (schedule.final_start - schedule.tinit - 1) // FEWEST_ALLOCATIONS
    wanted = f"for {FEWEST_ALLOCATIONS} allocations or more set deltaT to at most {most}"
    return wanted if most > 0 else None


class NoAllocationAtAll(Rule):
    code = "ADA206"
    severity = "warning"
    summary = "no step ever prunes: the adapter keeps init_r everywhere"
    why = """No step of the budgeting phase is a multiple of deltaT. With tfinal 0 the forced
    selection is due at step total_step, but a loop that counts from 0 ends one step earlier."""
    bad = SOUND | {"tinit": 100, "tfinal": 0, "total_step": 500, "deltaT": 500}
    hint = "increase total_step or decrease deltaT, or set tfinal to at least 1"
    inputs = ALLOCATION_FIELDS

    def check(self, block: Block) -> Findings:
        schedule = block.schedule
        if schedule and not schedule.allocation_count() and schedule.tfinal <= 0:
            yield self.found(
                block.at_first("deltaT", "total_step"),
                f"no step between {schedule.tinit} and {schedule.total_step} is a multiple of "
                f"deltaT {schedule.deltaT}, and tfinal {schedule.tfinal} leaves no forced "
                "selection: nothing is ever pruned",
                hint=_more_allocations(schedule),
            )


class FewAllocations(Rule):
    code = "ADA207"
    severity = "warning"
    summary = f"the budget falls in fewer than {FEWEST_ALLOCATIONS} allocations"
    why = """Each allocation then drops many triplets at once, decided by the scores of a few steps.
    The paper's own scripts allocate 63 to 1499 times."""
    bad = SOUND | {"deltaT": 100}
    hint = "decrease deltaT, or make the budgeting phase longer"
    inputs = ALLOCATION_FIELDS

    def check(self, block: Block) -> Findings:
        schedule = block.schedule
        if schedule and 0 < (count := schedule.allocation_count()) < FEWEST_ALLOCATIONS:
            yield self.found(
                block.at_first("deltaT", "total_step"),
                f"only {count} allocation{'s' if count > 1 else ''} in the budgeting phase of "
                f"{schedule.final_start - schedule.tinit} steps",
                hint=_more_allocations(schedule),
            )


class ShortWindow(Rule):
    code = "ADA208"
    severity = "warning"
    summary = f"the budgeting phase is shorter than {SHORTEST_WINDOW:.0%} of the run"
    why = """The ranks are decided in a small part of the training; the paper's own scripts give the
    budgeting phase 30 to 45 % of the run. Usually tfinal was read as an end step, but tfinal is a
    length."""
    bad = SOUND | {"tinit": 450, "tfinal": 500, "deltaT": 1}
    hint = "decrease tinit or tfinal"
    inputs = ALLOCATION_FIELDS

    def check(self, block: Block) -> Findings:
        schedule = block.schedule
        if schedule is None or schedule.allocation_count() < FEWEST_ALLOCATIONS:
            return
        window = schedule.final_start - schedule.tinit
        if window < SHORTEST_WINDOW * schedule.total_step:
            yield self.found(
                block.at("total_step"),
                f"the budgeting phase has {window} of {schedule.total_step} steps "
                f"({window / schedule.total_step:.0%})",
            )


def drops_are_trained_again(block: Block) -> bool:
    """Return whether PEFT trains the triplets again that the last allocation of a run dropped."""
    if block.runtime != "peft" or block.is_saved or not block.invalid.isdisjoint(ALLOCATION_FIELDS):
        return False
    schedule = block.schedule
    if schedule is None or schedule.tfinal > 0 or not schedule.allocation_count():
        return False
    return schedule.last_allocation() != schedule.total_step - 1


class TfinalZero(Rule):
    code = "ADA210"
    severity = "warning"
    summary = "with tfinal 0 the last, exact selection is never made"
    why = """PEFT makes the final selection at step total_step - tfinal. With tfinal 0, a loop that
    counts its steps from 0 ends one step earlier and misses the target budget. If the last step is
    not a multiple of deltaT either, the optimizer changes triplets that the last allocation
    dropped. PEFT saves without them, so the adapter that is loaded has other outputs than the
    trained one: an error. The training API of adalora-core makes this selection in finalize(), so
    under the runtime adalora-core the finding is only a remark. In a saved adapter, which is not
    trained, tfinal 0 is right."""
    bad = SOUND | {"tfinal": 0, "deltaT": 1}
    hint = "set tfinal to at least 1; the paper spends about half of the run on the final phase"
    inputs = ALLOCATION_FIELDS

    def check(self, block: Block) -> Findings:
        schedule = block.schedule
        if schedule is None or schedule.tfinal > 0 or not schedule.allocation_count():
            return  # no allocation: reported by rule no-allocation-at-all
        if block.is_saved or is_share("tfinal", block.values.get("tfinal")):
            return  # a share of the run: reported by rule wrong-type
        end = schedule.total_step - 1
        message = (
            f"`tfinal` is {schedule.tfinal}: the final selection is due at step "
            f"{schedule.final_start}, after the last step, {end}"
        )
        severity: Severity | None = None if block.runtime == "peft" else "info"
        if drops_are_trained_again(block):
            severity = "error"
            first = (schedule.last_allocation() or 0) + 1
            message += (
                f", and the saved adapter lacks the dropped triplets that steps {first} "
                f"to {end} train again"
            )
        half = max(1, (schedule.total_step - schedule.tinit) // 2)
        hint = f"set tfinal to at least 1; the paper spends about half of the run on it: {half}"
        at = block.at_first("tfinal", "total_step")
        yield self.found(at, message, severity=severity, hint=hint)


class NoDropAtFirst(Rule):
    code = "ADA212"
    errors = ("kthvalue(): selected number k out of range",)
    summary = "the run is so long that the first allocation drops nothing"
    why = """The budget falls with a cubic, computed in double precision. If total_step is beyond
    2^53 the budget of the first allocation is still that of the start, and PEFT asks for the 0th
    smallest score: `kthvalue(): selected number k out of range`."""
    bad = SOUND | {"tinit": 0, "total_step": 2**60, "deltaT": 1}
    hint = "set total_step to the optimizer steps of the run"
    inputs = (*ALLOCATION_FIELDS, "init_r", "target_r")

    def check(self, block: Block) -> Findings:
        schedule = block.schedule
        if schedule is None or block.runtime != "peft" or block.is_saved:
            return
        if not schedule.allocation_count() or schedule.target_budget >= schedule.initial_budget:
            return
        first = (max(schedule.tinit, -1) // schedule.deltaT + 1) * schedule.deltaT
        if schedule.at(first).kept == schedule.initial_budget:
            yield self.found(
                block.at("total_step"),
                f"`total_step` {schedule.total_step} is so large that the allocation at step "
                f"{first} drops nothing: PEFT crashes there",
            )


class NoUncertainty(Rule):
    code = "ADA213"
    summary = "beta1 is so small that every score is zero"
    why = """The uncertainty of an entry is the distance of its sensitivity from their average. With
    a beta1 near 0 the two are equal in single precision, so the uncertainty and every score are
    zero. PEFT drops every triplet whose score is not above the threshold: all of them. The runtime
    adalora-core keeps as many as the budget allows."""
    bad = SOUND | {"beta1": 1e-40}
    hint = "set beta1 to 0.85 or near it"
    inputs = ("beta1", *ALLOCATION_FIELDS)

    def check(self, block: Block) -> Findings:
        beta1 = block["beta1"]
        if beta1 >= DOUBTFUL_BETA or block.runtime != "peft" or block.is_saved:
            return
        fails = beta1 < SMALLEST_BETA and block.allocates
        yield self.found(
            block.at("beta1"),
            f"`beta1` {beta1} leaves {'no' if beta1 < SMALLEST_BETA else 'hardly any'} uncertainty",
            severity=None if fails else "warning",
        )
