"""Family ADA2xx, second part: a schedule whose allocations PEFT cannot make or does not keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.rules.base import SOUND, Finding, Rule
from adalora_core.contract.rules.schedule import ALLOCATION_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.contract.fields.block import Block
    from adalora_core.contract.findings import Severity


EXACT = 2**32
"""Up to so many steps the budget of the first allocation is never rounded to that of the start."""


class TfinalZero(Rule):
    code = "ADA210"
    name = "tfinal-zero"
    severity = "warning"
    summary = "with tfinal 0 the last, exact selection is never made"
    why = (
        "PEFT makes the final selection at step total_step - tfinal. With tfinal 0, a loop that "
        "counts its steps from 0 ends one step earlier and misses the target budget. If the last "
        "step is not a multiple of deltaT, the steps after the last allocation train dropped "
        "triplets again. The saved adapter lacks them and gives other outputs than the trained "
        "one, which is an error before the training. The training API of adalora-core makes this "
        "selection in finalize(), so under the runtime adalora-core the finding is only a remark."
    )
    bad = SOUND | {"tfinal": 0, "total_step": 1001}
    hint = "set tfinal to at least 1; the paper spends about half of the run on the final phase"
    inputs = ALLOCATION_FIELDS

    def check(self, block: Block) -> Iterator[Finding]:
        schedule = block.schedule
        if schedule is None or schedule.tfinal or not schedule.allocation_count():
            return  # no allocation: reported by rule no-allocation-at-all
        last = schedule.total_step - 1
        message = (
            f"`tfinal` is 0: the final selection is due at step {last + 1}, after the last step, "
            f"{last}"
        )
        severity: Severity = "warning" if block.runtime == "peft" else "info"
        if last % schedule.deltaT and severity == "warning" and not block.is_saved:
            severity = "error"
            first = last - last % schedule.deltaT + 1
            message += (
                f", and the saved adapter lacks the dropped triplets that steps {first} to {last} "
                "train again"
            )
        yield Finding(
            self,
            block.at("tfinal") if "tfinal" in block.values else block.at("total_step"),
            message,
            severity=severity,
        )


class BudgetNeverFalls(Rule):
    code = "ADA211"
    name = "budget-never-falls"
    severity = "error"
    summary = "the run is so long that the budget of the first allocation drops no triplet"
    why = (
        "PEFT computes the budget with floating-point numbers of 53 bits. In a budgeting phase of "
        "more steps than that, the budget of the first allocation is rounded to that of the start. "
        "PEFT then asks for the 0th smallest score: `kthvalue(): selected number k out of range`, "
        "in the middle of the training. The runtime adalora-core keeps every triplet until the "
        "budget has fallen."
    )
    bad = SOUND | {"total_step": 10**18}
    hint = "set total_step to the optimizer steps of the run"
    inputs = (*ALLOCATION_FIELDS, "init_r", "target_r")
    only_if_set = ("total_step",)

    def check(self, block: Block) -> Iterator[Finding]:
        if (block["total_step"] or 0) < EXACT:
            return
        schedule = block.schedule
        is_trained_by_peft = block.runtime == "peft" and not block.is_saved
        if schedule is None or not is_trained_by_peft or block["init_r"] <= block["target_r"]:
            return  # reported by rules target-above-init and equal-ranks
        first = (schedule.tinit // schedule.deltaT + 1) * schedule.deltaT
        if first < schedule.final_start and schedule.at(first).budget == schedule.initial_budget:
            yield Finding(
                self,
                block.at("total_step"),
                f"the budget of the first allocation, at step {first}, is still that of the "
                "start: `total_step` is too large",
            )


RULES = (TfinalZero(), BudgetNeverFalls())
