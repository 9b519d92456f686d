"""The table of ranks is the same whenever it is read, and however many masks were handed over."""

from __future__ import annotations

import pytest
import torch

from adalora_core.allocation.allocator import MASKS_AT_ONCE, RankHistory

RANKS = [3, 0, 4]


def masks_of(count: int, ranks: list[int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.rand(sum(ranks), generator=generator) < 0.5 for _ in range(count)]


def counted(masks: list[torch.Tensor], ranks: list[int]) -> list[list[int]]:
    return [[int(part.sum()) for part in mask.split(ranks)] for mask in masks]


@pytest.mark.parametrize("count", [0, 1, MASKS_AT_ONCE, 2 * MASKS_AT_ONCE + 1])
@pytest.mark.parametrize("reads", [False, True])
def test_every_allocation_has_a_row(count: int, reads: bool) -> None:
    history = RankHistory(len(RANKS))
    masks = masks_of(count, RANKS)
    for mask in masks:
        history.record(mask, RANKS)
        if reads:
            history.rows()
    assert history.rows().dtype == torch.int16
    assert history.rows().shape == (count, len(RANKS))
    assert history.rows().tolist() == counted(masks, RANKS)


def test_matrices_may_lose_triplets_in_between() -> None:
    history = RankHistory(len(RANKS))
    cut = [2, 0, 1]
    before, after = masks_of(3, RANKS), masks_of(2, cut)
    for mask in before:
        history.record(mask, RANKS)
    for mask in after:
        history.record(mask, cut)
    assert history.rows().tolist() == counted(before, RANKS) + counted(after, cut)


def test_saved_rows_take_the_place_of_all_before() -> None:
    history = RankHistory(len(RANKS))
    history.record(*masks_of(1, RANKS), RANKS)
    saved = torch.tensor([[1, 0, 2]], dtype=torch.int16)
    history.restore(saved)
    (mask,) = masks_of(1, RANKS)
    history.record(mask, RANKS)
    assert history.rows().tolist() == [[1, 0, 2], *counted([mask], RANKS)]
