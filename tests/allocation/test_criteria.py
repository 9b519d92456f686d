"""Criteria: each chooses the triplets that its definition asks for, on problems solved by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from adalora_core.allocation import AdaptedMatrix, RankAllocator
from adalora_core.allocation.criteria import _NAMED
from adalora_core.floor.adapter_spec import CRITERIA, PER_PARAMETER, AdapterSpec
from adalora_core.floor.errors import CriterionError

VALUES = (4.0, -3.0, 1.0, 2.0)
"""The singular values of two matrices with two triplets each."""

GRADIENTS = (0.1, 0.1, 10.0, 1.0)


def allocator(criterion: Any, paths: Sequence[str] = ("m0", "m1"), **changes: Any) -> RankAllocator:
    """Return an allocator of matrices `[2, 2]` of rank 2 that keep one triplet each on average."""
    spec = AdapterSpec(
        **{"init_r": 2, "target_r": 1, "tfinal": 1, "total_step": 4, "deltaT": 9}
        | {"importance_criterion": criterion}
        | changes
    )
    found = []
    for number, path in enumerate(paths):
        values = torch.tensor(VALUES[2 * number % 4 :][:2]).view(2, 1)
        factors = (torch.ones(2, 2), values, torch.ones(2, 2))
        found.append(AdaptedMatrix(path, *({"x": nn.Parameter(f)} for f in factors), "x"))
    return RankAllocator(spec, found)


def test_named_criteria_are_those_that_a_configuration_may_name() -> None:
    assert tuple(_NAMED) == CRITERIA


def give_gradients(made: RankAllocator, of_values: Sequence[float]) -> None:
    for parameter in made.parameters():
        parameter.grad = torch.zeros_like(parameter)
    parts = torch.tensor(of_values).view(-1, 2, 1)
    for each, gradient in zip(made.parameters()[1::3], parts, strict=False):
        each.grad = gradient.clone()


def chosen(made: RankAllocator) -> list[bool]:
    """Return the kept set of a run whose third triplet shrinks after the first step."""
    give_gradients(made, GRADIENTS)
    made.step(0)
    for parameter in made.parameters():
        parameter.grad = None
    with torch.no_grad():
        made.parameters()[4][0] = 0.001
    for step in (1, 2, 3):
        made.step(step)
    return [flag for flags in made.kept().values() for flag in flags]


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        # The largest |p * g| of the first step: 0.4, 0.3, 10, 2.
        pytest.param("sensitivity", [False, False, True, True], id="sensitivity"),
        # The largest |E| now: 4, 3, 0.001, 2.
        pytest.param("magnitude", [True, True, False, False], id="magnitude"),
        # The largest |E| now times the root of the averaged g²: 4 * 0.1, 3 * 0.1, 0.01, 2 * 1.
        pytest.param("snr", [True, False, False, True], id="snr"),
        # The second triplet of each matrix.
        pytest.param(lambda *_: torch.arange(2), [False, True, False, True], id="callable"),
    ],
)
def test_the_choice_is_the_one_found_by_hand(criterion: Any, expected: list[bool]) -> None:
    assert chosen(allocator(criterion)) == expected


def test_a_score_per_parameter_keeps_what_the_parameters_pay_for() -> None:
    spec = AdapterSpec(
        init_r=2, target_r=1, tfinal=1, total_step=3, importance_criterion=PER_PARAMETER
    )
    # A triplet of "small" costs 4 parameters and one of "large" 20, so 24 are for the target.
    sizes = {"small": (2, 2), "large": (16, 4)}
    made = RankAllocator(
        spec,
        [
            AdaptedMatrix(path, *({"x": nn.Parameter(torch.ones(s))} for s in shapes), "x")
            for path, (inputs, outputs) in sizes.items()
            for shapes in [((2, inputs), (2, 1), (outputs, 2))]
        ],
    )
    factors = made._factors()
    factors.ranks = [2, 2]
    scores = torch.tensor([0.1, 0.3, 0.2, 0.4])
    paid = [made.criterion.affordable(factors, scores, budget) for budget in range(5)]
    assert paid == [0, 0, 2, 2, 4]  # 12 parameters each; the costs are 20, 4, 20, 4
    give_gradients(made, (1.0, 3.0, 4.0, 8.0))  # scores as 1, 9, 16, 64
    made.step(0)
    made.finalize()
    assert made.kept() == {"small": [False, True], "large": [False, True]}
    assert made.spent_parameters() == 24


def test_the_ratio_counts_rows_of_a_and_columns_of_b_by_their_means() -> None:
    made = allocator("snr", ["m0"])
    A, E, B = made.parameters()
    A.grad = torch.tensor([[3.0, 1.0], [0.0, 0.0]])
    E.grad = torch.tensor([[0.0], [1.0]])
    B.grad = torch.tensor([[0.0, 2.0], [0.0, 4.0]])
    made.step(0)
    factors = made._factors()
    scores = made.criterion.scores(factors)
    # First: mean(3, 1). Second: 3 * 1 + mean(2, 4). The averages hold 0.15 of each square.
    torch.testing.assert_close(scores, 0.15**0.5 * torch.tensor([2.0, 6.0]))


class TestRandom:
    def order(self, **changes: Any) -> list[float]:
        made = allocator("random", [f"m{number}" for number in range(16)], **changes)
        return made.criterion.scores(made._factors()).tolist()

    def test_the_order_depends_on_the_configuration_alone(self) -> None:
        torch.manual_seed(1)
        first = self.order()
        torch.manual_seed(2)
        assert self.order() == first
        assert sorted(first) == list(range(32))
        assert self.order(total_step=5) != first

    def test_a_dropped_triplet_stays_dropped(self) -> None:
        made = allocator("random", [f"m{number}" for number in range(16)], deltaT=1, total_step=30)
        kept = []
        for step in range(30):
            made.step(step)
            flags = [flag for each in made.kept().values() for flag in each]
            kept.append({number for number, flag in enumerate(flags) if flag})
        assert len(kept[1]) > len(kept[-1]) == 16
        assert all(later <= earlier for earlier, later in pairwise(kept))


@pytest.mark.parametrize("criterion", [*CRITERIA, lambda _, tensors: tensors["lora_E"].flatten()])
def test_the_budget_is_kept_by_every_criterion(criterion: Any) -> None:
    made = allocator(criterion, deltaT=1, total_step=12)
    for step in range(12):
        give_gradients(made, GRADIENTS)
        made.step(step)
        assert made.budget == made.schedule.at(step).budget


@pytest.mark.parametrize("criterion", ["magnitude", "random"])
def test_a_criterion_without_averages_holds_none(criterion: str) -> None:
    made = allocator(criterion)
    give_gradients(made, GRADIENTS)
    made.step(0)
    assert made.statistics.smoothed == []


def test_gradients_that_are_not_finite_leave_the_average_of_squares() -> None:
    made = allocator("snr")
    give_gradients(made, (0.1, torch.nan, torch.inf, 1.0))
    assert made.step(0).skipped_entries == 2
    assert made.statistics.smoothed[1].flatten().tolist() == pytest.approx([0.0015, 0.0])


class TestCallable:
    def test_it_sees_whole_named_factors_and_gradients(self) -> None:
        seen: dict[str, dict[str, torch.Size]] = {}

        def note(path: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
            seen[path] = {name: each.shape for name, each in tensors.items()}
            assert not any(each.requires_grad for each in tensors.values())
            return tensors["lora_E"].flatten()

        made = allocator(note)
        give_gradients(made, GRADIENTS)
        made.parameters()[0].grad = None
        made.step(3)
        shapes = {"lora_A": (2, 2), "lora_E": (2, 1), "lora_B": (2, 2)}
        gradients = {"lora_E.grad": (2, 1), "lora_B.grad": (2, 2)}
        assert seen == {
            "m0": shapes | gradients,
            "m1": shapes | gradients | {"lora_A.grad": (2, 2)},
        }

    @pytest.mark.parametrize(
        ("result", "found"),
        [
            (None, "a NoneType"),
            ([1.0, 2.0], "a list"),
            (torch.ones(2, 1), r"shape \[2, 1\]"),
            (torch.ones(3), r"shape \[3\]"),
            (torch.tensor([1.0, torch.nan]), "1 NaN"),
            (torch.ones(2, dtype=torch.complex64), "complex64"),
            (torch.ones(2, device="meta"), "on meta"),
        ],
        ids=["none", "list", "column", "too-long", "nan", "complex", "device"],
    )
    def test_a_wrong_result_is_an_error_that_names_the_function(
        self, result: Any, found: str
    ) -> None:
        def my_scores(path: str, tensors: Mapping[str, torch.Tensor]) -> Any:
            del tensors
            return result if path == "m1" else torch.ones(2)

        made = allocator(my_scores)
        before = [each.detach().clone() for each in made.parameters()]
        with pytest.raises(CriterionError, match=rf"my_scores should return.*'m1', got .*{found}"):
            made.step(3)
        assert made.mask is None
        for now, then in zip(made.parameters(), before, strict=True):
            assert torch.equal(now, then)

    def test_a_change_in_place_leaves_the_model(self) -> None:
        def my_scores(_: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
            for each in tensors.values():
                each.fill_(7)
            return tensors["lora_E"].flatten()

        made = allocator(my_scores)
        give_gradients(made, GRADIENTS)
        before = [(each.detach().clone(), each.grad.clone()) for each in made.parameters()]  # type: ignore[union-attr] # given
        assert made.triplet_scores()["m0"].tolist() == [7, 7]
        for now, (then, gradient) in zip(made.parameters(), before, strict=True):
            assert torch.equal(now, then)
            assert torch.equal(now.grad, gradient)  # type: ignore[arg-type] # same

    def test_it_works_in_inference_mode(self) -> None:
        made = allocator(lambda _, tensors: tensors["lora_E"].flatten())
        with torch.inference_mode():
            give_gradients(made, GRADIENTS)
            made.step(3)
        assert made.budget == 2

    def test_whole_numbers_and_infinities_are_scores(self) -> None:
        results = {"m0": torch.tensor([1, 2]), "m1": torch.tensor([torch.inf, 0.0])}
        made = allocator(lambda path, _: results[path])
        made.step(3)
        assert made.kept() == {"m0": [False, True], "m1": [True, False]}


class TestTripletScores:
    def test_they_are_those_that_the_allocation_uses(self) -> None:
        made = allocator("sensitivity")
        assert made.triplet_scores() == {}
        give_gradients(made, GRADIENTS)
        made.step(0)
        averages = [each.clone() for each in made.statistics.smoothed]
        scores = made.triplet_scores()
        # Equations 9 to 11 with |p * g| as the first observation, and no gradient of A and B.
        once = torch.tensor([[0.4, 0.3], [10.0, 2.0]])
        expected = 0.15 * once * (0.15 * 0.85 * once)
        torch.testing.assert_close(torch.stack([*scores.values()]), expected)
        assert list(scores) == ["m0", "m1"]
        assert all(map(torch.equal, made.statistics.smoothed, averages))

    def test_the_final_phase_has_none_without_averages(self) -> None:
        for criterion, count in (("sensitivity", 0), ("magnitude", 2)):
            made = allocator(criterion)
            made.finalize()
            assert len(made.triplet_scores()) == count
            assert made.statistics.smoothed == []


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"importance_criterion should be one of.*'no-such-score'"):
        allocator("no-such-score")
