"""Make patterns of ranks at equal parameters.

A pattern is `{module path: rank}`, a cost is the number of parameters of one triplet of a module,
`in + out`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import permutations
from operator import eq
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Pattern = Mapping[str, int]


def costs_of(model: nn.Module, kinds: Sequence[str]) -> dict[str, int]:
    """Return `{module path: parameters of one triplet}` of the linear layers of these kinds."""
    return {
        path: module.in_features + module.out_features
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] in kinds
    }


def parameters_of(ranks: Pattern, costs: Pattern) -> int:
    """Return the parameters of adapters with these ranks.

    Example:
        >>> parameters_of({"a.up": 2, "a.down": 0}, {"a.up": 10, "a.down": 10})
        20
    """
    return sum(rank * costs[path] for path, rank in ranks.items())


def mixed(costs: Pattern, parameters: int, seed: int) -> dict[str, int]:
    """Return one rank everywhere, and one more in as many modules as the parameters ask for.

    The seed draws these modules. The pattern has at least `parameters`, and less than one triplet
    more: an arm that is compared with it has no advantage in size.
    """
    rank = parameters // sum(costs.values())
    ranks = dict.fromkeys(costs, rank)
    order = sorted(costs)
    random.Random(seed).shuffle(order)  # noqa: S311 - an experiment, not a secret
    for path in order:
        if parameters_of(ranks, costs) >= parameters:
            break
        ranks[path] += 1
    return ranks


def moved(ranks: Pattern, seed: str, kind: Callable[[str], str]) -> dict[str, int]:
    """Return the ranks of each kind in other places, as few in their own as the kind allows.

    Four different ranks leave none in its place; 5, 5, 5, 1 leaves two fives in places of fives.
    Of the orders with the fewest the seed draws one.
    """
    drawn = random.Random(seed)  # noqa: S311 - same
    found = {}
    for paths in _by_kind(ranks, kind).values():
        before = [ranks[path] for path in paths]
        orders = sorted(set(permutations(before)))
        kept = [sum(map(eq, before, order)) for order in orders]
        fewest = [order for order, count in zip(orders, kept, strict=True) if count == min(kept)]
        found.update(zip(paths, drawn.choice(fewest), strict=True))
    return {path: found[path] for path in ranks}


def _by_kind(ranks: Pattern, kind: Callable[[str], str]) -> dict[str, list[str]]:
    groups = defaultdict(list)
    for path in ranks:
        groups[kind(path)].append(path)
    return groups


def last_name(path: str) -> str:
    """Return the kind of a module of the causal model.

    Example:
        >>> last_name("blocks.0.up")
        'up'
    """
    return path.rpartition(".")[2]
