"""The orthogonality penalty against its oracle and against PEFT's formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from penalty_factors import MODELS, make
from tolerances import DTYPES, assert_all_close

from adalora_core import ops, reference


def run(op: Any, As: list[torch.Tensor], Bs: list[torch.Tensor]) -> list[torch.Tensor]:
    leaves = [each.detach().requires_grad_() for each in (*As, *Bs)]
    penalty = op(leaves[: len(As)], leaves[len(As) :])
    return [penalty, *torch.autograd.grad(penalty * 3, leaves)]


def check_against_oracle(As: list[torch.Tensor], Bs: list[torch.Tensor]) -> None:
    found = run(ops.orthogonality_penalty, As, Bs)
    oracle = run(
        reference.orthogonality_penalty, [A.double() for A in As], [B.double() for B in Bs]
    )
    assert {each.dtype for each in found} == {As[0].dtype}
    assert_all_close(found, oracle, As[0].dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", MODELS)
def test_penalty_and_gradients_equal_the_oracle(
    model: list[tuple[int, int, int]], dtype: torch.dtype
) -> None:
    check_against_oracle(*make(model, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_factors_equal_the_oracle(dtype: torch.dtype) -> None:
    As, Bs = make([(33, 12, 47), (600, 5, 700)], dtype)
    As = [A.T.contiguous().T for A in As]
    Bs = [torch.stack([B, B], dim=2)[..., 0] for B in Bs]
    check_against_oracle(As, Bs)


def test_factors_of_many_shapes_get_their_own_gradients_whatever_the_order() -> None:
    model = [(7, 3, 11), (33, 12, 7), (7, 3, 5), (11, 3, 7), (7, 3, 11), (3, 7, 3)]
    check_against_oracle(*make(model, torch.float64))


@pytest.mark.parametrize("rank", range(1, 30))
def test_every_rank_equals_the_oracle(rank: int) -> None:
    check_against_oracle(*make([(530, rank, 37), (3, rank, 515)], torch.float64))


def test_a_hand_computed_case() -> None:
    # A A^T - I = [[3, 0], [0, 0]]: norm 3; B^T B - I = [[0, 1], [1, 0]]: norm sqrt(2)
    A = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    B = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    penalty = ops.orthogonality_penalty([A], [B])
    assert penalty.item() == pytest.approx((3 + 2**0.5) / 2)


def test_orthonormal_factors_have_gradient_zero() -> None:
    found = run(ops.orthogonality_penalty, [torch.eye(3)], [torch.eye(3)])
    assert [each.abs().max().item() for each in found] == [0.0, 0.0, 0.0]


def test_a_factor_that_is_not_a_number_is_not_hidden() -> None:
    As, Bs = make([(7, 3, 11)], torch.float32)
    As[0][1, 2] = float("nan")
    penalty, grad_A, grad_B = run(ops.orthogonality_penalty, As, Bs)
    assert penalty.isnan()
    assert grad_A.isnan().any()
    assert not grad_B.isnan().any()


def test_gradcheck_of_both_orders_passes() -> None:
    As, Bs = make([(7, 3, 11), (5, 2, 4)], torch.float64)
    leaves = [each.requires_grad_() for each in (*As, *Bs)]

    def function(*factors: torch.Tensor) -> torch.Tensor:
        return ops.orthogonality_penalty(factors[:2], factors[2:])

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_factors_of_two_dtypes_are_summed_in_the_wider_one() -> None:
    As, Bs = make([(7, 3, 11), (7, 3, 11), (5, 2, 4)], torch.float64)
    As[1], Bs[1], Bs[2] = As[1].float(), Bs[1].float(), Bs[2].float()
    found = run(ops.orthogonality_penalty, As, Bs)
    oracle = run(
        reference.orthogonality_penalty, *([e.double() for e in each] for each in (As, Bs))
    )
    assert [each.dtype for each in found] == [torch.float64, *(each.dtype for each in (*As, *Bs))]
    assert_all_close(found, oracle, torch.float32)
    compiled = torch.compile(ops.orthogonality_penalty, backend="aot_eager", fullgraph=True)
    assert_all_close(run(compiled, As, Bs), found, torch.float32)
    leaves = [each.requires_grad_() for each in (*As, *Bs)]
    penalty = ops.orthogonality_penalty(leaves[:3], leaves[3:])
    again = torch.autograd.grad(penalty * 3, leaves, create_graph=True)
    assert_all_close(again, found[1:], torch.float32)


def test_frozen_factors_get_no_gradient() -> None:
    As, Bs = make([(7, 3, 11)], torch.float32)
    ops.orthogonality_penalty([As[0].requires_grad_()], Bs).backward()
    assert As[0].grad is not None
    assert Bs[0].grad is None


def test_no_matrix_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="orthogonality_penalty: "):
        ops.orthogonality_penalty([], [])


def test_unequal_lists_are_refused() -> None:
    As, Bs = make([(7, 3, 11), (5, 2, 4)], torch.float32)
    with pytest.raises(ValueError, match="orthogonality_penalty: lora_Bs must be as many"):
        ops.orthogonality_penalty(As, Bs[:1])


@pytest.mark.cpu_core
@pytest.mark.usefixtures("op_backend")
@pytest.mark.slow
def test_compiled_graph_equals_eager_forward_and_backward() -> None:
    As, Bs = make([(7, 3, 11), (5, 2, 4)], torch.float32)
    eager = run(ops.orthogonality_penalty, As, Bs)
    compiled = run(torch.compile(ops.orthogonality_penalty, fullgraph=True), As, Bs)
    assert_all_close(compiled, eager, torch.float32)


@pytest.mark.cpu_core
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of opcheck, torch 2.15
def test_registered_ops_pass_opcheck() -> None:
    As, Bs = make([(7, 3, 11), (5, 2, 4)], torch.float32)
    wanted = [[each.requires_grad_() for each in factors] for factors in (As, Bs)]
    torch.library.opcheck(torch.ops.adalora_core.orthogonality_penalty, wanted)
    penalty, grams, norms = torch.ops.adalora_core.orthogonality_penalty(*wanted)
    plain = [[each.detach() for each in factors] for factors in wanted]
    torch.library.opcheck(
        torch.ops.adalora_core.orthogonality_gradient,
        (torch.ones_like(penalty.detach()), *plain, grams.detach(), norms.detach()),
    )
