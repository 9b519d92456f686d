"""adapted_linear: a linear layer followed by svd_linear, as one node of the graph."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tolerances import DTYPES, assert_all_close, assert_close
from torch.nn import functional

from adalora_core import ops

# (leading dimensions, in, rank, out)
SHAPES = [
    ((5,), 7, 3, 11),
    ((2, 3), 33, 12, 47),
    ((4,), 8, 0, 6),
    ((0,), 8, 3, 6),
    ((3, 0), 8, 3, 6),
    ((), 9, 2, 4),
    ((2, 40), 515, 24, 130),
]
SCALE = 0.7


def make(
    shape: tuple[Any, ...],
    dtype: torch.dtype = torch.float32,
    factors_dtype: torch.dtype | None = None,
    *,
    bias: bool = True,
) -> dict[str, Any]:
    """Return the arguments; what is trained wants a gradient."""
    torch.manual_seed(0)
    lead, n_in, rank, n_out = shape
    factors_dtype = factors_dtype or dtype
    return {
        "x": torch.randn(*lead, n_in).to(dtype).requires_grad_(),
        "weight": (torch.randn(n_out, n_in) * 0.1).to(dtype),
        "bias": torch.randn(n_out).to(dtype) if bias else None,
        "A": (torch.randn(rank, n_in) * 0.1).to(factors_dtype).requires_grad_(),
        "E": torch.randn(rank, 1).to(factors_dtype).requires_grad_(),
        "B": (torch.randn(n_out, rank) * 0.1).to(factors_dtype).requires_grad_(),
    }


def two_ops(*, x: Any, weight: Any, bias: Any, dropout: float = 0.0, **factors: Any) -> Any:
    """What the op stands for."""
    return ops.svd_linear(
        functional.linear(x, weight, bias), x, **factors, scale=SCALE, dropout=dropout
    )


def check_against_two_ops(given: dict[str, Any]) -> None:
    output, expected = ops.adapted_linear(**given, scale=SCALE), two_ops(**given)
    assert torch.equal(output, expected)
    assert type(output.grad_fn).__name__ == "AdapterNodeBackward"
    found, wanted = gradients(output, given), gradients(expected, given)
    assert [each.dtype for each in found] == [each.dtype for each in wanted]
    assert_all_close(found, wanted, output.dtype)


def gradients(output: torch.Tensor, given: dict[str, Any]) -> list[torch.Tensor]:
    trained = [each for each in given.values() if each is not None and each.requires_grad]
    torch.manual_seed(1)
    return list(torch.autograd.grad(output, trained, torch.randn(output.shape).to(output.dtype)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_equals_the_two_ops(shape: tuple[Any, ...], dtype: torch.dtype, bias: bool) -> None:
    check_against_two_ops(make(shape, dtype, bias=bias))


@pytest.mark.parametrize("factors_dtype", [torch.float32, torch.float64])
def test_a_finer_adapter_on_a_bfloat16_layer(factors_dtype: torch.dtype) -> None:
    given = make(((6, 5), 70, 12, 40), torch.bfloat16, factors_dtype)
    assert ops.adapted_linear(**given, scale=SCALE).dtype == torch.bfloat16
    check_against_two_ops(given)


def of_the_trained(given: dict[str, Any]) -> tuple[Callable[..., torch.Tensor], list[Any]]:
    """Return the op as a function of what is trained, and that."""
    trained = {name: each for name, each in given.items() if name not in {"weight", "bias"}}

    def function(*tensors: torch.Tensor) -> torch.Tensor:
        return ops.adapted_linear(**given | dict(zip(trained, tensors, strict=True)), scale=SCALE)

    return function, list(trained.values())


def test_first_and_second_derivatives() -> None:
    function, inputs = of_the_trained(make(((5,), 7, 3, 11), torch.float64))
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_gradients_with_a_graph_of_their_own_are_the_same() -> None:
    given = make(((5,), 7, 3, 11), torch.float64)
    output = ops.adapted_linear(**given, scale=SCALE)
    trained = [each for each in given.values() if each.requires_grad]
    grad = torch.randn_like(output)
    plain = torch.autograd.grad(output, trained, grad, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(output, trained, grad, create_graph=True), plain)


WANTED = [each for each in itertools.product([False, True], repeat=4) if any(each)]


@pytest.mark.parametrize("wanted", WANTED)
def test_only_what_is_wanted_gets_a_gradient(wanted: tuple[bool, ...]) -> None:
    given = make(((2, 6), 8, 3, 5))
    for name, is_wanted in zip("xAEB", wanted, strict=True):
        given[name].requires_grad_(is_wanted)
    ops.adapted_linear(**given, scale=SCALE).sum().backward()
    assert [given[name].grad is not None for name in "xAEB"] == [*wanted]


def test_dropout_drops_what_it_drops_for_svd_linear() -> None:
    given = make(((40,), 30, 4, 20))
    results = []
    for op in (lambda **each: ops.adapted_linear(**each, scale=SCALE), two_ops):
        torch.manual_seed(3)
        output = op(**given, dropout=0.4)
        results.append([output, *gradients(output, given)])
    assert not torch.equal(results[0][0], ops.adapted_linear(**given, scale=SCALE))
    assert_all_close(*results, torch.float32)


@pytest.mark.parametrize("change", ["transposed x", "expanded gradient"])
def test_layouts_that_are_no_matrix(change: str) -> None:
    given = make(((4, 6), 8, 3, 5))
    if change == "transposed x":
        given["x"] = torch.randn(6, 4, 8).transpose(0, 1).requires_grad_()
    output, expected = ops.adapted_linear(**given, scale=SCALE), two_ops(**given)
    assert_close(output, expected, torch.float32)
    trained = [each for each in given.values() if each.requires_grad]
    # The gradient of a sum is one number, seen in every place.
    found, wanted = (torch.autograd.grad(each.sum(), trained) for each in (output, expected))
    assert_all_close(found, wanted, torch.float32)


def test_output_may_be_written_in_place_as_that_of_a_linear_layer() -> None:
    given = make(((2, 6), 8, 3, 5))
    output = ops.adapted_linear(**given, scale=SCALE)
    expected = gradients(output.relu(), given)
    written = ops.adapted_linear(**given, scale=SCALE).relu_()
    assert all(map(torch.equal, gradients(written, given), expected))


def test_a_weight_that_changes_before_the_backward_pass_is_noticed() -> None:
    given = make(((6,), 8, 3, 5))
    output = ops.adapted_linear(**given, scale=SCALE)
    given["weight"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_layer_that_is_trained_is_refused(name: str) -> None:
    given = make(((6,), 8, 3, 5))
    given[name].requires_grad_()
    with pytest.raises(ValueError, match=f"adapted_linear: {name} must be frozen"):
        ops.adapted_linear(**given, scale=SCALE)


def test_autocast_computes_as_a_linear_layer_under_it() -> None:
    given = make(((6,), 8, 3, 5))
    with torch.autocast("cpu", torch.bfloat16):
        output, expected = ops.adapted_linear(**given, scale=SCALE), two_ops(**given)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, expected)


def test_a_backward_pass_under_autocast_has_the_dtypes_of_the_forward_pass() -> None:
    given = make(((2, 6), 8, 3, 5))
    output = ops.adapted_linear(**given, scale=SCALE)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(output, given)
    assert {each.dtype for each in found} == {torch.float32}


def test_without_gradients_no_graph_is_made() -> None:
    given = make(((2, 6), 8, 3, 5))
    with torch.no_grad():
        output = ops.adapted_linear(**given, scale=SCALE)
    assert not output.requires_grad
    assert torch.equal(output, two_ops(**given))


def test_compiled_it_equals_the_eager_result() -> None:
    step, inputs = of_the_trained(make(((2, 6), 8, 3, 5)))
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    output, expected = compiled(*inputs), step(*inputs)
    torch.testing.assert_close(output, expected)
    found = torch.autograd.grad(output.sum(), inputs)
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), inputs))


@pytest.mark.cpu_core
@pytest.mark.slow
@pytest.mark.parametrize("of_x", [True, False])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of opcheck, torch 2.15
def test_registered_ops_pass_opcheck(of_x: bool) -> None:
    x, weight, bias, A, E, B = make(((2, 3), 8, 3, 5)).values()
    x = x.detach().requires_grad_(of_x)
    torch.library.opcheck(torch.ops.adalora_core.adapted_linear, (x, weight, bias, A, E, B, SCALE))
    hidden = (x @ A.T).detach()
    arguments = [torch.randn(2, 3, 5), x, hidden, weight, A, E, B, SCALE, of_x]
    plain = [each.detach() if isinstance(each, torch.Tensor) else each for each in arguments]
    torch.library.opcheck(torch.ops.adalora_core.adapted_linear_backward, plain)


@pytest.mark.cpu_core
@pytest.mark.parametrize("trains_x", [True, False])
def test_compiled_it_stays_one_op_of_the_core(trains_x: bool) -> None:
    graphs = []

    def kept(module: torch.fx.GraphModule, _: object) -> Any:
        graphs.append(module)
        return module

    given = make(((2, 6), 8, 3, 5))
    given["x"] = given["x"].detach().requires_grad_(trains_x)
    step, inputs = of_the_trained(given)
    output, expected = torch.compile(step, fullgraph=True, backend=kept)(*inputs), step(*inputs)
    torch.testing.assert_close(output, expected)
    trained = inputs[not trains_x :]
    found = torch.autograd.grad(output.sum(), trained)
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), trained))
    calls = [str(node.target) for node in graphs[0].graph.nodes if node.op == "call_function"]
    assert [each for each in calls if "linear" in each] == ["adalora_core.adapted_linear"]


@pytest.mark.cpu_core
def test_a_module_that_is_loaded_again_keeps_the_ops() -> None:
    importlib.reload(importlib.import_module("adalora_core.ops._cpu"))
    given = make(((2, 6), 8, 3, 5))
    compiled = torch.compile(ops.adapted_linear, fullgraph=True, backend="aot_eager")
    output = compiled(**given, scale=SCALE)
    torch.testing.assert_close(output, ops.adapted_linear(**given, scale=SCALE))
