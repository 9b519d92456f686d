"""What torch.compile makes of the adapter op on a GPU: the same formula, by torch's own ops."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from tolerances import assert_all_close
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from adalora_core import ops, reference

portable = importlib.import_module("adalora_core.ops._portable.svd_linear")
IN, RANK, OUT, SCALE = 8, 3, 5, 0.7


class Products(TorchDispatchMode):
    """Notes in which dtype dense products run."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.mm.default:
            self.dtypes.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("inplace", [False, True])
def test_products_run_in_the_dtype_of_x_as_without_compile(
    inplace: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not the function: Dynamo would learn the substitute for good.
    monkeypatch.setattr(torch.compiler, "_is_compiling_flag", True)
    with FakeTensorMode():
        base, x = (torch.empty(6, size, dtype=torch.bfloat16, device="cuda") for size in (OUT, IN))
        A, E, B = (
            torch.empty(shape, device="cuda") for shape in ((RANK, IN), (RANK, 1), (OUT, RANK))
        )
        with Products() as products:
            output = ops.svd_linear(base, x, A, E, B, SCALE, inplace=inplace)
    assert products.dtypes == [torch.bfloat16, torch.bfloat16]
    assert output is not base, "the compiler decides where outputs go"
    assert output.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", ["formula", "node", "node in place"])
def test_products_in_the_dtype_of_x_and_their_gradients_equal_the_oracle(
    dtype: torch.dtype, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable, "product_dtype", lambda x, _A: x.dtype)  # as on a GPU
    torch.manual_seed(1)  # with 0 the terms of a gradient of E cancel
    factors = [torch.randn(shape) for shape in ((RANK, IN), (RANK, 1), (OUT, RANK))]
    if dtype == torch.float64:
        factors = [each.double() for each in factors]
    leaves = [torch.randn(6, OUT).to(dtype), torch.randn(6, IN).to(dtype), *factors]
    grad = torch.randn(6, OUT).to(dtype)

    def run(op: Any, inputs: list[torch.Tensor], grad: torch.Tensor) -> list[torch.Tensor]:
        inputs = [each.detach().requires_grad_() for each in inputs]
        output = op(inputs[0] * 1.0, *inputs[1:])
        return [output, *torch.autograd.grad(output, inputs, grad)]

    def adapted(base: Any, x: Any, *factors: Any) -> torch.Tensor:
        if way == "formula":
            return portable.formula(base, x, *factors, SCALE, dropout=0.0)  # type: ignore[misc] # three
        return portable.svd_linear(base, x, *factors, SCALE, inplace=way == "node in place")

    found = run(adapted, leaves, grad)
    doubles = [each.double() for each in leaves]
    oracle = run(lambda *each: reference.svd_linear(*each, SCALE), doubles, grad.double())
    assert [each.dtype for each in found] == [each.dtype for each in (leaves[0], *leaves)]
    assert_all_close(found, oracle, dtype)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no GPU; would have compared a compiled step with the kernels of the core",
)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_compiled_step_equals_the_kernels(inplace: bool) -> None:
    shapes = ((6, OUT), (6, IN), (RANK, IN), (RANK, 1), (OUT, RANK))
    tensors = [torch.randn(shape, device="cuda", requires_grad=True) for shape in shapes]

    def step(base: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        output = ops.svd_linear(base * 1.0, *rest, SCALE, inplace=inplace)  # type: ignore[misc]
        return output.square().sum()

    compiled = torch.compile(step, fullgraph=True)
    found, expected = (torch.autograd.grad(f(*tensors), tensors) for f in (compiled, step))
    assert_all_close(found, expected, torch.float32)
