"""Selection against its oracle: exact budgets, ties, NaN, infinities, dtypes and layouts."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from tolerances import DTYPES, assert_all_equal

from adalora_core import ops, reference

NAN, INF = float("nan"), float("inf")
SCORES = st.lists(
    st.one_of(st.sampled_from([0.0, -0.0, NAN, INF, -INF, 1.0]), st.floats(width=32)), max_size=40
)


def singular_values(ranks: list[int], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.randn(rank, 1).to(dtype) + 10 for rank in ranks]


@settings(deadline=None, max_examples=200)
@given(scores=SCORES, budget=st.integers(0, 45), data=st.data())
def test_selection_equals_the_oracle_on_any_scores(
    scores: list[float], budget: int, data: st.DataObject
) -> None:
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    cut = data.draw(st.integers(0, len(scores)))
    vector = torch.tensor(scores, dtype=dtype)
    ours = singular_values([cut, len(scores) - cut])
    theirs = [each.clone() for each in ours]
    mask = ops.select_triplets(vector, budget, ours)
    assert torch.equal(mask, reference.select_triplets(vector, budget, theirs))
    assert int(mask.sum()) == min(budget, len(scores))
    assert_all_equal(ours, theirs)


def test_ties_go_to_the_lower_position() -> None:
    mask = ops.select_triplets(torch.zeros(6), 4, singular_values([2, 0, 4]))
    assert mask.tolist() == [True] * 4 + [False] * 2


def test_nan_is_kept_last() -> None:
    mask = ops.select_triplets(torch.tensor([NAN, -INF, NAN, 1.0]), 3, singular_values([4]))
    assert mask.tolist() == [True, True, False, True]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("step", [1, 3])
def test_dropped_singular_values_are_zero_and_others_untouched(
    dtype: torch.dtype, step: int
) -> None:
    room = torch.full((4 * step, 1), 2.0, dtype=dtype)
    values = room[::step]
    version = values._version
    mask = ops.select_triplets(torch.tensor([1.0, 4.0, 2.0, 3.0]), 2, [values])
    assert mask.tolist() == [False, True, False, True]
    assert values.flatten().tolist() == [0.0, 2.0, 0.0, 2.0]
    assert int((room == 0).sum()) == 2
    assert values._version > version


def test_singular_values_of_two_dtypes_are_masked_alike() -> None:
    values = [*singular_values([2]), *singular_values([1, 2], torch.float64)]
    before = torch.cat([each.flatten().double() for each in values])
    mask = ops.select_triplets(torch.tensor([1.0, 4.0, 2.0, 3.0, 0.0]), 2, values)
    assert mask.tolist() == [False, True, False, True, False]
    assert [each.dtype for each in values] == [torch.float32, torch.float64, torch.float64]
    after = torch.cat([each.flatten().double() for each in values])
    assert torch.equal(after, before * mask)


def test_a_dropped_value_that_is_not_a_number_is_zero() -> None:
    values = [torch.tensor([[NAN], [INF], [2.0]])]
    ops.apply_mask(torch.tensor([False, False, True]), values)
    assert values[0].flatten().tolist() == [0.0, 0.0, 2.0]


def test_apply_mask_equals_the_oracle_and_raises_the_version() -> None:
    ours = singular_values([3, 0, 2])
    theirs = [each.clone() for each in ours]
    mask = torch.tensor([True, False, True, False, True])
    version = ours[0]._version
    ops.apply_mask(mask, ours)
    reference.apply_mask(mask, theirs)
    assert_all_equal(ours, theirs)
    assert ours[0]._version > version


def test_a_parameter_can_be_masked_and_its_stale_graph_is_noticed() -> None:
    values = torch.nn.Parameter(torch.ones(2, 1))
    product = (values * values).sum()
    ops.apply_mask(torch.tensor([True, False]), [values])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_a_negative_budget_is_refused_untouched() -> None:
    values = singular_values([2])
    before = values[0].clone()
    with pytest.raises(ValueError, match="select_triplets: budget must be 0 or more, got -1"):
        ops.select_triplets(torch.ones(2), -1, values)
    assert torch.equal(values[0], before)
