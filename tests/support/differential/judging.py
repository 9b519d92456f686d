"""Compare the verdict of the contract on a configuration with what its runtime does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adalora_core.checker.check import check_config
from adalora_core.checker.plan.modules import RefusedError
from adalora_core.commands.injection.injecting import inject
from adalora_core.config.fields.block import Block, BlockOptions
from adalora_core.config.fields.table import LORA, PEFT_TYPE, Method, Runtime
from differential import bases, own_runs, peft_runs
from differential.cases import Case
from differential.outcomes import Outcome

RUNNERS = {"peft": peft_runs.run, "adalora-core": own_runs.run}

STATES = range(4)
"""Random states to run a configuration from. Where one of them agrees with the contract, chance
decides: how few numbers a dropout of 0.999 leaves, or which triplets tiny matrices keep."""


@dataclass(frozen=True)
class Judgement:
    """The contract's verdict beside the runtime's.

    Attributes:
        case: the configuration.
        runtime: who runs it.
        outcome: what the runtime did.
        errors: codes and messages of the contract's errors, and the problems of `plan --weights`.
        others: the same of its other findings.
    """

    case: Case
    runtime: Runtime
    outcome: Outcome
    errors: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def disagreement(self) -> Literal["false error", "missed error"] | None:
        """The kind of disagreement, None where both agree."""
        if self.outcome.fails == bool(self.errors):
            return None
        return "missed error" if self.outcome.fails else "false error"


def judge(case: Case, runtime: Runtime) -> Judgement:
    """Run a case and check it."""
    errors, others = verdict(case, runtime)
    for state in STATES:
        outcome = RUNNERS[runtime](case, state)
        if outcome.fails == bool(errors):
            break
    return Judgement(case, runtime, outcome, errors, others)


def verdict(
    case: Case, runtime: Runtime, *, with_model: bool = True
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the errors and the other findings of the contract, with the model's knowledge."""
    report = check_config(case.text, runtime=runtime)
    errors = [f"{each.code} {each.message}" for each in report.errors]
    others = [
        f"{each.code} {each.message}" for each in report.diagnostics if each not in report.errors
    ]
    if not errors and with_model:
        try:
            method: Method = LORA if case.is_lora else PEFT_TYPE
            block = Block(case.values, options=BlockOptions(runtime), method=method)
            found = inject(block, bases.base(case.base))
        except RefusedError as error:
            errors.append(f"plan {error}")
        else:
            others += [f"plan {each}" for each in found.notes]
    return tuple(errors), tuple(others)
