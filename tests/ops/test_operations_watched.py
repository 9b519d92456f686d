"""Where something records or transforms torch's operations, the ops give what plain torch gives."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from tolerances import assert_all_close, assert_close
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from watchers import BACKWARD_WATCHERS, CASES, WATCHERS, gradients, leaves

from adalora_core import ops, reference

IN, RANK, OUT, SCALE = 8, 3, 5, 0.7
MATRIX, SEQUENCE = (6,), (2, 4)


def weight_and_bias(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a frozen layer, made where `x` is: some modes take no tensors from outside."""
    numbers = torch.linspace(-3, 3, OUT * IN, dtype=x.dtype).sin()
    return numbers.view(OUT, IN), numbers[:OUT]


def layer(x: torch.Tensor, *factors: torch.Tensor) -> torch.Tensor:
    return ops.adapted_linear(x, *weight_and_bias(x), *factors, SCALE)  # type: ignore[misc] # three


def layer_in_two(x: torch.Tensor, *factors: torch.Tensor) -> torch.Tensor:
    output = functional.linear(x, *weight_and_bias(x))
    return ops.svd_linear(output, x, *factors, SCALE, inplace=True)  # type: ignore[misc] # three


def plain_layer(x: torch.Tensor, *factors: torch.Tensor) -> torch.Tensor:
    output = functional.linear(x, *weight_and_bias(x))
    return reference.svd_linear(output, x, *factors, SCALE)  # type: ignore[misc] # three


def penalty(x: torch.Tensor, A: torch.Tensor, E: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    return x.sum(-1) + ops.orthogonality_penalty([A], [B]) * E.sum()


def plain_penalty(x: torch.Tensor, A: torch.Tensor, E: torch.Tensor, B: torch.Tensor) -> Any:
    return x.sum(-1) + reference.orthogonality_penalty([A], [B]) * E.sum()


FUNCTIONS = {
    "adapted_linear": (layer, plain_layer),
    "svd_linear": (layer_in_two, plain_layer),
    "orthogonality_penalty": (penalty, plain_penalty),
}


def inputs_of(
    lead: tuple[int, ...], seed: int = 0, dtype: Any = torch.float64
) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    shapes = ((*lead, IN), (RANK, IN), (RANK, 1), (OUT, RANK))
    return [torch.randn(each).to(dtype) for each in shapes]


@pytest.mark.parametrize("watcher", CASES)
@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("lead", [SEQUENCE, pytest.param(MATRIX, marks=pytest.mark.slow)])
def test_it_sees_all_that_plain_torch_shows(lead: tuple[int, ...], op: str, watcher: str) -> None:
    found, expected = (
        WATCHERS[watcher](function, inputs_of(lead), inputs_of(lead, 1))
        for function in FUNCTIONS[op]
    )
    assert_all_close(found, expected, torch.float64)


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("op", ["adapted_linear", "svd_linear"])
@pytest.mark.parametrize("lead", [MATRIX, SEQUENCE])
def test_selective_checkpointing_under_autocast(
    lead: tuple[int, ...], op: str, given: torch.dtype
) -> None:
    def function(*tensors: torch.Tensor) -> torch.Tensor:
        return FUNCTIONS[op][0](*tensors) / 16  # where a sine adds nothing to errors

    x, *factors = inputs_of(lead, dtype=torch.float32)
    inputs = leaves([x.to(given), *factors])
    with torch.autocast(x.device.type, torch.bfloat16):
        found = WATCHERS["selective checkpointing"](function, inputs, inputs)
        output = function(*inputs).sin()
        expected = [output, *torch.autograd.grad(output.sum(), inputs)]
    assert_all_close(found, expected, torch.bfloat16)


def dropped(op: str, x: torch.Tensor, *factors: torch.Tensor) -> torch.Tensor:
    frozen = weight_and_bias(x)
    if op == "adapted_linear":
        return ops.adapted_linear(x, *frozen, *factors, SCALE, dropout=0.4)  # type: ignore[misc] # three
    output = functional.linear(x, *frozen)
    return ops.svd_linear(output, x, *factors, SCALE, dropout=0.4, inplace=True)  # type: ignore[misc] # three


@pytest.mark.parametrize("watcher", BACKWARD_WATCHERS)
@pytest.mark.parametrize("op", ["adapted_linear", "svd_linear"])
@pytest.mark.parametrize("lead", [MATRIX, SEQUENCE])
def test_a_backward_pass_keeps_what_the_forward_pass_dropped(
    lead: tuple[int, ...], op: str, watcher: str
) -> None:
    inputs = leaves(inputs_of(lead))
    output = dropped(op, *inputs)

    def pullback(grad: torch.Tensor) -> Any:
        return torch.autograd.grad(output, inputs, grad, retain_graph=True)

    directions = torch.eye(output.numel(), dtype=output.dtype).view(-1, *output.shape)
    rows = [pullback(each) for each in directions]
    expected = [torch.stack(each) for each in zip(*rows, strict=True)]
    found = BACKWARD_WATCHERS[watcher](pullback, directions)
    assert_all_close(found, expected, torch.float64)


@pytest.mark.parametrize("op", FUNCTIONS)
def test_forward_and_backward_on_a_mode_that_only_looks_are_the_same(op: str) -> None:
    function, plain = FUNCTIONS[op]
    expected = gradients(plain, leaves(inputs_of(SEQUENCE)))
    for forward, backward in ((True, False), (False, True), (True, True)):
        given = leaves(inputs_of(SEQUENCE))
        with Looking() if forward else contextlib.nullcontext():
            loss = function(*given).sin().sum()
        with Looking() if backward else contextlib.nullcontext():
            assert_all_close(torch.autograd.grad(loss, given), expected, torch.float64)


class Looking(TorchDispatchMode):
    """Make every call as it is."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("op", ["adapted_linear", "svd_linear"])
def test_a_second_derivative_under_autocast_has_the_dtypes_of_the_forward_pass(op: str) -> None:
    x, *factors = given = leaves(inputs_of(SEQUENCE, dtype=torch.float32))
    if op == "adapted_linear":
        output = layer(*given)
    else:
        output = ops.svd_linear(torch.zeros(*SEQUENCE, OUT), x, *factors, SCALE)  # type: ignore[misc] # three
    plain = torch.autograd.grad(output.sum(), given, create_graph=True)
    with torch.autocast(x.device.type, torch.bfloat16):
        found = torch.autograd.grad(output.sum(), given, create_graph=True)
    assert_all_close(found, plain, torch.float32)


def test_a_penalty_under_autocast_has_the_precision_of_the_factors() -> None:
    x, A, E, B = leaves(inputs_of(MATRIX, dtype=torch.float32))
    expected = gradients(penalty, [x, A, E, B])
    with torch.autocast(x.device.type, torch.bfloat16):
        assert_all_close(gradients(penalty, [x, A, E, B]), expected, torch.float32)


def test_stacked_factors_and_an_input_without_a_batch() -> None:
    x, *factors = inputs_of(SEQUENCE)
    stacked = [torch.stack([each, each + 1]) for each in factors]
    for function, plain in FUNCTIONS.values():
        found = torch.func.vmap(function, (None, 0, 0, 0))(x, *stacked)
        expected = [plain(x, *(each[index] for each in stacked)) for index in range(2)]
        assert_close(found, torch.stack(expected), torch.float64)


def test_factors_that_are_computed_from_one_another_have_their_own_gradients() -> None:
    x, A, E, _ = leaves(inputs_of(MATRIX))
    for function, plain in FUNCTIONS.values():
        found, expected = (
            torch.autograd.grad(each(x, A, E, A.T[:OUT] * 2).sum(), [x, A, E], create_graph=True)
            for each in (function, plain)
        )
        assert_all_close(found, expected, torch.float64)
