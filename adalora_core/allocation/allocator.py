"""The rank allocator: follow the budget schedule of one adapter, step by step."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from adalora_core.allocation.criteria import Factors, costs, criterion_of
from adalora_core.allocation.factors import ShardedFactors
from adalora_core.allocation.statistics import ImportanceStatistics
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.budget import Phase, ScheduledStep
from adalora_core.sharding import are_sharded

MASKS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class AdaptedMatrix:
    """The places of the factors of one matrix, the mappings of modules that hold them by adapter.

    The allocator looks them up at every step: parameters may be replaced between two steps (moved,
    sharded, created anew by a load), but the mappings stay.
    """

    path: str
    lora_A: Mapping[str, torch.nn.Parameter | None]  # noqa: N815 - the wire name
    lora_E: Mapping[str, torch.nn.Parameter | None]  # noqa: N815 - the wire name
    lora_B: Mapping[str, torch.nn.Parameter | None]  # noqa: N815 - the wire name
    adapter_name: str

    @property
    def rank(self) -> int:
        """Triplets that the matrix holds, dropped ones included."""
        singular_values = self.lora_E[self.adapter_name]
        return 0 if singular_values is None else int(singular_values.shape[0])


@dataclass(frozen=True, slots=True)
class AllocationReport:
    """What one call of `RankAllocator.step` did.

    The `budget` is what all matrices together may keep after the step, in triplets of mean cost
    where the criterion counts parameters. `skipped` entries of its
    gradients were ignored because they are not finite; of a sharded model, those that this process
    holds. On a GPU the number is a tensor without dimensions.
    """

    step: int
    phase: Phase
    budget: int
    allocated: bool
    skipped: int | torch.Tensor

    @property
    def skipped_entries(self) -> int:
        """`skipped` as a number; waits for a GPU."""
        return int(self.skipped)


class RankAllocator:
    """Moves the rank budget of one adapter between its matrices (paper algorithm 1).

    Call `step(t)` once per optimizer step, after `optimizer.step()` and before `zero_grad()`. Until
    the final phase it updates the averages from the gradients; on an allocation step it then keeps
    the triplets with the highest importance scores, exactly as many as the budget allows. From the
    first final step on, the kept set is fixed and the averages are freed.

    Factors that every process holds whole (DDP) need no exchange: equal gradients give equal kept
    sets. With sharded factors (FSDP2) every process keeps the averages of its parts. An allocation
    sums the scores, one number per triplet and one per matrix, over the processes.

    Args:
        spec: the numbers of the adapter.
        matrices: where the factors of the adapter are; their order decides ties.

    Attributes:
        criterion: scores the triplets.
        statistics: the moving averages.
        mask: bool `[sum of ranks]`, True for kept triplets; None before the first allocation.
        history: the report of every allocation.
        ranks_over_time: the rank of every matrix after each allocation.
        last_step: the last step taken, None before the first.
        without_gradient: bool `[matrices]`, those whose E had no gradient before the last
            allocation; None if there is certainly none, before an allocation, and where the
            criterion keeps no averages.

    Raises:
        ValueError: `spec.total_step` is not set, or the criterion is unknown.
    """

    def __init__(self, spec: AdapterSpec, matrices: Sequence[AdaptedMatrix]) -> None:
        self.spec = spec
        self.matrices = list(matrices)
        self.schedule = spec.schedule().for_matrices(len(self.matrices))
        self.criterion = criterion_of(spec, [each.path for each in self.matrices])
        self.statistics = ImportanceStatistics(spec)
        self.mask: torch.Tensor | None = None
        self.history: list[AllocationReport] = []
        self.ranks_over_time = RankHistory(len(self.matrices))
        self.last_step: int | None = None
        self.target_reached = False
        self.without_gradient: torch.Tensor | None = None
        self._slots = [
            (factor, matrix.adapter_name)
            for matrix in self.matrices
            for factor in (matrix.lora_A, matrix.lora_E, matrix.lora_B)
        ]

    def parameters(self) -> list[torch.Tensor]:
        """Return the current A, E and B of every matrix."""
        return [factor[name] for factor, name in self._slots]  # type: ignore[misc]  # never None

    @property
    def is_frozen(self) -> bool:
        """Whether no factor requires a gradient."""
        return not any(factor[name].requires_grad for factor, name in self._slots)  # type: ignore[union-attr]  # never None

    @property
    def phase(self) -> Phase:
        """The phase of the last step, WARMUP before the first."""
        return self._at(0 if self.last_step is None else self.last_step).phase

    def _at(self, step: int) -> ScheduledStep:
        """Return what is in force at `step`: the final phase once the target is reached."""
        return self.schedule.at(
            max(step, self.schedule.final_start) if self.target_reached else step
        )

    @property
    def budget(self) -> int:
        """Triplets that all matrices together may keep now."""
        if self.mask is None:
            return sum(matrix.rank for matrix in self.matrices)
        return int(self.mask.sum())

    def spent_parameters(self) -> int:
        """Return the parameters of the A and B of the triplets that are kept; one device read."""
        each = costs(self.parameters())
        return sum(map(operator.mul, self.active_ranks().values(), each))

    def step(self, step: int) -> AllocationReport:
        """Update the averages, and at an allocation step the kept set, after the optimizer's step.

        E changes in place: dropped triplets become zero.

        Raises:
            ValueError: `step` is negative.
        """
        if step < 0:
            raise ValueError(
                f"update_and_allocate: step must be the 0-based optimizer step, got {step}"
            )
        factors = self._factors()
        now = self._at(step)
        skipped: int | torch.Tensor = 0
        allocated = now.allocates
        if now.phase is Phase.FINAL:
            # The first final step may be missing (uneven accumulation, a resumed run).
            allocated = not self.target_reached
            self._enforce_target(factors)
        elif allocated:
            skipped, scores = self.criterion.observe_and_score(factors)
            self._keep_best(factors, scores, now.budget)
        else:
            skipped = self.criterion.observe(factors)
        self.last_step = step
        report = AllocationReport(step, now.phase, now.budget, allocated, skipped)
        if allocated:
            self.history.append(report)
        return report

    def finalize(self) -> None:
        """Enforce the target budget now, whatever the phase; the kept set is then final.

        A run whose `tfinal` is 0 needs this call at its end: no 0-based step is in its final phase.
        """
        if not self.target_reached:
            step = 0 if self.last_step is None else self.last_step
            budget = self.schedule.target_budget
            self.history.append(AllocationReport(step, Phase.FINAL, budget, True, 0))
        self._enforce_target(self._factors())

    def keep_all(self) -> None:
        """Keep every triplet that is left, after the dropped ones were cut out."""
        values = self.parameters()[1::3]
        total = sum(int(each.shape[0]) for each in values)
        self.mask = torch.ones(total, dtype=torch.bool, device=values[0].device)

    def observe_into(self, statistics: ImportanceStatistics) -> None:
        """Update other averages than those of this allocator, which stays as it is."""
        self.criterion.observe(self._factors(statistics))

    def _factors(self, statistics: ImportanceStatistics | None = None) -> Factors:
        parameters = self.parameters()
        kind = ShardedFactors if are_sharded(parameters) else Factors
        return kind(parameters, statistics or self.statistics)

    def _enforce_target(self, factors: Factors) -> None:
        if self.target_reached and self.mask is not None:
            factors.apply(self.mask)
            return
        scores = self.criterion.scores(factors)
        self._keep_best(factors, scores, self.schedule.target_budget, spares=False)
        self.statistics.release()
        self.target_reached = True

    def _keep_best(
        self, factors: Factors, scores: torch.Tensor, budget: int, *, spares: bool = True
    ) -> None:
        """Choose the kept set.

        Matrices whose E had no gradient so far, such as an expert that got no token yet, come last:
        the penalty alone gives their A and B a sensitivity. With `spares` their singular values
        stay as they are until the first gradient.
        """
        spared: torch.Tensor | None = None
        self.without_gradient = None
        if self.criterion.keeps_averages and self.matrices:
            sums = factors.sums_of_E()
            if not (sums.is_cpu and all(sums.tolist())):  # another device is not waited for
                # Where no E had a gradient, the averages know nothing of it.
                lacking = (sums == 0) & (sums != 0).any(0, keepdim=True)
                if 0 in factors.ranks:  # a loaded adapter; what has no triplet lacks nothing
                    lacking &= lacking.new_tensor([rank > 0 for rank in factors.ranks])
                self.without_gradient = lacking
                unseen = self.statistics.per_triplet(lacking, factors.ranks)
                scores = scores.masked_fill(unseen, -1)
                spared = unseen if spares else None
        budget = self.criterion.affordable(factors, scores, budget)
        self.mask = factors.keep_best(scores, budget, spared)
        self.ranks_over_time.record(self.mask, factors.ranks)

    # --- reading the result ---------------------------------------------------------------------

    def kept(self) -> dict[str, list[bool]]:
        """Return which triplets each matrix keeps, `{module path: [kept]}`; one device read."""
        ranks = [matrix.rank for matrix in self.matrices]
        flat = [True] * sum(ranks) if self.mask is None else self.mask.tolist()
        kept: dict[str, list[bool]] = {}
        start = 0
        for matrix, rank in zip(self.matrices, ranks, strict=True):
            kept[matrix.path] = flat[start : start + rank]
            start += rank
        return kept

    def rank_history(self) -> dict[str, list[int]]:
        """Return the rank of each matrix after every allocation, in the order of `history`."""
        columns = self.ranks_over_time.rows().T.tolist()
        return {matrix.path: ranks for matrix, ranks in zip(self.matrices, columns, strict=True)}

    def triplet_scores(self) -> dict[str, torch.Tensor]:
        """Return the score that each triplet has now, dropped ones too, `{module path: [r]}`.

        Empty where the criterion needs averages and there are none: before the first step, and in
        the final phase. Every process of a sharded model has to make this call. A function that
        scores is called.
        """
        if self.criterion.keeps_averages and not self.statistics.smoothed:
            return {}
        factors = self._factors()
        scores = self.criterion.scores(factors).split(factors.ranks)
        return {matrix.path: each for matrix, each in zip(self.matrices, scores, strict=True)}

    def active_ranks(self) -> dict[str, int]:
        """Return how many triplets each matrix keeps, `{module path: rank}`."""
        return {path: sum(flags) for path, flags in self.kept().items()}


class RankHistory:
    """A table of ranks with a row per allocation and a column per matrix, two bytes a cell.

    An allocation only adds its mask. The ranks of many masks are counted at once, or when the table
    is read, so that a step costs nothing.
    """

    def __init__(self, matrix_count: int) -> None:
        self._counted = torch.zeros(0, matrix_count, dtype=torch.int16)
        self._masks: list[torch.Tensor] = []
        self._ranks: list[int] = []

    def record(self, mask: torch.Tensor, ranks: Sequence[int]) -> None:
        """Add a row: how many of its `ranks` triplets each matrix keeps in `mask`, a new tensor."""
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
