"""Score the triplets: the one place that decides what the importance of a triplet is.

A criterion sees the factors of all matrices with their moving averages, and gives one score per
triplet. The allocator keeps the triplets with the highest scores, whatever the criterion.
`importance_criterion` of the configuration names it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from adalora_core.allocation.statistics import ImportanceStatistics, average_dtype
from adalora_core.floor.adapter_spec import PER_PARAMETER, SENSITIVITY, AdapterSpec, criterion_name
from adalora_core.floor.errors import CriterionError
from adalora_core.ops import apply_mask, select_triplets

if TYPE_CHECKING:
    ScoreFunction: TypeAlias = Callable[[str, Mapping[str, Tensor]], Tensor]


FACTORS_PER_MATRIX = 3


class Factors:
    """A, E and B of every matrix, which every process holds whole (one process, or DDP).

    `parameters` are in the order A, E, B of the first matrix, then of the next. `ranks` are the
    triplets of each matrix, dropped ones included; empty before the first scores.
    """

    def __init__(self, parameters: Sequence[Any], statistics: ImportanceStatistics) -> None:
        self.parameters = self.local = parameters
        self.statistics = statistics
        self.singular_values = parameters[1::3]
        self.ranks: list[int] = []

    def observe(self, *, squares: bool = False) -> int | Tensor:
        """Update the averages from the gradients or their squares; return the skipped entries."""
        return self.statistics.observe(self.local, self.gradients(), squares=squares)

    def gradients(self) -> list[Tensor | None] | None:
        """Return the gradients of `local`; None: each has its own."""
        return None

    def observe_and_score(self) -> tuple[int | Tensor, Tensor]:
        """Return the results of `observe` and of `scores`, in one pass."""
        scores = self._empty_scores()
        return self.statistics.observe(self.parameters, scores=scores), scores

    def averages(self) -> list[Tensor]:
        """Return the first average of each factor, for what this process holds of it."""
        self.statistics.prepare(self.local)
        return self.statistics.smoothed

    def scores(self) -> Tensor:
        """Return the importance scores of all triplets."""
        scores = self._empty_scores()
        self.statistics.score(self.parameters, scores)
        return scores

    def sums_of_E(self) -> Tensor:  # noqa: N802
        """Return the sum of the smoothed sensitivity of E of each matrix, `[matrices]`."""
        self.statistics.prepare(self.parameters)
        return self.statistics.sums_of_E()

    def keep_best(self, scores: Tensor, budget: int, spared: Tensor | None = None) -> Tensor:
        """Choose the kept set, and zero the dropped entries of E, but for those in `spared`."""
        if spared is None and self.local is self.parameters:
            return select_triplets(scores, budget, self.singular_values)
        mask = select_triplets(scores, budget, [scores.new_zeros(len(scores), 1)])
        self.apply(mask if spared is None else mask | spared)
        return mask

    def apply(self, mask: Tensor) -> None:
        """Zero the singular values that `mask` drops."""
        apply_mask(mask, self.singular_values)

    @torch.no_grad()
    def scores_of_entries(self, entry_scores: Callable[[int, Tensor], Tensor | None]) -> Tensor:
        """Return the scores of all triplets from scores of entries.

        `entry_scores` gives those of a factor, by its place and its part that this process holds;
        None counts as zero.
        """
        scores = self.zero_scores()
        for matrix, part in enumerate(scores.split(self.ranks)):
            for place in range(3 * matrix, 3 * matrix + 3):
                entries = entry_scores(place, self.local[place]) if self.counts(place) else None
                if entries is not None:
                    axis = 0 if place % 3 == 2 else 1  # noqa: PLR2004 - B has a triplet per column
                    means = entries.sum(axis) / max(self.parameters[place].shape[axis], 1)
                    self.part_of(part, place).add_(means.to(part.device))
        return scores

    def counts(self, place: int) -> bool:  # noqa: ARG002 - for parts
        """Return whether this process counts what it holds of a factor."""
        return True

    def part_of(self, triplets: Tensor, place: int) -> Tensor:  # noqa: ARG002 - same
        """Return the entries of the triplets that this process holds of a factor."""
        return triplets

    def named(self) -> Iterator[dict[str, Tensor]]:
        """Yield copies of the whole factors of each matrix and of their gradients, by name."""
        names = ("lora_A", "lora_E", "lora_B")
        for start in range(0, len(self.parameters), FACTORS_PER_MATRIX):
            factors = dict(zip(names, self.parameters[start : start + 3], strict=True))
            gradients = {
                f"{name}.grad": each.grad for name, each in factors.items() if each.grad is not None
            }
            yield {name: self._whole(each) for name, each in (factors | gradients).items()}

    def _whole(self, tensor: Tensor) -> Tensor:
        return tensor.detach().clone()

    def same_on_all(self, scores: Tensor) -> Tensor:
        """Return `scores`: every process computes its own, from the same factors."""
        return scores

    def zero_scores(self) -> Tensor:
        """Return a score of zero for every triplet."""
        return self._empty([int(each.shape[0]) for each in self.singular_values]).zero_()

    def _empty_scores(self) -> Tensor:
        self.statistics.prepare(self.parameters)
        return self._empty(self.statistics.ranks)

    def _empty(self, ranks: list[int]) -> Tensor:
        self.ranks = ranks
        like = self.parameters[0] if self.parameters else torch.empty(0)
        return like.new_empty(sum(self.ranks), dtype=average_dtype(like.dtype))


class Criterion:
    """Scores triplets.

    Attributes:
        keeps_averages: whether `observe` fills the averages, which a checkpoint then holds.
        squares: whether these are of g² and not of |p·g|.
    """

    keeps_averages: ClassVar = False
    squares: ClassVar = False

    def __init__(self, spec: AdapterSpec, paths: Sequence[str]) -> None:
        del spec
        self.paths = paths

    def observe(self, factors: Factors) -> int | Tensor:
        """Look at the gradients of one step; return how many entries were skipped."""
        return factors.observe(squares=self.squares) if self.keeps_averages else 0

    def scores(self, factors: Factors) -> Tensor:
        """Return the scores of all triplets, `[sum of ranks]`, the same on every process."""
        raise NotImplementedError

    def observe_and_score(self, factors: Factors) -> tuple[int | Tensor, Tensor]:
        """Return the results of `observe` and of `scores`."""
        return self.observe(factors), self.scores(factors)

    def affordable(self, factors: Factors, scores: Tensor, budget: int) -> int:
        """Return how many of the best triplets a budget is enough for: as many as it counts."""
        del factors, scores
        return budget


class Sensitivity(Criterion):
    """The paper's score: smoothed sensitivity times uncertainty (equations 7 to 11).

    One fused pass updates both averages and scores, as the op `update_importance` describes.
    """

    keeps_averages = True

    def scores(self, factors: Factors) -> Tensor:
        """Score by both averages."""
        return factors.scores()

    def observe_and_score(self, factors: Factors) -> tuple[int | Tensor, Tensor]:
        """Update both averages and score by them, in one pass."""
        return factors.observe_and_score()


class SensitivityPerParameter(Sensitivity):
    """The paper's score divided by the parameters of the triplet, under a budget in parameters.

    A triplet costs the sizes of its row of A and its column of B, c = in + out. A budget of b
    triplets is b times the mean cost of the matrices: from the best score on, triplets are kept
    until the next one does not fit. So a run ends with at most the parameters of a LoRA of rank
    `target_r`, where the paper's rule spends what the chosen matrices cost.
    """

    def scores(self, factors: Factors) -> Tensor:
        """Score by both averages and the costs."""
        scores = super().scores(factors)
        return scores / _per_triplet(factors, scores)

    def observe_and_score(self, factors: Factors) -> tuple[int | Tensor, Tensor]:
        """Update both averages and score by them and the costs."""
        skipped, scores = super().observe_and_score(factors)
        return skipped, scores / _per_triplet(factors, scores)

    def affordable(self, factors: Factors, scores: Tensor, budget: int) -> int:
        """Return how many of the best triplets fit into the parameters; waits for a GPU."""
        each = costs(factors.parameters)
        limit = round(budget * sum(each) / max(len(each), 1))
        order = scores.argsort(descending=True, stable=True)
        return int((_per_triplet(factors, scores)[order].cumsum(0) <= limit).sum())


def costs(parameters: Sequence[Any]) -> list[int]:
    """Return the parameters of one triplet of each matrix: a row of A and a column of B."""
    factors = zip(parameters[::3], parameters[2::3], strict=True)
    return [math.prod(A.shape[1:]) + B.shape[0] * math.prod(B.shape[2:]) for A, B in factors]


def _per_triplet(factors: Factors, like: Tensor) -> Tensor:
    each = torch.tensor(costs(factors.parameters), device=like.device)
    return each.repeat_interleave(torch.tensor(factors.ranks, device=like.device))


class Magnitude(Criterion):
    """|E|: the size of the singular value, without gradients and averages."""

    def scores(self, factors: Factors) -> Tensor:
        """Score by the factors E."""
        return factors.scores_of_entries(
            lambda place, entries: entries.abs() if place % 3 == 1 else None
        )


class SignalToNoise(Criterion):
    """Signal-to-noise ratio of every entry, |p| / sigma (Chen and Garner, arXiv 2409.10673).

    The authors' code (idiap/vilora, criterion `SNR`) trains with IVON, a variational optimizer that
    gives each entry a variance: sigma = 1 / sqrt(N (h + d)), with h the running diagonal of the
    Hessian, N the effective sample size and d the weight decay. Any optimizer may train here, so h
    is the moving average of the squared gradient with the weight `beta1`, the usual estimate of
    that diagonal, and d is 0. N multiplies all scores alike. What remains is |p| · sqrt(h), with
    p after the optimizer's step. A triplet's score is its E entry plus the means over its row of A
    and its column of B, as in the paper's code.

    Their own default is the ratio of |p| (`SNR_mean_abs`), which rises with |p| / sigma. Code that
    divides p² by the average of the squared gradient uses the gradient as the noise, and prefers
    entries with small gradients: that is another score.

    The first of both averages holds h. The second average is that of |g² - h|, and is not used.
    """

    keeps_averages = squares = True

    def scores(self, factors: Factors) -> Tensor:
        """Score by the factors and their average squared gradient."""
        squares = factors.averages()
        return factors.scores_of_entries(
            lambda place, entries: entries.abs().to(squares[place].dtype) * squares[place].sqrt()
        )


class Random(Criterion):
    """A random order of all triplets, drawn once per run, for experiments.

    Every allocation uses the same order, so a dropped triplet stays dropped: scores drawn anew at
    each step would also zero the singular values of those that are kept in the end. The order
    depends on the numbers of the configuration and on the adapted modules alone, hence is the same
    on every process, in a second run and after a resume, whatever the random state of torch is.
    Another order needs a callable with a seed of its own; docs/training.md has one.
    """

    def __init__(self, spec: AdapterSpec, paths: Sequence[str]) -> None:
        super().__init__(spec, paths)
        text = json.dumps([spec.numbers(), [*paths]], sort_keys=True)
        self.seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])

    def scores(self, factors: Factors) -> Tensor:
        """Score by the place in the order."""
        scores = factors.zero_scores()
        generator = torch.Generator().manual_seed(self.seed)
        # On the CPU, since another device draws other numbers.
        drawn = torch.randperm(len(scores), generator=generator, device="cpu")
        return scores.copy_(drawn)


class FromCallable(Criterion):
    """The scores of a function of the user.

    The function is called for each matrix of an allocation step, in the order of the matrices:

        function(path: str, tensors: dict[str, Tensor]) -> Tensor

    `tensors` holds `"lora_A"` `[r, in]`, `"lora_E"` `[r, 1]` and `"lora_B"` `[out, r]`, after the
    optimizer's step, and their gradients as `"lora_A.grad"` and so on where there are some. All of
    them are whole copies, also in a sharded model. The result is `[r]`, of any real dtype, on
    the device of `lora_E`; the highest scores over all matrices stay. It must be the same on every
    process of a DDP run. Under FSDP2 and tensor parallelism the scores of the first process count.
    The training state holds the name of the function, never the function or its state.
    """

    def __init__(self, spec: AdapterSpec, paths: Sequence[str]) -> None:
        super().__init__(spec, paths)
        self.function: ScoreFunction = spec.importance_criterion  # type: ignore[assignment]

    def scores(self, factors: Factors) -> Tensor:
        """Score by the results of the function."""
        scores = factors.zero_scores()
        parts = zip(scores.split(factors.ranks), self.paths, factors.named(), strict=True)
        with torch.no_grad():
            for part, path, tensors in parts:
                result = self.function(path, tensors)
                self._check(path, result, tensors["lora_E"])
                part.copy_(result)
        return factors.same_on_all(scores)

    def _check(self, path: str, result: Any, singular_values: Tensor) -> None:
        shape, device = singular_values.shape[:1], singular_values.device
        found = f"a {type(result).__name__}"
        if isinstance(result, torch.Tensor):
            found = f"one of shape {list(result.shape)} and {result.dtype} on {result.device}"
            if result.shape == shape and result.device == device and not result.is_complex():
                missing = int(result.isnan().sum())
                if not missing:
                    return
                found = f"{missing} NaN"
        raise CriterionError(
            f"importance_criterion: {criterion_name(self.function)} should return a tensor of real "
            f"scores of shape {list(shape)} on {device} for the module {path!r}, got {found}; "
            "return one score per triplet of lora_E"
        )


_NAMED: dict[str, type[Criterion]] = {
    SENSITIVITY: Sensitivity,
    PER_PARAMETER: SensitivityPerParameter,
    "magnitude": Magnitude,
    "snr": SignalToNoise,
    "random": Random,
}


def keeps_averages(name: str) -> bool:
    """Return whether the criterion of this name keeps averages; a callable never does."""
    return name in _NAMED and _NAMED[name].keeps_averages


def criterion_of(spec: AdapterSpec, paths: Sequence[str]) -> Criterion:
    """Return the criterion of `spec` for the modules `paths`."""
    named = spec.importance_criterion
    if callable(named):
        return FromCallable(spec, paths)
    if named not in _NAMED:
        raise ValueError(
            f"importance_criterion should be one of {', '.join(_NAMED)}, or a function; got "
            f"{named!r}"
        )
    return _NAMED[named](spec, paths)
