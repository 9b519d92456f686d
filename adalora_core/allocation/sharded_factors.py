"""The factors of a sharded model: local averages, and scores that are equal on all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from adalora_core.errors import ParallelismError
from adalora_core.ops import apply_mask, select_triplets
from adalora_core.sharding import is_sharded, local_part, piece_of
from adalora_core.sharding.layout import device_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from adalora_core.allocation.statistics import ImportanceStatistics

FACTORS_PER_MATRIX = 3


class ShardedFactors:
    """The parts of A, E and B of every matrix that this process holds, for one step.

    Args:
        parameters: DTensors in the order A, E, B of the first matrix, then of the next.

    Raises:
        ParallelismError: the factors are divided in another way than `fully_shard` divides.
    """

    def __init__(self, parameters: Sequence[Any]) -> None:
        if not all(map(is_sharded, parameters)):
            whole = sum(not is_sharded(each) for each in parameters)
            raise ParallelismError(
                f"update_and_allocate: {whole} of {len(parameters)} factors are whole and the rest "
                "are sharded: apply fully_shard to the root module too, and call reshard() on it "
                "after a forward pass without a backward pass"
            )
        self.parameters = parameters
        self.pieces = [
            piece_of(
                each,
                f"update_and_allocate: factor {'AEB'[index % FACTORS_PER_MATRIX]} of "
                f"matrix {index // FACTORS_PER_MATRIX}",
            )
            for index, each in enumerate(parameters)
        ]
        self.mesh = self.pieces[0].mesh
        if any(piece.mesh != self.mesh for piece in self.pieces):
            raise ParallelismError(
                "update_and_allocate: the factors are on several device meshes; shard the whole "
                "model over one"
            )
        self.local = [local_part(each) for each in parameters]
        self.ranks = [int(each.shape[0]) for each in parameters[1::FACTORS_PER_MATRIX]]
        self._check_singular_values()

    def _check_singular_values(self) -> None:
        for matrix, piece in enumerate(self.pieces[1::FACTORS_PER_MATRIX]):
            if piece.axis != 0:
                raise ParallelismError(
                    f"update_and_allocate: factor E of matrix {matrix} is cut along axis "
                    f"{piece.axis}; let shard_placement_fn return Shard(0) or None for it"
                )

    def observe(self, statistics: ImportanceStatistics) -> int | torch.Tensor:
        """Update the averages of the local parts from the gradients.

        Returns:
            How many entries of this process were skipped.
        """
        gradients = [
            None if each.grad is None else _local_gradient(each) for each in self.parameters
        ]
        return statistics.observe_entries(self.local, gradients)

    def observe_and_score(
        self, statistics: ImportanceStatistics
    ) -> tuple[int | torch.Tensor, Tensor]:
        """Call `observe`, then `scores`, and return both results."""
        return self.observe(statistics), self.scores(statistics)

    def scores(self, statistics: ImportanceStatistics) -> Tensor:
        """Return the importance scores of all triplets, the same on every process.

        Every process sums over its parts, and one all-reduce sums over the processes. Of the
        processes that hold the same part, the first one counts it.
        """
        statistics.prepare(self.local)
        device = device_of(self.mesh)
        smoothed, uncertainty = statistics.smoothed, statistics.uncertainty
        total = torch.zeros(sum(self.ranks), dtype=smoothed[0].dtype, device=device)
        for matrix, part in enumerate(total.split(self.ranks)):
            for factor in range(FACTORS_PER_MATRIX):
                index = FACTORS_PER_MATRIX * matrix + factor
                if self.pieces[index].is_first_replica:
                    entries = smoothed[index] * uncertainty[index]
                    self._add_means(part, index, entries.to(device))
        for group in _groups(self.mesh):
            distributed.all_reduce(total, group=group)
        return total

    def _add_means(self, scores: Tensor, index: int, entries: Tensor) -> None:
        """Add the means over `entries` of one factor to the scores of its matrix."""
        triplet_axis = 1 if index % FACTORS_PER_MATRIX == FACTORS_PER_MATRIX - 1 else 0
        count = self.parameters[index].shape[1 - triplet_axis]
        means = entries.sum(1 - triplet_axis) / max(count, 1)
        piece = self.pieces[index]
        if piece.axis == triplet_axis:
            scores = scores[piece.start : piece.start + piece.length]
        scores += means

    def keep_best(self, scores: Tensor, budget: int) -> Tensor:
        """Choose the kept set, and zero the dropped entries of E on this process."""
        mask = select_triplets(scores, budget, [scores.new_zeros(len(scores), 1)])
        self.apply(mask)
        return mask

    def apply(self, mask: Tensor) -> None:
        """Zero the singular values of this process whose triplets `mask` drops."""
        values = self.local[1::FACTORS_PER_MATRIX]
        kept = [
            each[piece.start : piece.start + piece.length]
            for each, piece in zip(
                mask.split(self.ranks), self.pieces[1::FACTORS_PER_MATRIX], strict=True
            )
        ]
        apply_mask(torch.cat(kept).to(values[0].device), values)


def _local_gradient(parameter: Any) -> Tensor:
    gradient = parameter.grad
    if not is_sharded(gradient) or gradient.placements != parameter.placements:
        raise ParallelismError(
            "update_and_allocate: a gradient is not divided like its parameter; call it after "
            "the backward pass that synchronises gradients, set_requires_gradient_sync(True)"
        )
    return local_part(gradient)


def _groups(mesh: Any) -> list[Any]:
    """Return the process groups that together sum over all of `mesh`."""
    if mesh.ndim > 1 and mesh.size() == distributed.get_world_size():
        return [None]  # the default group is all of them: one exchange instead of one per dimension
    return [mesh.get_group(dim) for dim in range(mesh.ndim)]
