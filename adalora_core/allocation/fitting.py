"""Choose triplets that fit into a budget in which they cost differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping


def most_important(
    scores: Mapping[str, torch.Tensor],
    costs: Mapping[str, int],
    limit: int,
    first: Mapping[str, int] | None = None,
) -> dict[str, torch.Tensor]:
    """Return which triplets to keep: the highest scores first, as long as they fit.

    Args:
        scores: importance of the triplets of each module; ties are decided by position.
        costs: what a triplet of each module takes of the budget.
        limit: the budget.
        first: what the first triplet of each module takes in addition.

    Example:
        >>> scores = {"wide": torch.tensor([4.0, 2.0]), "small": torch.tensor([3.0, 1.0])}
        >>> most_important(scores, {"wide": 30, "small": 10}, 50)
        {'wide': tensor([ True, False]), 'small': tensor([True, True])}
    """
    kept = {path: torch.zeros(len(each), dtype=torch.bool) for path, each in scores.items()}
    flat = torch.cat(list(scores.values()))
    places = [(path, row) for path, each in scores.items() for row in range(len(each))]
    left, more = limit, dict(first or {})
    for index in flat.argsort(descending=True, stable=True).tolist():
        path, row = places[index]
        if (cost := costs[path] + more.get(path, 0)) <= left:
            kept[path][row] = True
            left -= cost
            more[path] = 0
    return kept
