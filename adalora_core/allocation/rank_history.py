"""Record the rank of every matrix after each allocation, on the device of the mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

MASKS_AT_ONCE = 64


class RankHistory:
    """A table of ranks with a row per allocation and a column per matrix, two bytes a cell.

    An allocation only adds its mask. The ranks of many masks are counted at once, or when the table
    is read, so that a step costs nothing.

    Args:
        matrix_count: number of columns.
    """

    def __init__(self, matrix_count: int) -> None:
        self._counted = torch.zeros(0, matrix_count, dtype=torch.int16)
        self._masks: list[torch.Tensor] = []
        self._ranks: list[int] = []

    def record(self, mask: torch.Tensor, ranks: Sequence[int]) -> None:
        """Add a row: how many of its `ranks` triplets each matrix keeps in `mask`.

        Args:
            mask: bool `[sum of ranks]`, which must not change afterwards.
            ranks: triplets of each matrix, dropped ones included.
        """
        if len(self._masks) == MASKS_AT_ONCE or self._ranks != ranks:
            self._count()
            self._ranks = [*ranks]
        self._masks.append(mask)

    def rows(self) -> torch.Tensor:
        """Return the table, int16 `[allocations, matrices]`, not a copy."""
        self._count()
        return self._counted

    def restore(self, rows: torch.Tensor) -> None:
        """Replace the table by saved rows."""
        self._counted = rows.to(torch.int16).clone()
        self._masks.clear()

    def _count(self) -> None:
        """Turn the masks that were added into rows."""
        if not self._masks:
            return
        device = self._masks[-1].device  # the model may have moved
        masks = torch.stack([mask.to(device) for mask in self._masks])
        columns = torch.arange(len(self._ranks)).repeat_interleave(torch.tensor(self._ranks))
        rows = torch.zeros(len(masks), len(self._ranks), dtype=torch.int16, device=device)
        rows.index_add_(1, columns.to(device), masks.to(torch.int16))
        self._counted = torch.cat([self._counted.to(device), rows])
        self._masks.clear()
