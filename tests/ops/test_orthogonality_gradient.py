"""The penalty's gradient added to `.grad` against the gradient that autograd adds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from penalty_factors import MODELS, make
from tolerances import DTYPES, assert_all_close
from torch import nn

from adalora_core import ops
from adalora_core.ops import _backend

WEIGHT = 1.5
SMALL = [(7, 3, 11), (5, 2, 4)]


def parameters(factors: list[torch.Tensor]) -> list[nn.Parameter]:
    """Return parameters with a gradient, as after the backward pass of a loss."""
    made = [nn.Parameter(each.clone()) for each in factors]
    for each in made:
        each.grad = torch.randn(each.shape).to(each.dtype)
    return made


def same(factors: list[nn.Parameter]) -> list[nn.Parameter]:
    made = [nn.Parameter(each.detach().clone(), each.requires_grad) for each in factors]
    for one, other in zip(made, factors, strict=True):
        one.grad = None if other.grad is None else other.grad.clone()
    return made


def check_against_autograd(factors: list[nn.Parameter], dtype: torch.dtype) -> None:
    matrices = len(factors) // 2
    expected = same(factors)
    penalty = ops.orthogonality_penalty(expected[:matrices], expected[matrices:])
    (penalty * WEIGHT).backward()  # type: ignore[no-untyped-call] # torch types it loosely
    found = ops.add_orthogonality_gradient_(factors[:matrices], factors[matrices:], WEIGHT)
    assert (found.dtype, found.device, found.shape) == (penalty.dtype, penalty.device, ())
    assert not found.requires_grad
    assert_all_close([found], [penalty.detach()], dtype)
    for one, other in zip(factors, expected, strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None and other.grad is not None:
            assert_all_close([one.grad], [other.grad], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_those_that_autograd_adds(
    model: list[tuple[int, int, int]], dtype: torch.dtype
) -> None:
    As, Bs = make(model, dtype)
    check_against_autograd(parameters([*As, *Bs]), dtype)


@pytest.mark.filterwarnings("ignore:grad and param do not obey")  # torch's advice
@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_gradients_are_added_to_in_place(dtype: torch.dtype) -> None:
    As, Bs = make([(33, 12, 47), (600, 5, 700)], dtype)
    factors = parameters([*As, *Bs])
    gradients = []
    for each in factors:
        each.grad = torch.randn(*each.shape[::-1], 2).to(dtype)[..., 0].T
        gradients.append(each.grad)
    check_against_autograd(factors, dtype)
    assert all(each.grad is one for each, one in zip(factors, gradients, strict=True))


def test_a_missing_gradient_is_made_and_a_frozen_factor_gets_none() -> None:
    As, Bs = make(SMALL, torch.float32)
    factors = parameters([*As, *Bs])
    factors[0].grad = None
    factors[1].requires_grad_(False).grad = None
    before = torch.randn(factors[2].shape)
    factors[2].requires_grad_(False).grad = before.clone()
    check_against_autograd(factors, torch.float32)
    assert factors[2].grad is not None
    assert torch.equal(factors[2].grad, before)


def test_frozen_factors_alone_get_no_gradient() -> None:
    As, Bs = make(SMALL, torch.float32)
    penalty = ops.add_orthogonality_gradient_(As, Bs)
    assert_all_close([penalty], [ops.orthogonality_penalty(As, Bs)], torch.float32)
    assert {each.grad for each in (*As, *Bs)} == {None}


def test_factors_of_two_dtypes_get_gradients_of_their_own() -> None:
    As, Bs = make([(7, 3, 11), (7, 3, 11), (5, 2, 4)], torch.float64)
    As[1], Bs[1], Bs[2] = As[1].float(), Bs[1].float(), Bs[2].float()
    check_against_autograd(parameters([*As, *Bs]), torch.float32)


def test_orthonormal_factors_keep_their_gradients() -> None:
    factors = parameters([torch.eye(3), torch.eye(3)])
    before = [each.grad.clone() for each in factors if each.grad is not None]
    assert ops.add_orthogonality_gradient_(factors[:1], factors[1:]) == 0
    assert all(map(torch.equal, before, [each.grad for each in factors]))


def test_a_changed_gradient_is_seen_by_autograd() -> None:
    As, Bs = make(SMALL, torch.float32)
    factors = parameters([*As, *Bs])
    before = [each.grad._version for each in factors if each.grad is not None]
    ops.add_orthogonality_gradient_(factors[:2], factors[2:])
    assert all(
        each.grad._version > version
        for each, version in zip(factors, before, strict=True)
        if each.grad is not None
    )


def test_the_oracle_adds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    As, Bs = make(SMALL, torch.float64)
    factors = parameters([*As, *Bs])
    expected = same(factors)
    ops.add_orthogonality_gradient_(expected[:2], expected[2:], WEIGHT)
    monkeypatch.setattr(_backend, "HAS_CORE", False)
    monkeypatch.setattr(_backend, "CHOICE", "reference")
    ops.add_orthogonality_gradient_(factors[:2], factors[2:], WEIGHT)
    assert_all_close(
        [each.grad for each in factors if each.grad is not None],
        [each.grad for each in expected if each.grad is not None],
        torch.float64,
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda As, Bs: (As, Bs[:1]), "lora_Bs must be as many as lora_As"),
        (lambda As, Bs: (As[:0], Bs[:0]), "lora_Bs must be as many as lora_As"),
        (lambda As, Bs: (As, [Bs[0], Bs[1] * 1]), r"lora_Bs\[1\] must be a parameter"),
    ],
)
def test_what_cannot_get_a_gradient_is_refused_and_nothing_changes(
    spoil: Any, message: str
) -> None:
    As, Bs = make(SMALL, torch.float32)
    factors = parameters([*As, *Bs])
    before = same(factors)
    with pytest.raises(ValueError, match=f"add_orthogonality_gradient_: {message}"):
        ops.add_orthogonality_gradient_(*spoil(factors[:2], factors[2:]))
    assert all(
        torch.equal(one.grad, other.grad)
        for one, other in zip(factors, before, strict=True)
        if one.grad is not None and other.grad is not None
    )


@pytest.mark.cpu_core
def test_gradients_that_share_memory_are_refused() -> None:
    factors = parameters([torch.randn(3, 3), torch.randn(3, 3)])
    factors[0].grad = factors[1].grad
    with pytest.raises(ValueError, match="must be in memory of its own"):
        ops.add_orthogonality_gradient_(factors[:1], factors[1:])
