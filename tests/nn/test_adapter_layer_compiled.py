"""torch.compile of whole models: one graph, and what eager mode gives."""

from __future__ import annotations

import contextlib
import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from layers import with_adapter
from tolerances import assert_all_close
from torch import nn
from torch._dynamo import compiled_autograd

from adalora_core import ops
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.nn import wrap_layer

SPEC = AdapterSpec(init_r=3, lora_alpha=6, init_lora_weights=False)
WIDTHS = (5, 9, 7, 4)

# Inductor compiles C++ and takes half a minute; the other backend traces and differentiates alike.
CASES = [
    pytest.param(torch.float32, "aot_eager", id="float32"),
    pytest.param(torch.bfloat16, "aot_eager", id="bfloat16", marks=pytest.mark.nightly),
    # In double precision, since inductor sums a normalisation in another order than eager mode.
    pytest.param(torch.float64, "inductor", id="inductor", marks=pytest.mark.slow),
]


def adapted(n_in: int, n_out: int, dtype: torch.dtype) -> nn.Module:
    base = nn.Linear(n_in, n_out).to(dtype).requires_grad_(requires_grad=False)
    return with_adapter(wrap_layer(base, "layer"), SPEC)


def model_of(dtype: torch.dtype) -> nn.Module:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(WIDTHS):
        layers += [adapted(n_in, n_out, dtype), nn.GELU(), nn.LayerNorm(n_out).to(dtype)]
    return nn.Sequential(*layers)


def penalised_loss(model: Any, x: torch.Tensor) -> torch.Tensor:
    factors = [
        [getattr(layer, name)["default"] for layer in model[::3]] for name in ("lora_A", "lora_B")
    ]
    # Not the mean of squares: a normalisation makes that a constant, whose gradient is rounding.
    loss: torch.Tensor = model(x).double().exp().mean() + ops.orthogonality_penalty(*factors)
    return loss


def results(model: nn.Module, loss_of: Any, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    model.zero_grad()
    loss = loss_of(model, x)
    loss.backward()
    gradients = [each.grad.clone() for each in model.parameters() if each.requires_grad]
    return [loss.detach(), x.grad, *gradients]  # type: ignore[list-item] # backward has run


def errors(found: list[torch.Tensor], exact: list[torch.Tensor]) -> float:
    """Return the largest error of any tensor, in parts of its largest entry."""
    pairs = zip(found, exact, strict=True)
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


@pytest.mark.parametrize(("dtype", "backend"), CASES)
def test_one_graph_of_a_whole_model_equals_eager_forward_and_backward(
    dtype: torch.dtype, backend: str, op_backend: str
) -> None:
    if op_backend == "portable" and dtype == torch.float32:
        dtype = torch.float64  # a compiled graph rounds in another order than its node
    torch._dynamo.reset()
    model = model_of(dtype)
    compiled = torch.compile(penalised_loss, backend=backend, fullgraph=True)
    for rows in (6, 2):
        x = torch.randn(rows, 3, WIDTHS[0]).to(dtype)
        eager, found = results(model, penalised_loss, x), results(model, compiled, x)
        assert len(eager) == 2 + 3 * 3 + 2 * 3
        assert [each.dtype for each in found] == [each.dtype for each in eager]
        if op_backend == "portable" and dtype == torch.bfloat16:
            # Both round in an order of their own: neither is further from the exact numbers.
            exact = results(copy.deepcopy(model).double(), penalised_loss, x.double())
            assert errors(found, exact) <= 1.5 * errors(eager, exact)
        else:
            assert_all_close(found, eager, dtype)


def test_an_exported_program_needs_torch_alone() -> None:
    model = model_of(torch.float64).requires_grad_(requires_grad=False)

    class WithPenalty(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return penalised_loss(model, x)

    x = torch.randn(6, 3, WIDTHS[0], dtype=torch.float64)
    program = torch.export.export(WithPenalty(), (x,))
    called = {str(each.target) for each in program.graph.nodes if each.op == "call_function"}
    assert not [each for each in called if "adalora" in each]
    other = torch.randn_like(x)
    assert_all_close([program.module()(other)], [penalised_loss(model, other)], torch.float64)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's
def test_a_backward_pass_is_compiled_alone() -> None:
    model = model_of(torch.float64)
    x = torch.randn(6, 3, WIDTHS[0], dtype=torch.float64)

    def compiled(model: nn.Module, x: torch.Tensor) -> Any:
        loss = penalised_loss(model, x)
        compiler = torch.compile(backend="aot_eager", fullgraph=True)
        exits.enter_context(compiled_autograd._enable(compiler))
        return loss

    with contextlib.ExitStack() as exits:
        found = results(model, compiled, x)
    assert_all_close(found, results(model, penalised_loss, x), torch.float64)
