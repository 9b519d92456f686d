"""Find ranks for a plain LoRA by a short run of AdaLoRA, and measure how sure they are."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from adalora_core.commands.rank_report.half_pilot import (
    HalfPilot,
    left_as_it_was,
    most_important,
    trainer_step,
)
from adalora_core.commands.rank_report.report import lora_settings
from adalora_core.config.model import config_of
from adalora_core.floor.errors import RunWarning
from adalora_core.floor.files import write_files
from adalora_core.floor.rank_pattern import SINGULAR_VALUES_SUFFIX
from adalora_core.training import get_peft_model
from adalora_core.training.adapter import run_values
from adalora_core.training.adapter_file.folder import CONFIG_NAME, encode_config
from adalora_core.training.run.reporting import frames_inside
from adalora_core.training.targets import find_targets

if TYPE_CHECKING:
    import os

    from adalora_core.config.model import AdaLoraConfig

    TrainingStep = Callable[[torch.nn.Module, int], torch.Tensor]

Unit = Literal["triplets", "parameters", "bytes"]

FEWEST_STEPS = 20
LOW_AGREEMENT = 0.5
"""Correlation of the halves' ranks below which they are mostly chance."""
SMALL_SHARE = 0.05
"""Part of a pilot's gain that half of the budget has to cost for rank to matter."""
MARGIN = 1.25
"""Triplets that a pilot keeps to its end, as a multiple of those that the budget allows: some
modules have shorter ones, of which more fit."""


@dataclass(frozen=True, slots=True)
class FoundRanks:
    """The ranks that a pilot found, and how far they can be trusted.

    Attributes:
        ranks: `{module path: rank}`; 0 for a module that needs no adapter.
        parameters: entries of A and B of a LoRA with these ranks.
        agreement: Spearman's correlation over the modules between the ranks that each half of the
            pilot finds alone; NaN where a half gives every module the same rank.
        losses: the mean loss over the same steps without an adapter, with the budget, and with half
            of it.
        config: the configuration of the pilot with its `rank_pattern`.
    """

    ranks: Mapping[str, int]
    parameters: int
    agreement: float
    losses: tuple[float, float, float]
    config: AdaLoraConfig

    @property
    def cost_of_half(self) -> float:
        """Part of the pilot's gain in loss that half of the budget loses; NaN without a gain."""
        without, whole, half = self.losses
        return (half - whole) / (without - whole) if without > whole else math.nan

    def doubts(self) -> list[str]:
        """Return why the ranks may not be worth using, a sentence each."""
        found = []
        if math.isnan(self.agreement):
            found.append("a half of the pilot gives every module the same rank: make more steps")
        elif self.agreement < LOW_AGREEMENT:
            found.append(
                f"the halves of the pilot disagree about the ranks (correlation "
                f"{self.agreement:.2f}, below {LOW_AGREEMENT}): make more steps"
            )
        if math.isnan(self.cost_of_half):
            found.append("the pilot did not lower the loss: make more steps, or change lr")
        elif self.cost_of_half < SMALL_SHARE:
            found.append(
                f"rank hardly matters here, since half of the budget costs {self.cost_of_half:.1%} "
                "of what the pilot gained: take one small rank everywhere"
            )
        return found

    def lora_settings(self) -> dict[str, Any]:
        """Return arguments of PEFT's `LoraConfig`; each module keeps the scale of the pilot.

        Raises:
            ValueError: no triplet is left.
        """
        return lora_settings(self.config)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `adapter_config.json` into `folder`, which `adalora report` reads.

        Raises:
            OSError: the file cannot be written.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_files({Path(folder) / CONFIG_NAME: encode_config(self.config.to_json_dict())})


def find_ranks(
    model: torch.nn.Module,
    config: AdaLoraConfig,
    training_step: TrainingStep | Any,
    steps: int = 100,
    *,
    budget: int | None = None,
    unit: Unit = "triplets",
    lr: float = 1e-2,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
) -> FoundRanks:
    """Return ranks for a plain LoRA, found by a short run of AdaLoRA on `model`.

    The pilot consists of two halves of `steps / 2` optimizer steps. Each has a start of its own,
    LoRA's with `init_r` triplets in every matrix, and no penalty. AdaLoRA prunes it in its first
    60 %; the rest is trained twice, with the budget and with half of it. The triplets with the
    highest importance, averaged over both halves, are kept as long as they fit into the budget.
    A `RunWarning` reports doubtful ranks.

    Args:
        model: the model without adapters. The pilot adapts it in place and leaves it as it was:
            modules, hooks, modes, buffers, gradients, and the generators of random numbers.
        config: what is adapted and trained, `init_r` (two to four times the mean rank that the
            budget allows), `lora_alpha`, dropout and betas; and `target_r` if there is no `budget`.
            Biases are not trained. The schedule is the pilot's own.
        training_step: `(adapted model, step) -> loss`, a scalar with a graph, of a new batch at
            each of the steps 0 to `steps - 1`; the same batch where a step comes again. Or a
            Trainer of transformers, made for `model`.
        steps: optimizer steps of both halves, at least 20. With those made twice it is 1.4 times
            as many.
        budget: what the LoRA may hold; None means `target_r` triplets for each matrix.
        unit: of `budget`: triplets, parameters of A and B, or bytes of these in float32.
        lr: the highest learning rate; it rises over a tenth of a half and falls to 0 at its end.
        optimizer: called with the parameters and `lr`.

    Raises:
        TypeError: `config` is of another method, `training_step` cannot be called, or a loss is not
            a tensor.
        ValueError: too few steps, a budget that leaves nothing to choose, or a loss that is not one
            finite number.
        ConfigError, TargetError: as from `get_peft_model`.
        RuntimeError: the training step wrote to a parameter of `model`.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, find_ranks
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(3)))
        >>> x, goal = torch.randn(64, 8), torch.randn(64, 8)
        >>> def training_step(model, step):
        ...     return (model(x) - goal).square().mean()
        >>> config = AdaLoraConfig(
        ...     init_r=6, target_r=2, target_modules="all-linear", total_step="auto"
        ... )
        >>> found = find_ranks(model, config, training_step, budget=100, unit="parameters")
        >>> sum(found.ranks.values()), found.parameters
        (6, 96)
    """
    values = run_values(config)
    if not isinstance(steps, int) or steps < FEWEST_STEPS:
        raise ValueError(f"steps: expected at least {FEWEST_STEPS}, got {steps}")
    if not (callable(training_step) or hasattr(training_step, "compute_loss")):
        raise TypeError(
            "training_step: expected a function (model, step) -> loss or a Trainer, got "
            f"{training_step!r}"
        )
    with left_as_it_was(model):  # to draw batches takes random numbers
        step = training_step if callable(training_step) else trainer_step(training_step, steps)
    layers = find_targets(model, config).layers
    sizes = {path: sum(layer.factor_shapes) for path, layer in layers.items()}
    if unit not in get_args(Unit):
        raise ValueError(f"unit: expected one of {', '.join(get_args(Unit))}, got {unit!r}")
    costs = {
        path: {"triplets": 1, "parameters": size, "bytes": 4 * size}[unit]
        for path, size in sizes.items()
    }
    limit = config.target_r * len(costs) if budget is None else budget
    pilot = _pilot_config(values, steps // 2, costs, limit)
    halves = []
    for half in range(2):
        with left_as_it_was(model):
            adapted = get_peft_model(model, pilot)
            learning = [each for each in adapted.parameters() if each.requires_grad]
            part = range(half * (steps // 2), (half + 1) * (steps // 2))
            run = HalfPilot(adapted, step, part, optimizer(learning, lr=lr))
            halves.append(run.result(costs, limit))
    (first, second), both, losses = zip(*halves, strict=True)
    scores = {path: first[path] + second[path] for path in costs}
    kept = most_important(scores, costs, limit)
    ranks = {path: int(flags.sum()) for path, flags in kept.items()}
    found = FoundRanks(
        ranks,
        sum(rank * sizes[path] for path, rank in ranks.items()),
        _correlation(both),
        tuple(sum(each) / 2 for each in zip(*losses, strict=True)),
        _with_pattern(pilot, kept),
    )
    for doubt in found.doubts():
        warnings.warn(f"find_ranks: {doubt}", RunWarning, stacklevel=frames_inside())
    return found


def _pilot_config(
    values: Mapping[str, Any], steps: int, costs: Mapping[str, int], limit: int
) -> AdaLoraConfig:
    """Return the configuration of a half; a ValueError if the budget leaves nothing to choose."""
    if limit < min(costs.values()):
        raise ValueError(
            f"budget: {limit} has no room for a triplet, which takes {min(costs.values())}"
        )
    mean = limit / sum(costs.values())
    target = max(1, math.ceil(MARGIN * mean))
    if target >= (init_r := values["init_r"]):
        raise ValueError(
            f"budget: {limit} allows a mean rank of {mean:.1f}, and init_r {init_r} leaves "
            f"too little to choose from; set init_r to {math.ceil(3 * mean)}, or lower the budget"
        )
    schedule = {"total_step": steps, "tinit": steps // 10, "tfinal": steps * 4 // 10, "deltaT": 1}
    start = {"init_lora_weights": "lora", "orth_reg_weight": 0.0, "bias": "none"}
    fresh = {"target_r": target, "rank_pattern": None, "inference_mode": False}
    return config_of({**values, **schedule, **start, **fresh})


def _with_pattern(pilot: AdaLoraConfig, kept: Mapping[str, torch.Tensor]) -> AdaLoraConfig:
    """Return `pilot` with the kept triplets; the target is the mean rank, rounded up."""
    pattern = {f"{path}{SINGULAR_VALUES_SUFFIX}": flags.tolist() for path, flags in kept.items()}
    mean = sum(int(flags.sum()) for flags in kept.values()) / len(kept)
    values = {"rank_pattern": pattern, "target_r": max(1, math.ceil(mean))}
    return config_of(run_values(pilot) | values)


def _correlation(both: Sequence[dict[str, int]]) -> float:
    """Return Spearman's correlation of the ranks of two halves."""
    ranks = torch.tensor([list(each.values()) for each in both], dtype=torch.float64)
    lower = (ranks[:, :, None] > ranks[:, None]).sum(2)
    equal = (ranks[:, :, None] == ranks[:, None]).sum(2)
    return float(torch.corrcoef(lower + equal / 2)[0, 1])
