"""RankAllocator: exact budgets whatever the schedule and the gradients do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from adalora_core.allocation import AdaptedMatrix, RankAllocator
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.budget import Phase

WIDTHS = [(5, 7), (3, 4), (8, 2)]


def matrices(rank: int) -> tuple[list[AdaptedMatrix], list[dict[str, nn.Parameter]]]:
    stores, found = [], []
    for index, (columns, rows) in enumerate(WIDTHS):
        store = {
            "A": nn.Parameter(torch.randn(rank, columns)),
            "E": nn.Parameter(torch.randn(rank, 1)),
            "B": nn.Parameter(torch.randn(rows, rank)),
        }
        stores.append(store)
        views = [{"default": store[each]} for each in "AEB"]
        found.append(AdaptedMatrix(f"m{index}", *views, "default"))
    return found, stores


def allocator(**changes: Any) -> RankAllocator:
    spec = AdapterSpec(
        **{"init_r": 6, "target_r": 2, "tinit": 2, "tfinal": 5, "total_step": 20, **changes}
    )
    return RankAllocator(spec, matrices(spec.init_r)[0])


def run(made: RankAllocator, steps: Any, *, gradients: bool = True) -> list[int]:
    budgets = []
    for step in steps:
        for parameter in made.parameters():
            parameter.grad = torch.randn_like(parameter) if gradients else None
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        made.step(step)
        budgets.append(made.budget)
    return budgets


def live(made: RankAllocator) -> int:
    return sum(int((each != 0).sum()) for each in made.parameters()[1::3])


class TestBudgets:
    def test_every_step_keeps_exactly_what_the_schedule_says(self) -> None:
        made = allocator()
        assert run(made, range(20)) == [made.schedule.at(step).budget for step in range(20)]
        assert live(made) == made.schedule.target_budget == 6

    def test_between_allocations_the_budget_stays(self) -> None:
        made = allocator(deltaT=4)
        budgets = run(made, range(20))
        assert budgets[4:8] == [made.schedule.at(4).budget] * 4
        assert budgets[-1] == 6

    @pytest.mark.parametrize(
        "steps",
        [
            pytest.param(range(0, 40, 7), id="steps-that-jump"),
            pytest.param([*range(14), 19], id="over-the-first-final-step"),
            pytest.param([19], id="only-the-last"),
            pytest.param([*range(20), 19, 19, 25], id="repeated-and-beyond"),
        ],
    )
    def test_the_target_is_reached_in_whatever_steps(self, steps: Any) -> None:
        made = allocator()
        assert run(made, steps)[-1] == 6
        assert live(made) == 6

    def test_an_interval_longer_than_the_window_is_one_cut(self) -> None:
        made = allocator(deltaT=100)
        assert run(made, range(20)) == [18] * 15 + [6] * 5
        assert [report.step for report in made.history] == [15]

    def test_no_gradient_at_all_still_meets_the_budget(self) -> None:
        made = allocator()
        assert run(made, range(20), gradients=False)[-1] == 6
        assert made.active_ranks() == {"m0": 6, "m1": 0, "m2": 0}


class TestFinalPhase:
    def test_the_kept_set_stays_and_dropped_values_stay_zero(self) -> None:
        made = allocator()
        run(made, range(16))
        kept = made.kept()
        run(made, range(16, 20))
        assert made.kept() == kept
        assert live(made) == 6

    def test_the_averages_are_freed(self) -> None:
        made = allocator()
        run(made, range(15))
        assert len(made.statistics.smoothed) == 9
        run(made, [15])
        assert made.statistics.smoothed == made.statistics.uncertainty == []


class TestReading:
    def test_history_and_phase_follow_the_schedule(self) -> None:
        made = allocator()
        assert made.phase is Phase.WARMUP
        run(made, range(20))
        assert made.phase is Phase.FINAL
        assert [report.step for report in made.history] == list(range(3, 16))
        assert [report.budget for report in made.history][-1] == 6

    def test_kept_sets_and_ranks_agree_with_the_singular_values(self) -> None:
        made = allocator()
        run(made, range(20))
        for (path, flags), values in zip(made.kept().items(), made.parameters()[1::3], strict=True):
            assert flags == (values != 0).flatten().tolist()
            assert made.active_ranks()[path] == sum(flags)

    def test_rank_history_has_a_row_per_allocation(self) -> None:
        made = allocator()
        run(made, range(20))
        history = made.rank_history()
        sums = [sum(ranks) for ranks in zip(*history.values(), strict=True)]
        assert sums == [report.budget for report in made.history]
        assert {path: ranks[-1] for path, ranks in history.items()} == made.active_ranks()

    def test_finalize_is_an_entry_of_the_history(self) -> None:
        made = allocator(tfinal=0, deltaT=11)
        run(made, range(20))
        made.finalize()
        made.finalize()
        assert [report.step for report in made.history] == [11, 19]
        assert len(made.rank_history()["m0"]) == 2

    def test_a_negative_step_is_refused(self) -> None:
        with pytest.raises(ValueError, match="0-based"):
            allocator().step(-1)

    def test_a_missing_total_step_is_refused(self) -> None:
        with pytest.raises(ValueError, match="total_step"):
            allocator(total_step=None)


class TestReplacedParameters:
    def test_parameters_that_were_made_anew_are_found(self) -> None:
        found, stores = matrices(6)
        spec = AdapterSpec(init_r=6, target_r=2, tinit=2, tfinal=5, total_step=20)
        made = RankAllocator(spec, found)
        run(made, range(10))
        for matrix, store in zip(found, stores, strict=True):
            for mapping, name in ((matrix.lora_A, "A"), (matrix.lora_E, "E"), (matrix.lora_B, "B")):
                mapping["default"] = nn.Parameter(store[name].detach().clone())
        run(made, range(10, 20))
        assert live(made) == 6
