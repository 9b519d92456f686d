"""Make the adapters of an arm: PEFT's LoRA with a pattern of ranks, or this package's AdaLoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arms import ARMS, INIT_R, PRUNING
from patterns import last_name, mixed, moved, parameters_of

import adalora_core
from adalora_core.floor.adapter_spec import PER_PARAMETER, SENSITIVITY

if TYPE_CHECKING:
    from arms import Arm
    from patterns import Pattern
    from runs import Job
    from torch import nn


def pattern(job: Job, costs: Pattern, found: Pattern | None) -> dict[str, int]:
    """Return the ranks of a run of plain LoRA.

    Args:
        job: the run.
        costs: parameters of one triplet of each module.
        found: the ranks of the arm that `ranks_of` names, where there is one.
    """
    how = ARMS[job.arm].ranks
    if how.isdigit():
        return dict.fromkeys(costs, int(how))
    if found is None:
        raise ValueError(f"{job}: expected the ranks of another arm, got none")
    match how:
        case "even":
            return mixed(costs, parameters_of(found, costs), job.seed)
        case "found" | "averaged":
            return dict(found)
        case "moved":
            return moved(found, f"{job.task} {job.seed}", last_name)
    raise ValueError(f"{job}: no pattern is called {how!r}")


def lora(model: nn.Module, scale: float, ranks: Pattern) -> nn.Module:
    """Return PEFT's LoRA with these ranks; a module of rank 0 gets no adapter.

    PEFT's own, since this is what a user would take instead of AdaLoRA. Its scale is alpha / rank,
    so that each module has an alpha of its own.
    """
    from peft import LoraConfig, get_peft_model

    kept = {path: rank for path, rank in ranks.items() if rank}
    config = LoraConfig(
        target_modules=list(kept),
        rank_pattern={f"^{path}": rank for path, rank in kept.items()},
        alpha_pattern={f"^{path}": scale * rank for path, rank in kept.items()},
    )
    return get_peft_model(model, config)  # type: ignore[no-any-return]


def tfinal(steps: int) -> int:
    """Return the step of a run at which AdaLoRA has dropped its triplets."""
    return round(PRUNING[1] * steps)


def adalora(model: nn.Module, arm: Arm, steps: int, scale: float, costs: Pattern) -> nn.Module:
    """Return AdaLoRA as the arm has it, for a run of so many steps."""
    config = adalora_core.AdaLoraConfig(
        target_modules=list(costs),
        init_r=INIT_R,
        target_r=arm.target_r,
        lora_alpha=round(scale * INIT_R),  # PEFT's is an integer
        tinit=round(PRUNING[0] * steps),
        tfinal=steps - tfinal(steps),
        deltaT=max(1, steps // 100),
        total_step=steps,
        orth_reg_weight=0.0,
        init_lora_weights=arm.start,
        importance_criterion=PER_PARAMETER if arm.in_parameters else SENSITIVITY,
    )
    return adalora_core.get_peft_model(model, config)
