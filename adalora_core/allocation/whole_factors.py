"""The factors of a model that every process holds whole (one process, or DDP)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from adalora_core.allocation.statistics import average_dtype
from adalora_core.ops import apply_mask, select_triplets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adalora_core.allocation.statistics import ImportanceStatistics


class WholeFactors:
    """A, E and B of every matrix, for one step.

    Args:
        parameters: in the order A, E, B of the first matrix, then of the next.

    Attributes:
        ranks: triplets of each matrix, dropped ones included; empty before the first scores.
    """

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self.parameters = parameters
        self.singular_values = parameters[1::3]
        self.ranks: list[int] = []

    def observe(self, statistics: ImportanceStatistics) -> int | torch.Tensor:
        """Update the averages from the gradients; return how many entries were skipped."""
        return statistics.observe(self.parameters)

    def observe_and_score(
        self, statistics: ImportanceStatistics
    ) -> tuple[int | torch.Tensor, torch.Tensor]:
        """Return the results of `observe` and of `scores`, in one pass."""
        scores = self._empty_scores(statistics)
        return statistics.observe(self.parameters, scores=scores), scores

    def scores(self, statistics: ImportanceStatistics) -> torch.Tensor:
        """Return the importance scores of all triplets."""
        scores = self._empty_scores(statistics)
        statistics.score(self.parameters, scores)
        return scores

    def keep_best(self, scores: torch.Tensor, budget: int) -> torch.Tensor:
        """Choose the kept set, and zero the dropped entries of E."""
        return select_triplets(scores, budget, self.singular_values)

    def apply(self, mask: torch.Tensor) -> None:
        """Zero the singular values that `mask` drops."""
        apply_mask(mask, self.singular_values)

    def _empty_scores(self, statistics: ImportanceStatistics) -> torch.Tensor:
        statistics.prepare(self.parameters)
        self.ranks = statistics.ranks
        like = self.parameters[0] if self.parameters else torch.empty(0)
        return like.new_empty(sum(self.ranks), dtype=average_dtype(like.dtype))
