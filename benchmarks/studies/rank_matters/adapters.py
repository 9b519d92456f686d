"""Make the adapters of an arm: PEFT's LoRA with a pattern of ranks, or this package's AdaLoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arms import ARMS, CUT_RANK, TARGET_R
from patterns import (
    energy_per_parameter,
    last_name,
    means,
    mixed,
    parameters_of,
    random_scores,
    shuffled,
    spend_parameters,
)
from training import plain_lora

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.training.training_state.contents import allocator_of

if TYPE_CHECKING:
    from arms import Arm
    from patterns import Pattern
    from runs import Job
    from torch import nn

SCORES = {"energy per parameter": energy_per_parameter}


def pattern(job: Job, costs: Pattern, found: Pattern | None) -> dict[str, int]:
    """Return the ranks of a run of plain LoRA.

    Args:
        job: the run.
        costs: parameters of one triplet of each module.
        found: the ranks that AdaLoRA found with the same seed, where the arm needs them.
    """
    how = ARMS[job.arm].ranks
    if how.isdigit() or how == "cut":
        return dict.fromkeys(costs, int(how) if how.isdigit() else CUT_RANK)
    if found is None:
        raise ValueError(f"{job}: expected the ranks of AdaLoRA, got none")
    match how:
        case "even":
            return mixed(costs, parameters_of(found, costs), job.seed)
        case "found":
            return dict(found)
        case "shuffled":
            return shuffled(found, job.seed, last_name)
        case "shuffled over all":
            return shuffled(found, job.seed, lambda path: "")  # noqa: ARG005 - one kind for all
        case "means":
            return means(found, job.seed, last_name)
    raise ValueError(f"{job}: no pattern is called {how!r}")


def lora(model: nn.Module, ranks: Pattern, scale: float) -> nn.Module:
    """Return PEFT's LoRA with these ranks; a module of rank 0 gets no adapter."""
    return plain_lora(model, scale, ranks)


def adalora(
    model: nn.Module, arm: Arm, steps: int, scale: float, seed: int, costs: Pattern
) -> nn.Module:
    """Return AdaLoRA as the arm has it, for a run of so many steps."""
    criterion: dict[str, Any] = {}
    if arm.score == "random":
        criterion = {"importance_criterion": random_scores(seed)}
    elif arm.score not in {"sensitivity", "per parameter"}:
        criterion = {"importance_criterion": SCORES.get(arm.score, arm.score)}
    begin, end = (round(share * steps) for share in arm.pruning)
    config = AdaLoraConfig(
        target_modules=list(costs),
        init_r=arm.init_r,
        target_r=TARGET_R,
        lora_alpha=round(scale * arm.init_r),  # PEFT's is an integer
        tinit=begin,
        tfinal=steps - end,
        deltaT=max(1, steps // 100),
        total_step=steps,
        orth_reg_weight=arm.penalty,
        init_lora_weights=arm.start,
        **criterion,
    )
    adapted = get_peft_model(model, config)
    if arm.score == "per parameter":
        spend_parameters(
            allocator_of(*adapted.base_model.trained_adapters()),
            costs,
            TARGET_R * sum(costs.values()),
        )
    return adapted
