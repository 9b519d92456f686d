"""Patterns of ranks at equal parameters, and scores and budgets in parameters.

Everything here serves the study alone. A pattern is `{module path: rank}`, a cost is the number of
parameters of one triplet of a module, `in + out`.
"""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from types import MethodType
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from adalora_core.allocation import RankAllocator

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


def shuffled(ranks: Pattern, seed: int, kind: Callable[[str], str]) -> dict[str, int]:
    """Return the ranks, each given to a random module of the same kind."""
    drawn = random.Random(seed)  # noqa: S311 - same
    found = {}
    for paths in _by_kind(ranks, kind).values():
        places = list(paths)
        drawn.shuffle(places)
        found.update({place: ranks[path] for place, path in zip(places, paths, strict=True)})
    return {path: found[path] for path in ranks}


def means(ranks: Pattern, seed: int, kind: Callable[[str], str]) -> dict[str, int]:
    """Return the mean rank of each kind in all its modules.

    Where the mean is not whole, the seed draws the modules that get one triplet more, so that the
    parameters stay equal.
    """
    drawn = random.Random(seed)  # noqa: S311 - same
    found = {}
    for paths in _by_kind(ranks, kind).values():
        rank, more = divmod(sum(ranks[path] for path in paths), len(paths))
        places = list(paths)
        drawn.shuffle(places)
        found.update({path: rank + (place < more) for place, path in enumerate(places)})
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


# --- scores and budgets in parameters -----------------------------------------------------------


def random_scores(seed: int) -> Callable[[str, Mapping[str, Tensor]], Tensor]:
    """Return a criterion that orders the triplets at random, the same way at every allocation."""

    def scores(path: str, tensors: Mapping[str, Tensor]) -> Tensor:
        drawn = torch.Generator().manual_seed(zlib.crc32(f"{seed} {path}".encode()))
        return torch.rand(len(tensors["lora_E"]), generator=drawn)

    return scores


def energy_per_parameter(path: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """Score a triplet by the squared norm of its part of the product, per parameter."""
    del path
    rows, columns = tensors["lora_A"], tensors["lora_B"]
    norm = tensors["lora_E"].flatten() * rows.norm(dim=1) * columns.norm(dim=0)
    return norm.square() / (rows.shape[1] + columns.shape[0])


def affordable(scores: Tensor, costs: Tensor, parameters: int) -> int:
    """Return how many of the best triplets fit into so many parameters.

    Example:
        >>> affordable(torch.tensor([3.0, 9.0, 5.0]), torch.tensor([10, 40, 20]), 65)
        2
    """
    spent = costs[scores.argsort(descending=True, stable=True)].cumsum(0)
    return int((spent <= parameters).sum())


def spend_parameters(allocator: RankAllocator, costs: Pattern, parameters: int) -> None:
    """Make an allocator score per parameter, and keep to a budget in parameters.

    The budget falls as that in triplets does, and ends at `parameters`.
    """
    each = [costs[matrix.path] for matrix in allocator.matrices]
    ranks = torch.tensor([matrix.rank for matrix in allocator.matrices])
    per_triplet = torch.tensor(each).repeat_interleave(ranks)
    of_one = parameters / allocator.schedule.target_budget
    keep_best = type(allocator)._keep_best

    def keep_affordable(
        self: RankAllocator, factors: object, scores: Tensor, budget: int, *, spares: bool = True
    ) -> None:
        scores = scores / per_triplet
        kept = affordable(scores, per_triplet, round(budget * of_one))
        keep_best(self, factors, scores, kept, spares=spares)

    allocator._keep_best = MethodType(keep_affordable, allocator)


def cut_to_parameters(model: nn.Module, costs: Pattern, parameters: int) -> dict[str, int]:
    """Cut a trained LoRA by its squared singular values per parameter; return the ranks that stay.

    The matrices keep their shapes; dropped rows and columns are zero.
    """
    layers = {path: _layer(model, path) for path in costs}
    parts = {}
    for path, layer in layers.items():
        rows, columns = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        left, right = torch.linalg.qr(columns.double()), torch.linalg.qr(rows.double().T)
        inner = torch.linalg.svd(left.R @ right.R.T)
        parts[path] = (left.Q @ inner.U, inner.S, inner.Vh @ right.Q.T)
    owners = [path for path in costs for _ in parts[path][1]]
    of_each = torch.tensor([costs[path] for path in owners])
    scores = torch.cat([parts[path][1].square() for path in costs]) / of_each
    best = scores.argsort(descending=True)[: affordable(scores, of_each, parameters)]
    ranks = dict.fromkeys(costs, 0)
    for place in best.tolist():
        ranks[owners[place]] += 1
    with torch.no_grad():
        for path, layer in layers.items():
            (left, values, right), rank = parts[path], ranks[path]
            kept = values.sqrt() * (torch.arange(len(values)) < rank)
            layer.lora_A["default"].weight.copy_(kept[:, None] * right)
            layer.lora_B["default"].weight.copy_(left * kept)
    return ranks


def _layer(model: nn.Module, path: str) -> nn.Module:
    """Return the LoRA layer of PEFT in the place of a module of the base model."""
    return model.base_model.model.get_submodule(path)
