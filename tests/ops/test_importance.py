"""The importance pass: bit-equal to PEFT, equal to its oracle, deterministic, safe."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from programs import output_of_python, run_python
from tolerances import DTYPES, assert_all_equal, assert_close

from adalora_core import ops, reference
from adalora_core.ops import _backend
from adalora_core.ops._cuda import update_importance as update_on_gpu

# [(in, r, out) of each matrix]: odd, rank 0 and 1, empty sides, rows longer than a block
MODELS = [
    [(7, 3, 11)],
    [(33, 12, 47), (5, 1, 9), (8, 0, 6)],
    [(8, 0, 6)],
    [(0, 3, 0)],
    [(1500, 12, 900), (17, 600, 13)],
]
BETA1, BETA2 = 0.85, 0.7


def average_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def make(
    model: list[tuple[int, int, int]], dtype: torch.dtype = torch.float32
) -> list[list[torch.Tensor]]:
    """Return parameters, gradients and both averages."""
    shapes = [s for n_in, r, n_out in model for s in ((r, n_in), (r, 1), (n_out, r))]
    average = average_dtype(dtype)
    return [
        [torch.randn(shape).to(dtype) for shape in shapes],
        [torch.randn(shape).to(dtype) for shape in shapes],
        [torch.rand(shape, dtype=average) for shape in shapes],
        [torch.rand(shape, dtype=average) for shape in shapes],
    ]


def copy(lists: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
    return [[each if each is None else each.clone() for each in tensors] for tensors in lists]


def assert_averages_equal(ours: list[list[torch.Tensor]], theirs: list[list[torch.Tensor]]) -> None:
    assert_all_equal([*ours[2], *ours[3]], [*theirs[2], *theirs[3]])


def check_against_oracle(
    ours: list[list[torch.Tensor]], *, updates: int = 1, skipped: int = 0
) -> None:
    """Update the averages; each update has to skip so many entries."""
    theirs = copy(ours)
    dtype = ours[2][0].dtype
    rows = sum(len(each) for each in ours[0][1::3])
    scores = [torch.full((rows,), 9.0, dtype=dtype) for _ in range(2)]
    for _ in range(updates):
        assert ops.update_importance(*ours, BETA1, BETA2, scores=scores[0]) == skipped
        assert reference.update_importance(*theirs, BETA1, BETA2, scores=scores[1]) == skipped
    assert_averages_equal(ours, theirs)
    assert_close(*scores, dtype)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_without_scores_any_matrices_are_served(count: int) -> None:
    lists = make([(7, 3, 11), (5, 2, 4), (9, 2, 6)])
    lists[1][-1] = None  # type: ignore[call-overload] # no observation
    flat, theirs = copy(lists), copy(lists)
    for each in (flat, theirs, lists):
        for tensors in each:
            del tensors[:-count]
    averages = [torch.cat([each.flatten() for each in average]) for average in flat[2:]]
    for arguments in ((*flat[:2], *averages), lists):
        assert ops.update_importance(*arguments, BETA1, BETA2) == 0
    reference.update_importance(*theirs, BETA1, BETA2)
    shapes = [each.shape for each in flat[0]]
    assert_averages_equal([[], [], *(ops.averages_of(each, shapes) for each in averages)], theirs)  # type: ignore[list-item] # lists are sequences
    assert_averages_equal(lists, theirs)


def test_matrices_of_several_dtypes_are_served_in_any_order() -> None:
    ours = [
        [*one, *other, one[0].clone()]
        for one, other in zip(make([(7, 3, 11)]), make([(5, 2, 4)], torch.float64), strict=True)
    ]
    ours = [[each[i] for i in (0, 3, 1, 4, 5, 2, 6)] for each in ours]
    theirs = copy(ours)
    assert ops.update_importance(*ours, BETA1, BETA2) == 0
    reference.update_importance(*theirs, BETA1, BETA2)
    assert_averages_equal(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", MODELS)
def test_averages_equal_the_oracle_bit_by_bit_and_scores_closely(
    model: list[tuple[int, int, int]], dtype: torch.dtype
) -> None:
    check_against_oracle(make(model, dtype), updates=3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", MODELS)
def test_flat_averages_and_own_gradients_equal_lists_of_them(
    model: list[tuple[int, int, int]], dtype: torch.dtype
) -> None:
    lists = make(model, dtype)
    parameters = [torch.nn.Parameter(each) for each in lists[0]]
    for parameter, gradient in zip(parameters, lists[1], strict=True):
        parameter.grad = gradient.clone()
    parameters[-1].grad = lists[1][-1] = None
    flat = [torch.cat([each.flatten() for each in average]) for average in lists[2:]]
    versions = [each._version for each in flat]
    rows = sum(rank for _, rank, _ in model)
    scores = [torch.empty(rows, dtype=average_dtype(dtype)) for _ in range(2)]
    for op in (ops.update_importance, without_core):
        op(parameters, None, *flat, BETA1, BETA2, scores=scores[0])
        ops.update_importance(*lists, BETA1, BETA2, scores=scores[1])
    shapes = [each.shape for each in parameters]
    parts = [ops.averages_of(each, shapes) for each in flat]
    assert_averages_equal([*lists[:2], *parts], lists)
    assert_close(*scores, average_dtype(dtype))
    assert all(each._version > version for each, version in zip(flat, versions, strict=True))


def without_core(*arguments: Any, **named: Any) -> int:
    """Update as a device without a compiled backend does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_backend, "HAS_CORE", False)
        return ops.update_importance(*arguments, **named)


def test_flat_averages_of_another_size_are_refused_without_a_core_too() -> None:
    parameters = make([(7, 3, 11)])[0]
    with pytest.raises(
        ValueError, match=r"one entry per entry of the parameters, \[57\], got \[9\]"
    ):
        without_core(parameters, None, torch.zeros(9), torch.zeros(57), BETA1, BETA2)


def test_torch_serves_what_the_kernels_do_not() -> None:
    core = SimpleNamespace(score_room=lambda _each: 0, update_importance=lambda *_each: False)
    ours, theirs = (copy(lists) for lists in [make([(7, 3, 11)])] * 2)
    scores = torch.empty(2, 3)
    update_on_gpu(core, *ours, BETA1, BETA2, scores[0])
    ops.update_importance(*theirs, BETA1, BETA2, scores=scores[1])
    assert_averages_equal(ours, theirs)
    assert_close(*scores, torch.float32)


def test_the_version_of_every_average_is_raised() -> None:
    lists = make([(7, 3, 11)])
    scores = torch.empty(3)
    written = [*lists[2], *lists[3], scores]
    before = [each._version for each in written]
    ops.update_importance(*lists, BETA1, BETA2, scores=scores)
    assert [each._version for each in written] == [each + 1 for each in before]


def test_scores_do_not_change_the_averages() -> None:
    ours, theirs = (copy(lists) for lists in [make([(1500, 12, 900)])] * 2)
    ops.update_importance(*ours, BETA1, BETA2)
    ops.update_importance(*theirs, BETA1, BETA2, scores=torch.empty(12))
    assert_averages_equal(ours, theirs)


def test_averages_are_bit_equal_to_those_of_peft() -> None:
    from peft.tuners.adalora.layer import RankAllocator

    parameters, gradients, smoothed, uncertainty = make([(33, 12, 47), (5, 1, 9)])
    names = [
        f"layer{i // 3}.lora_{factor}.default" for i, factor in zip(range(6), "AEBAEB", strict=True)
    ]
    named = [(name, torch.nn.Parameter(p)) for name, p in zip(names, parameters, strict=True)]
    allocator = SimpleNamespace(
        adapter_name="default", beta1=BETA1, beta2=BETA2, ipt={}, exp_avg_ipt={}, exp_avg_unc={}
    )
    model = SimpleNamespace(named_parameters=lambda: named)
    for tensor in (*smoothed, *uncertainty):
        tensor.zero_()
    for _ in range(5):
        for (_, parameter), gradient in zip(named, gradients, strict=True):
            gradient.normal_()
            parameter.grad = gradient
        RankAllocator.update_ipt(allocator, model)
        ops.update_importance(parameters, gradients, smoothed, uncertainty, BETA1, BETA2)
    assert_all_equal(smoothed, map(allocator.exp_avg_ipt.get, names))
    assert_all_equal(uncertainty, map(allocator.exp_avg_unc.get, names))


@pytest.mark.parametrize("dtype", DTYPES)
def test_entries_that_are_not_finite_are_left_alone_and_counted(dtype: torch.dtype) -> None:
    ours = make([(33, 12, 47)], dtype)
    before = copy(ours)
    ours[1][0][3, 5] = float("inf")
    ours[1][0][0, 0] = float("nan")
    ours[0][1][2, 0] = float("-inf")
    check_against_oracle(ours, skipped=3)
    for average in (2, 3):
        assert ours[average][0][3, 5] == before[average][0][3, 5]
        assert ours[average][1][2, 0] == before[average][1][2, 0]


def test_a_product_that_overflows_counts_as_not_finite() -> None:
    ours = make([(1, 1, 1)])
    ours[0][0].fill_(1e30)
    ours[1][0].fill_(1e30)
    assert ops.update_importance(*ours, BETA1, BETA2) == 1


def test_no_gradient_is_no_observation_but_still_scores() -> None:
    ours = make([(33, 12, 47), (5, 2, 9)])
    ours[1][0] = ours[1][4] = None
    before = ours[2][0].clone()
    check_against_oracle(ours)
    assert torch.equal(ours[2][0], before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_tensors_equal_the_oracle(dtype: torch.dtype) -> None:
    ours = [
        [torch.stack([each, each], dim=2)[..., 0] for each in tensors]
        if index % 2
        else [each.T.contiguous().T for each in tensors]
        for index, tensors in enumerate(make([(700, 12, 47), (33, 3, 9)], dtype))
    ]
    check_against_oracle(ours)


def test_scores_by_hand() -> None:
    # s(E) + mean of a row of s(A) + mean of a column of s(B), with s = smoothed * uncertainty
    smoothed = [torch.tensor([[1.0, 3.0]]), torch.tensor([[5.0]]), torch.tensor([[2.0], [4.0]])]
    uncertainty = [torch.full_like(each, 2.0) for each in smoothed]
    scores = torch.empty(1)
    ops.update_importance(
        smoothed,
        [None] * 3,
        [s.clone() for s in smoothed],
        uncertainty,
        BETA1,
        BETA2,
        scores=scores,
    )
    assert scores.item() == 5 * 2 + (2 * 2 + 3 * 2)


@pytest.mark.parametrize("flat", [True, False])
def test_a_compiled_allocation_equals_the_eager_one(flat: bool) -> None:
    def allocate(lists: Any, scores: torch.Tensor) -> tuple[int, torch.Tensor]:
        skipped = ops.update_importance(*lists, BETA1, BETA2, scores=scores)
        mask = ops.select_triplets(scores, 3, lists[0][1::3])
        ops.apply_mask(mask, lists[0][1::3])
        return skipped, mask

    torch._dynamo.reset()
    eager = make([(7, 3, 11), (5, 2, 4)])
    eager[1][0][0, 0] = float("inf")
    compiled = copy(eager)
    for lists in (eager, compiled):
        lists[0] = [torch.nn.Parameter(each) for each in lists[0]]
        if flat:
            for parameter, gradient in zip(*lists[:2], strict=True):
                parameter.grad = gradient
            lists[1] = None  # type: ignore[call-overload] # their own
            lists[2:] = [torch.cat([e.flatten() for e in each]) for each in lists[2:]]  # type: ignore[assignment] # flat
    scores = [torch.empty(5) for _ in range(2)]
    expected = allocate(eager, scores[0])
    found = torch.compile(allocate, backend="aot_eager", fullgraph=True)(compiled, scores[1])
    assert (found[0], found[1].tolist()) == (1, expected[1].tolist())
    assert_close(*scores, torch.float32)  # the sums of torch have another order
    assert_all_equal((*compiled[0], *compiled[2]), (*eager[0], *eager[2]))


DIGEST = """
import hashlib, sys, torch
from adalora_core import ops
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
def rand(*shape): return torch.randn(*shape)
lists = [[rand(12, 1500), rand(12, 1), rand(9000, 12), rand(20, 50000), rand(20, 1), rand(7, 20)]
         for _ in range(4)]
scores = torch.empty(32)
ops.update_importance(*lists, 0.85, 0.7, scores=scores)
x, A, E, B = rand(333, 770), rand(13, 770) / 9, rand(13, 1), rand(500, 13)
leaves = [rand(333, 500), x, A, E, B]
for each in leaves: each.requires_grad_()
output = ops.svd_linear(*leaves, 0.7)
gradients = torch.autograd.grad(output.square().sum(), leaves)
penalty = ops.orthogonality_penalty([A, x], [B, rand(30000, 5)])
gradients += torch.autograd.grad(penalty, [A, B])
def digest(tensors):
    whole = b"".join(each.detach().numpy().tobytes() for each in tensors)
    return hashlib.sha256(whole).hexdigest()
print(digest([*lists[2], *lists[3], scores]), digest([output, *gradients, penalty]))
"""


def digests(threads: int, isa: str = "") -> list[str]:
    variables = {"ADALORA_CORE_ISA": isa, "OMP_NUM_THREADS": str(threads)}
    return output_of_python("-c", DIGEST, threads, variables=variables).split()


@pytest.mark.cpu_core
@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    one = digests(1)
    assert len(one) == 2
    assert digests(2) == one
    assert digests(5) == one


@pytest.mark.cpu_core
@pytest.mark.slow
def test_averages_and_scores_do_not_depend_on_the_instruction_set() -> None:
    baseline = "baseline" if sys.platform != "darwin" else "generic"
    assert digests(2, baseline)[0] == digests(2)[0]


@pytest.mark.cpu_core
def test_an_unknown_instruction_set_is_refused_by_name() -> None:
    script = "from adalora_core import _cpu; print(_cpu.isa_name())"
    run = run_python("-c", script, variables={"ADALORA_CORE_ISA": "sse9"})
    assert run.returncode == 1
    assert "ADALORA_CORE_ISA must be one of" in run.stderr
    assert "got 'sse9'" in run.stderr
