"""Moving averages of the sensitivity and of its uncertainty, the allocator's only big state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from adalora_core.ops import update_importance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adalora_core.adapter_spec import AdapterSpec


class ImportanceStatistics:
    """Smoothed sensitivity and uncertainty of every entry of A, E and B (paper equations 9, 10).

    Two float32 averages per parameter (float64 for float64 parameters), on its device, created at
    the first observation.

    Attributes:
        smoothed, uncertainty: one tensor per parameter, in the order of the parameters; empty
            before the first observation and after `release()`.
        skipped_entries: observations left out so far because they were not finite.
    """

    def __init__(self, spec: AdapterSpec) -> None:
        self.beta1 = spec.beta1
        self.beta2 = spec.beta2
        self.smoothed: list[torch.Tensor] = []
        self.uncertainty: list[torch.Tensor] = []
        self.skipped_entries = 0

    def observe(
        self, parameters: Sequence[torch.Tensor], *, scores: torch.Tensor | None = None
    ) -> int:
        """Take the gradients that `parameters` hold now into the averages.

        Args:
            parameters: A, E, B of every matrix, in a fixed order; one without a gradient is not
                observed.
            scores: if given, overwritten with the importance scores of all triplets.

        Returns:
            How many entries were skipped because |p·g| is not finite.
        """
        return self._update(parameters, [each.grad for each in parameters], scores)

    def score(self, parameters: Sequence[torch.Tensor], scores: torch.Tensor) -> None:
        """Overwrite `scores` with the importance scores as they stand, without an observation."""
        self._update(parameters, [None] * len(parameters), scores)

    def prepare(self, parameters: Sequence[torch.Tensor]) -> None:
        """Make averages of zero for `parameters` if there are none."""
        if len(self.smoothed) != len(parameters):
            self.smoothed = [_average_like(each) for each in parameters]
            self.uncertainty = [_average_like(each) for each in parameters]

    def observe_entries(
        self, parameters: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]
    ) -> int:
        """Take gradients into the averages entry by entry, whatever the shapes; no scores.

        Parts of factors do not fit together as A, E and B of a matrix do, so each goes through the
        op as the E of a matrix whose A and B are empty.
        """
        self.prepare(parameters)
        skipped = update_importance(
            [each for entries in parameters for each in _as_matrix(entries)],
            [
                each
                for gradient in gradients
                for each in (_as_matrix(gradient) if gradient is not None else (None,) * 3)
            ],
            [each for entries in self.smoothed for each in _as_matrix(entries)],
            [each for entries in self.uncertainty for each in _as_matrix(entries)],
            self.beta1,
            self.beta2,
        )
        self.skipped_entries += skipped
        return skipped

    def _update(
        self,
        parameters: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor | None],
        scores: torch.Tensor | None,
    ) -> int:
        self.prepare(parameters)
        skipped = update_importance(
            parameters,
            gradients,
            self.smoothed,
            self.uncertainty,
            self.beta1,
            self.beta2,
            scores=scores,
        )
        self.skipped_entries += skipped
        return skipped

    @staticmethod
    def score_dtype(parameters: Sequence[torch.Tensor]) -> torch.dtype:
        """Return the dtype of the averages and of the scores."""
        return average_dtype(parameters[0].dtype) if parameters else torch.float32

    def release(self) -> None:
        """Free the averages; the final phase needs none."""
        self.smoothed = []
        self.uncertainty = []


def average_dtype(parameter_dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64 parameters, else float32: bfloat16 averages lose small updates."""
    return torch.float64 if parameter_dtype is torch.float64 else torch.float32


def _as_matrix(entries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    count = entries.numel()
    return entries.new_empty(count, 0), entries.view(count, 1), entries.new_empty(0, count)


def _average_like(parameter: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(
        parameter, dtype=average_dtype(parameter.dtype), memory_format=torch.contiguous_format
    ).detach()
