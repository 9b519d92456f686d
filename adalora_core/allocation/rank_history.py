"""The ranks of all matrices after every allocation, kept where the mask is, without a host read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_CAPACITY = 64


class RankHistory:
    """Rows of ranks, one per allocation, one column per matrix; two bytes a cell.

    Args:
        matrix_count: columns.
    """

    def __init__(self, matrix_count: int) -> None:
        self._table = torch.zeros(0, matrix_count, dtype=torch.int16)
        self._columns: torch.Tensor | None = None
        self._length = 0

    def record(self, mask: torch.Tensor, ranks: Sequence[int]) -> None:
        """Add a row: how many of its `ranks` triplets each matrix keeps in `mask`."""
        if self._columns is None or len(self._columns) != len(mask):
            self._columns = torch.arange(len(ranks)).repeat_interleave(torch.tensor([*ranks]))
        self._columns = self._columns.to(mask.device)
        if self._length == len(self._table):
            grown = max(FIRST_CAPACITY, 2 * self._length)
            table = torch.zeros(grown, len(ranks), dtype=torch.int16, device=mask.device)
            table[: self._length] = self._table
            self._table = table
        self._table[self._length].index_add_(0, self._columns, mask.to(torch.int16))
        self._length += 1

    def rows(self) -> torch.Tensor:
        """Return the table, int16 `[allocations, matrices]`; a view."""
        return self._table[: self._length]

    def restore(self, rows: torch.Tensor) -> None:
        """Begin again from saved rows."""
        self._table = rows.to(torch.int16).clone()
        self._length = len(rows)
