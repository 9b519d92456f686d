"""The factors of all matrices of a sharded model, for one step: the parts of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, distributed

from adalora_core.allocation.criteria import FACTORS_PER_MATRIX, Factors
from adalora_core.allocation.statistics import ImportanceStatistics, average_dtype
from adalora_core.floor.errors import ParallelismError
from adalora_core.ops import apply_mask
from adalora_core.sharding import device_of, is_sharded, local_part, piece_of, whole


class ShardedFactors(Factors):
    """The parts of A, E and B of every matrix that this process holds: scores are equal on all."""

    def __init__(self, parameters: Sequence[Any], statistics: ImportanceStatistics) -> None:
        if not all(map(is_sharded, parameters)):
            whole = sum(not is_sharded(each) for each in parameters)
            raise ParallelismError(
                f"update_and_allocate: {whole} of {len(parameters)} factors are whole and the rest "
                "are sharded: apply fully_shard to the root module too, and call reshard() on it "
                "after a forward pass without a backward pass"
            )
        super().__init__(parameters, statistics)
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
        for matrix, piece in enumerate(self.pieces[1::FACTORS_PER_MATRIX]):
            if piece.axis != 0:
                raise ParallelismError(
                    f"update_and_allocate: factor E of matrix {matrix} is cut along axis "
                    f"{piece.axis}; let shard_placement_fn return Shard(0) or None for it"
                )

    def gradients(self) -> list[Tensor | None]:
        """Return the parts of the gradients that this process holds."""
        return [None if each.grad is None else _local_gradient(each) for each in self.parameters]

    def observe_and_score(self) -> tuple[int | Tensor, Tensor]:
        """Call `observe`, then `scores`, and return both results."""
        return self.observe(), self.scores()

    def scores(self) -> Tensor:
        """Return the importance scores of all triplets, the same on every process."""
        self.statistics.prepare(self.local)
        smoothed, uncertainty = self.statistics.smoothed, self.statistics.uncertainty
        return self.scores_of_entries(lambda index, _: smoothed[index] * uncertainty[index])

    def scores_of_entries(self, entry_scores: Callable[[int, Tensor], Tensor | None]) -> Tensor:
        """Return the scores of all triplets from scores of entries, the same on every process.

        Every process sums over its parts, and one all-reduce sums over the processes. Of the
        processes that hold the same part, the first one counts it. Where there are averages, those
        of E are summed with the scores, for `sums_of_E`.
        """
        total = super().scores_of_entries(entry_scores)
        smoothed = self.statistics.smoothed
        if not smoothed:
            return self._sum(total)
        sums = total.new_zeros(len(self.ranks))
        for matrix, of_E in enumerate(smoothed[1::FACTORS_PER_MATRIX]):
            if self.counts(FACTORS_PER_MATRIX * matrix + 1):
                sums[matrix] = of_E.sum()
        both = self._sum(torch.cat([total, sums]))
        self._sums_of_E: Tensor = both[len(total) :]
        return both[: len(total)]

    def counts(self, place: int) -> bool:
        """Return whether this process is the first of those that hold the same part."""
        return self.pieces[place].is_first_replica

    def part_of(self, triplets: Tensor, place: int) -> Tensor:
        """Return the entries of the triplets in the part of a factor."""
        piece = self.pieces[place]
        is_cut = piece.axis == (1 if place % FACTORS_PER_MATRIX == FACTORS_PER_MATRIX - 1 else 0)
        return triplets[piece.start : piece.start + piece.length] if is_cut else triplets

    def sums_of_E(self) -> Tensor:  # noqa: N802 - the factor
        """Return the sum of the smoothed sensitivity of E of each matrix, the same everywhere.

        The exchange for the scores, which come first, has summed it.
        """
        return self._sums_of_E

    def named(self) -> Iterator[dict[str, Tensor]]:
        """Yield the whole factors, which every process gathers, one matrix at a time."""
        self.gradients()  # refuses those that are divided in another way
        return super().named()

    def _whole(self, tensor: Tensor) -> Tensor:
        return whole(tensor).to(device_of(self.mesh))

    def same_on_all(self, scores: Tensor) -> Tensor:
        """Return the `scores` of the first process, on every process."""
        is_first = not any(self.mesh.get_coordinate() or ())
        return self._sum(scores if is_first else scores.zero_())

    def zero_scores(self) -> Tensor:
        """Return a score of zero for every triplet."""
        dtype = average_dtype(self.parameters[0].dtype)
        return torch.zeros(sum(self.ranks), dtype=dtype, device=device_of(self.mesh))

    def _sum(self, scores: Tensor) -> Tensor:
        mesh = self.mesh
        groups: list[Any] = [mesh.get_group(dim) for dim in range(mesh.ndim)]
        if mesh.ndim > 1 and mesh.size() == distributed.get_world_size():
            groups = [None]  # the default group is all of them: one exchange instead of several
        for group in groups:
            distributed.all_reduce(scores, group=group)
        return scores

    def apply(self, mask: Tensor) -> None:
        """Zero the singular values of this process whose triplets `mask` drops."""
        values = self.local[1::FACTORS_PER_MATRIX]
        parts = enumerate(mask.split(self.ranks))
        kept = [self.part_of(each, FACTORS_PER_MATRIX * matrix + 1) for matrix, each in parts]
        apply_mask(torch.cat(kept).to(values[0].device), values)


def _local_gradient(parameter: Any) -> Tensor:
    gradient = parameter.grad
    if not is_sharded(gradient) or gradient.placements != parameter.placements:
        raise ParallelismError(
            "update_and_allocate: a gradient is not divided like its parameter; call it after "
            "the backward pass that synchronises gradients, set_requires_gradient_sync(True)"
        )
    return local_part(gradient)
