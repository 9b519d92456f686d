"""The factors of a model that every process holds whole (one process, or DDP)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from adalora_core.allocation.statistics import average_dtype
from adalora_core.ops import apply_mask, select_triplets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from adalora_core.allocation.statistics import ImportanceStatistics


class WholeFactors:
    """A, E and B of every matrix, for one step.

    Args:
        parameters: in the order A, E, B of the first matrix, then of the next.
        statistics: the moving averages.

    Attributes:
        ranks: triplets of each matrix, dropped ones included; empty before the first scores.
    """

    def __init__(
        self, parameters: Sequence[torch.Tensor], statistics: ImportanceStatistics
    ) -> None:
        self.parameters = parameters
        self.statistics = statistics
        self.singular_values = parameters[1::3]
        self.ranks: list[int] = []

    def observe(self, *, squares: bool = False) -> int | torch.Tensor:
        """Update the averages from the gradients or their squares; return the skipped entries."""
        return self.statistics.observe(self.parameters, squares=squares)

    def observe_and_score(self) -> tuple[int | torch.Tensor, torch.Tensor]:
        """Return the results of `observe` and of `scores`, in one pass."""
        scores = self._empty_scores()
        return self.statistics.observe(self.parameters, scores=scores), scores

    def averages(self) -> list[torch.Tensor]:
        """Return the first average of each factor, made to fit the factors."""
        self.statistics.prepare(self.parameters)
        return self.statistics.smoothed

    def scores(self) -> torch.Tensor:
        """Return the importance scores of all triplets."""
        scores = self._empty_scores()
        self.statistics.score(self.parameters, scores)
        return scores

    def sums_of_E(self) -> torch.Tensor:  # noqa: N802
        """Return the sum of the smoothed sensitivity of E of each matrix, `[matrices]`."""
        self.statistics.prepare(self.parameters)
        return self.statistics.sums_of_E()

    def keep_best(
        self, scores: torch.Tensor, budget: int, spared: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Choose the kept set, and zero the dropped entries of E, but for those in `spared`."""
        if spared is None:
            return select_triplets(scores, budget, self.singular_values)
        mask = select_triplets(scores, budget, [scores.new_zeros(len(scores), 1)])
        self.apply(mask | spared)
        return mask

    def apply(self, mask: torch.Tensor) -> None:
        """Zero the singular values that `mask` drops."""
        apply_mask(mask, self.singular_values)

    def scores_of_entries(
        self, entry_scores: Callable[[int, torch.Tensor], torch.Tensor | None]
    ) -> torch.Tensor:
        """Return the scores of all triplets from scores of entries.

        Args:
            entry_scores: gives the scores of the entries of a factor, by its place in
                `parameters`; None counts as zero.
        """
        scores = self.zero_scores()
        for matrix, part in enumerate(scores.split(self.ranks)):
            for place in range(3 * matrix, 3 * matrix + 3):
                entries = entry_scores(place, self.parameters[place].detach())
                if entries is not None:
                    axis = 0 if place % 3 == 2 else 1  # noqa: PLR2004 - B has a triplet per column
                    means = entries.sum(axis) / max(entries.shape[axis], 1)
                    part.add_(means.to(part.device))
        return scores

    def named(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the factors of each matrix and their gradients, by name."""
        for start in range(0, len(self.parameters), 3):
            yield _named(self.parameters[start : start + 3])

    def same_on_all(self, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores`: every process computes its own, from the same factors."""
        return scores

    def zero_scores(self) -> torch.Tensor:
        """Return a score of zero for every triplet."""
        return self._empty([int(each.shape[0]) for each in self.singular_values]).zero_()

    def _empty_scores(self) -> torch.Tensor:
        self.statistics.prepare(self.parameters)
        return self._empty(self.statistics.ranks)

    def _empty(self, ranks: list[int]) -> torch.Tensor:
        self.ranks = ranks
        like = self.parameters[0] if self.parameters else torch.empty(0)
        return like.new_empty(sum(self.ranks), dtype=average_dtype(like.dtype))


def _named(factors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    names = ("lora_A", "lora_E", "lora_B")
    found = {name: each.detach() for name, each in zip(names, factors, strict=True)}
    for name, each in zip(names, factors, strict=True):
        if each.grad is not None:
            found[f"{name}.grad"] = each.grad.detach()
    return found
