"""The averages of the allocator: what they cost, and what they follow."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from tolerances import assert_all_equal
from torch import nn

from adalora_core.allocation import AdaptedMatrix, ImportanceStatistics, RankAllocator
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.ops import _backend

SPEC = AdapterSpec(init_r=6, target_r=2, tinit=2, tfinal=5, total_step=20, deltaT=2)
WIDTHS = [(500, 700), (300, 400), (800, 200)]


def factors(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    shapes = [shape for n_in, n_out in WIDTHS for shape in ((6, n_in), (6, 1), (n_out, 6))]
    return [nn.Parameter(torch.randn(shape).to(dtype)) for shape in shapes]


def with_gradients(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    for each in parameters:
        each.grad = torch.randn_like(each)
    return parameters


def followed(average: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """Return the average that has seen the parameter and its gradient."""
    return SPEC.beta1 * average + (1 - SPEC.beta1) * (parameter * parameter.grad).abs().detach()


def allocator_of(parameters: list[nn.Parameter]) -> RankAllocator:
    stores = [{"default": each} for each in parameters]
    matrices = [
        AdaptedMatrix(f"m{i}", *stores[3 * i : 3 * i + 3], "default") for i in range(len(WIDTHS))
    ]
    return RankAllocator(SPEC, matrices)


def living_bytes() -> int:
    """Return the bytes of all tensors of the process, shared memory counted once."""
    gc.collect()
    storages = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
        for each in gc.get_objects()
        if type(each) in (torch.Tensor, nn.Parameter)
    }
    return sum(storages.values())


def test_an_allocator_holds_two_averages_and_nothing_else_of_parameter_size() -> None:
    parameters = with_gradients(factors())
    entries = sum(each.numel() for each in parameters)
    made = allocator_of(parameters)
    before = living_bytes()
    for step in range(6):
        made.step(step)
    averages = 2 * 4 * entries
    assert averages <= living_bytes() - before < averages + 2000  # the mask, the rank history
    made.step(16)
    assert living_bytes() - before < 2000


class Counting:
    """The core, counting the calls of each of its functions."""

    def __init__(self, core: Any) -> None:
        self.core = core
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self.core, name)


def test_an_allocation_step_makes_two_native_calls_and_others_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting = Counting(_backend.core)
    monkeypatch.setattr(_backend, "core", counting)
    made = allocator_of(with_gradients(factors()))
    calls = {}
    for step in range(20):
        counting.calls.clear()
        report = made.step(step)
        calls.setdefault((report.phase.name, report.allocated), []).append([*counting.calls])
    both, one = ["update_importance", "select_triplets"], ["update_importance"]
    assert all(each == one for each in calls["WARMUP", False] + calls["BUDGETING", False])
    assert all(each == both for each in calls["BUDGETING", True])
    assert all(each == ["apply_mask"] for each in calls["FINAL", False])


def test_averages_follow_parameters_to_another_dtype() -> None:
    parameters = with_gradients(factors())
    statistics = ImportanceStatistics(SPEC)
    statistics.observe(parameters)
    before = [each.double() for each in statistics.smoothed]
    moved = with_gradients([nn.Parameter(each.detach().double()) for each in parameters])
    statistics.observe(moved)
    assert_all_equal(statistics.smoothed, map(followed, before, moved))


def test_averages_follow_parameters_to_another_device() -> None:
    statistics = ImportanceStatistics(SPEC)
    statistics.observe(with_gradients(factors()))
    statistics.prepare([each.to("meta") for each in factors()])
    assert {each.device.type for each in statistics.smoothed} == {"meta"}
    assert [each.shape for each in statistics.smoothed] == [each.shape for each in factors()]


@pytest.mark.parametrize("starts_mixed", [False, True])
def test_averages_follow_the_matrices_that_move_and_no_others(starts_mixed: bool) -> None:
    parameters = factors()
    if starts_mixed:
        parameters[6:] = factors(torch.bfloat16)[6:]
        parameters[:3] = factors(torch.float64)[:3]
    statistics = ImportanceStatistics(SPEC)
    statistics.observe(with_gradients(parameters))
    before = [each.clone() for each in statistics.smoothed]
    moved = [*parameters[:3], *(nn.Parameter(each.detach().double()) for each in parameters[3:])]
    statistics.observe(with_gradients(moved))
    assert_all_equal(
        statistics.smoothed,
        [followed(old.to(new.dtype), new) for old, new in zip(before, moved, strict=True)],
    )
    statistics.prepare([*moved[:3], *(each.to("meta") for each in moved[3:])])
    assert [each.device.type for each in statistics.smoothed] == ["cpu"] * 3 + ["meta"] * 6


def test_parameters_of_two_dtypes_have_averages_of_their_own_dtypes() -> None:
    mixed = with_gradients([*factors(), *factors(torch.float64)])
    plain = [factors(), factors(torch.float64)]
    statistics = ImportanceStatistics(SPEC)
    apart = [ImportanceStatistics(SPEC) for _ in plain]
    for each, half in zip(apart, (mixed[:9], mixed[9:]), strict=True):
        each.observe(half)
    statistics.observe(mixed)
    expected = [*apart[0].smoothed, *apart[1].smoothed]
    assert [each.dtype for each in statistics.smoothed] == [each.dtype for each in expected]
    assert_all_equal(statistics.smoothed, expected)


def test_gradients_are_those_of_the_moment_of_the_call() -> None:
    parameters = factors()
    optimizer = torch.optim.SGD(parameters, 0.0)
    statistics = ImportanceStatistics(SPEC)
    expected = [torch.zeros_like(each) for each in parameters]
    for set_to_none in (True, False, True):
        sum(each.square().sum() for each in parameters).backward()  # type: ignore[union-attr]
        statistics.observe(parameters)
        expected = list(map(followed, expected, parameters))
        optimizer.zero_grad(set_to_none=set_to_none)
        for each in parameters:
            each.data = each.detach() * 2  # another storage under the same parameter
    optimizer.zero_grad(set_to_none=True)
    assert statistics.observe(parameters) == 0
    assert_all_equal(statistics.smoothed, expected)


def test_restored_averages_are_those_that_were_read() -> None:
    parameters = with_gradients(factors())
    statistics, other = ImportanceStatistics(SPEC), ImportanceStatistics(SPEC)
    statistics.observe(parameters)
    other.restore(statistics.smoothed, statistics.uncertainty)
    for each in (statistics, other):
        each.observe(parameters)
    assert_all_equal(other.uncertainty, statistics.uncertainty)


@pytest.mark.parametrize("dtypes", [(torch.float32,) * 2, (torch.float32, torch.float64)])
@pytest.mark.parametrize("restores", [False, True])
def test_averages_made_in_inference_mode_are_updated_outside_of_it(
    dtypes: tuple[torch.dtype, torch.dtype], restores: bool, op_backend: str
) -> None:
    del op_backend
    parameters = with_gradients([*factors(dtypes[0])[:3], *factors(dtypes[1])[3:]])
    results = []
    for inference in (False, True):
        statistics = ImportanceStatistics(SPEC)
        with torch.inference_mode(inference):
            statistics.observe(parameters)
            if restores:
                saved = [[each.clone() for each in statistics.smoothed] for _ in range(2)]
                statistics.restore(*saved)
        statistics.observe(parameters)
        results.append([*statistics.smoothed, *statistics.uncertainty])
    assert_all_equal(*results)


@pytest.mark.parametrize("wide", [[], [0], [1]])
def test_sums_of_e_are_those_of_the_matrices_in_their_order(wide: list[int]) -> None:
    parameters = factors()
    for matrix in wide:
        for place in range(3 * matrix, 3 * matrix + 3):
            parameters[place] = nn.Parameter(parameters[place].detach().double())
    statistics = ImportanceStatistics(SPEC)
    statistics.observe(with_gradients(parameters))
    expected = [float(each.sum()) for each in statistics.smoothed[1::3]]
    assert statistics.sums_of_E().tolist() == pytest.approx(expected)
