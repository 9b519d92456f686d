"""Moving averages of the sensitivity and its uncertainty, the only large state of an allocator."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch

from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.ops import averages_of, update_importance
from adalora_core.ops._operations import kind_of, places_by

Averages = list[torch.Tensor] | torch.Tensor
"""One average of all parameters: one flat tensor, or a tensor per parameter."""


class ImportanceStatistics:
    """Smoothed sensitivity and uncertainty of every entry of A, E and B (paper equations 9, 10).

    Two float32 averages per parameter (float64 for float64 parameters), on its device, created at
    the first observation. Each of the two is one flat tensor for all parameters, so that a step
    reads half as many tensors. Where dtypes or devices differ, each parameter has its own.

    Attributes:
        ranks: triplets of each matrix if the parameters are whole factors; stored with the
            averages, so that a step need not read every shape.
    """

    def __init__(self, spec: AdapterSpec) -> None:
        self.beta1 = spec.beta1
        self.beta2 = spec.beta2
        self._skipped: int | torch.Tensor = 0
        self._smoothed: Averages = []
        self._uncertainty: Averages = []
        self._shapes: list[torch.Size] = []
        self.ranks: list[int] = []
        self._index: dict[str, torch.Tensor] = {}

    @property
    def skipped_entries(self) -> int:
        """How many entries were skipped so far because |p·g| is not finite; waits for a GPU."""
        return int(self._skipped)

    @skipped_entries.setter
    def skipped_entries(self, count: int) -> None:
        self._skipped = count

    @property
    def smoothed(self) -> list[torch.Tensor]:
        """The smoothed sensitivity of each parameter, as views.

        Empty before the first observation and after `release()`.
        """
        return [*averages_of(self._smoothed, self._shapes)]

    @property
    def uncertainty(self) -> list[torch.Tensor]:
        """The uncertainty of each parameter, like `smoothed`."""
        return [*averages_of(self._uncertainty, self._shapes)]

    def observe(
        self,
        parameters: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor | None] | None = None,
        *,
        scores: torch.Tensor | None = None,
        squares: bool = False,
    ) -> int | torch.Tensor:
        """Update the averages with |p·g|, or with g² for `squares`; return how many are not finite.

        The parameters are A, E, B of every matrix, or the parts of them that a process holds, in a
        fixed order. Without `gradients` each parameter's own `.grad` counts; the averages of one
        whose gradient is None stay. `scores` are overwritten with those of all triplets. On a GPU
        the result is a tensor without dimensions.
        """
        self.prepare(parameters)
        if squares:
            gradients = [each.grad for each in parameters] if gradients is None else gradients
            pairs = zip(parameters, gradients, strict=True)
            parameters = [each if gradient is None else gradient for each, gradient in pairs]
        averages = self._smoothed, self._uncertainty
        skipped = update_importance(
            parameters, gradients, *averages, self.beta1, self.beta2, scores=scores
        )
        self._skipped = self._skipped + skipped
        return skipped

    def score(self, parameters: Sequence[torch.Tensor], scores: torch.Tensor) -> None:
        """Overwrite `scores` with the importance scores, without an update of the averages."""
        self.observe(parameters, [None] * len(parameters), scores=scores)

    def prepare(self, parameters: Sequence[torch.Tensor]) -> None:
        """Create averages of zero if there are none, or move them to where `parameters` are."""
        if len(self._shapes) != len(parameters):
            self._note_shapes(parameters)
            self._smoothed = _zeros_for(parameters)
            self._uncertainty = _zeros_for(parameters)
        elif not _are_placed_like(self._smoothed, parameters):
            self.restore(
                _moved_to(self.smoothed, parameters), _moved_to(self.uncertainty, parameters)
            )

    def restore(
        self, smoothed: Sequence[torch.Tensor], uncertainty: Sequence[torch.Tensor]
    ) -> None:
        """Replace the averages by saved ones, one per parameter; empty sequences begin anew."""
        self._note_shapes(smoothed)
        self._smoothed = _joined(smoothed)
        self._uncertainty = _joined(uncertainty)

    def _note_shapes(self, tensors: Sequence[torch.Tensor]) -> None:
        self._shapes = [each.shape for each in tensors]
        self.ranks = [shape[0] for shape in self._shapes[1::3]]
        self._index = {}

    def sums_of_E(self) -> torch.Tensor:  # noqa: N802 - the factor
        """Return the sum of the smoothed sensitivity of E of each matrix, for whole factors."""
        if isinstance(self._smoothed, torch.Tensor):
            order, joined = list(range(len(self._shapes))), self._smoothed
        else:
            # In few operations, whatever the number of matrices: those of a kind together.
            places_of_E = range(1, len(self._shapes), 3)
            kinds = [
                [places_of_E[each] for each in kind]
                for kind in places_by(kind_of, self._smoothed[1::3])
            ]
            order = [index for kind in kinds for index in kind]
            parts = [torch.cat([self._smoothed[each] for each in kind]) for kind in kinds]
            joined = torch.cat([each.flatten().to(parts[0]) for each in parts])

        def places() -> list[int]:
            sizes = [self._shapes[index].numel() for index in order]
            starts = dict(zip(order, itertools.accumulate(sizes, initial=0), strict=False))
            firsts = [starts[index] for index in range(1, len(self._shapes), 3)]
            return [
                first + row
                for first, rank in zip(firsts, self.ranks, strict=True)
                for row in range(rank)
            ]

        of_E = joined.index_select(0, self._stored("places", joined.device, places))
        owners = self._owners(self.ranks, joined.device)
        return joined.new_zeros(len(self.ranks)).index_add_(0, owners, of_E)

    def per_triplet(self, of_matrices: torch.Tensor, ranks: Sequence[int]) -> torch.Tensor:
        """Return the entry of its matrix for each triplet, `[sum of ranks]`."""
        return of_matrices.index_select(0, self._owners(ranks, of_matrices.device))

    def _owners(self, ranks: Sequence[int], device: torch.device) -> torch.Tensor:
        return self._stored(
            "owners",
            device,
            lambda: [matrix for matrix, rank in enumerate(ranks) for _ in range(rank)],
        )

    def _stored(
        self, name: str, device: torch.device, numbers: Callable[[], list[int]]
    ) -> torch.Tensor:
        """Return an index tensor that is made once: a step copies nothing to a device."""
        if name not in self._index or self._index[name].device != device:
            self._index[name] = torch.tensor(numbers(), dtype=torch.long, device="cpu").to(device)
        return self._index[name]

    def release(self) -> None:
        """Free the averages, which the final phase does not need."""
        self.restore([], [])


def average_dtype(parameter_dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64 parameters, else float32: bfloat16 averages lose small updates."""
    return torch.float64 if parameter_dtype is torch.float64 else torch.float32


# What is made in inference mode could not be updated in place outside of it.
@torch.inference_mode(mode=False)
def _zeros_for(parameters: Sequence[torch.Tensor]) -> Averages:
    kinds = {(average_dtype(each.dtype), each.device) for each in parameters}
    if len(kinds) == 1:
        dtype, device = kinds.pop()
        total = sum(each.numel() for each in parameters)
        return torch.zeros(total, dtype=dtype, device=device)
    return [
        torch.zeros(each.shape, dtype=average_dtype(each.dtype), device=each.device)
        for each in parameters
    ]


@torch.inference_mode(mode=False)
def _joined(averages: Sequence[torch.Tensor]) -> Averages:
    """Return `averages` as one flat tensor if dtype and device allow it."""
    if len({(each.dtype, each.device) for each in averages}) != 1:
        return [each.clone() if each.is_inference() else each for each in averages]
    return torch.cat([each.detach().flatten() for each in averages])


def _are_placed_like(averages: Averages, parameters: Sequence[torch.Tensor]) -> bool:
    """Return whether the averages are where the parameters are now.

    The factors of a matrix are moved together, so one of the three is looked at.
    """
    places = map(kind_of, parameters[::3])
    if isinstance(averages, torch.Tensor):
        wanted = {(device, average_dtype(dtype)) for device, dtype in {*places}}
        return wanted <= {kind_of(averages)}
    return all(
        kind_of(average) == (device, average_dtype(dtype))
        for average, (device, dtype) in zip(averages[::3], places, strict=True)
    )


def _moved_to(
    averages: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    return [
        average.to(parameter.device, average_dtype(parameter.dtype))
        for average, parameter in zip(averages, parameters, strict=True)
    ]
