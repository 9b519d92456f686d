"""Run one half of a pilot: AdaLoRA from LoRA's start, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adalora_core.training import AdaLoraModel

COMPARED_STEPS = 4
"""Steps over which the losses of several budgets are compared."""


@dataclass(frozen=True, slots=True)
class HalfResult:
    """What one half of a pilot found.

    Attributes:
        scores: importance of the triplets of each module, the highest first, divided by the sum over
            all modules.
        ranks: the ranks that these scores alone give.
        losses: the mean loss without an adapter, with the budget, and with half of it.
    """

    scores: dict[str, torch.Tensor]
    ranks: dict[str, int]
    losses: tuple[float, float, float]


class HalfPilot:
    """A short run of AdaLoRA.

    Args:
        model: the adapted model, with an adapter that has seen no step.
        training_step: `(model, step) -> loss`.
        first: the first step of this half.
        steps: its number of optimizer steps.
    """

    def __init__(
        self,
        model: AdaLoraModel,
        training_step: Callable[[torch.nn.Module, int], torch.Tensor],
        first: int,
        steps: int,
    ) -> None:
        self._model = model
        self._step = training_step
        self._first = first
        self._steps = steps
        self._adapter = model.base_model.adapters[model.active_adapter]

    def result(
        self,
        lr: float,
        make_optimizer: Callable[..., torch.optim.Optimizer],
        costs: Mapping[str, int],
        limit: int,
    ) -> HalfResult:
        """Train, and compare the losses of several budgets; see `find_ranks`."""
        scores = self._train(lr, make_optimizer)
        kept = most_important(scores, costs, limit)
        total = sum(float(each.sum()) for each in scores.values())
        losses = (
            self._loss({path: torch.zeros_like(flags) for path, flags in kept.items()}),
            self._loss(kept),
            self._loss(most_important(scores, costs, limit // 2)),
        )
        return HalfResult(
            {path: each.sort(descending=True).values / total for path, each in scores.items()},
            {path: int(flags.sum()) for path, flags in kept.items()},
            losses,
        )

    def _train(
        self, lr: float, make_optimizer: Callable[..., torch.optim.Optimizer]
    ) -> dict[str, torch.Tensor]:
        """Return the scores of the last step before the kept set is final."""
        model, allocator = self._model.train(), self._adapter.allocator
        optimizer = make_optimizer([each for each in model.parameters() if each.requires_grad], lr=lr)
        rise = max(1, self._steps // 10)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / rise, 1) * (1 - step / self._steps)
        )
        scores: dict[str, torch.Tensor] = {}
        for step in range(self._steps):
            self._step(model, self._first + step).backward()
            optimizer.step()
            if step == allocator.schedule.final_start:
                scores = allocator.triplet_scores()
            model.update_and_allocate(step)
            schedule.step()
            optimizer.zero_grad()
        return {path: each.double().cpu() for path, each in scores.items()}

    @torch.no_grad()
    def _loss(self, kept: Mapping[str, torch.Tensor]) -> float:
        """Return the mean loss of the last steps with the triplets `kept` alone."""
        factors = {path: layer.lora_E[self._adapter.name] for path, layer in self._adapter.layers.items()}
        before = {path: each.clone() for path, each in factors.items()}
        for path, each in factors.items():
            each.mul_(kept[path].to(each.device)[:, None])
        last = self._first + self._steps
        model = self._model.eval()
        losses = [float(self._step(model, step)) for step in range(last - COMPARED_STEPS, last)]
        for path, each in factors.items():
            each.copy_(before[path])
        return sum(losses) / len(losses)


def most_important(
    scores: Mapping[str, torch.Tensor], costs: Mapping[str, int], limit: int
) -> dict[str, torch.Tensor]:
    """Return which triplets to keep: the highest scores first, as long as they fit.

    Args:
        scores: importance of the triplets of each module; ties are decided by position.
        costs: what a triplet of each module takes of the budget.
        limit: the budget.

    Example:
        >>> scores = {"wide": torch.tensor([4.0, 2.0]), "small": torch.tensor([3.0, 1.0])}
        >>> most_important(scores, {"wide": 30, "small": 10}, 50)
        {'wide': tensor([ True, False]), 'small': tensor([True, True])}
    """
    kept = {path: torch.zeros(len(each), dtype=torch.bool) for path, each in scores.items()}
    flat = torch.cat(list(scores.values()))
    places = [(path, row) for path, each in scores.items() for row in range(len(each))]
    left = limit
    for index in flat.argsort(descending=True, stable=True).tolist():
        path, row = places[index]
        if costs[path] <= left:
            kept[path][row] = True
            left -= costs[path]
    return kept
